"""`POST /gateway/sleds`: a sled comes with an invitation, and its key is known from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from huskies import limits
from huskies.events.words import problem_in_words
from huskies.gateway.access import sleds
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.gate import Gate
from huskies.gateway.access.sleds import EnrolledSled, EnrolmentRefusedError, Invite
from huskies.gateway.admission import RefusedError
from huskies.httpd import error_response, json_response
from huskies.protocol import enrolment
from huskies.protocol.enrolment import ENROL_PATH, Enrolled, Enrolment
from huskies.signing import is_signed

_REFUSED: Final = 403
_UNPROCESSABLE: Final = 422
_shape = msgspec.json.Decoder(Enrolment)


class Enrolling:
    """The handler. `writer` is `access.db` for one thread at a time, which `lock` keeps."""

    def __init__(
        self, gate: Gate, writer: AccessFile, lock: asyncio.Lock, *, gateway_id: Callable[[], str]
    ) -> None:
        self._gate = gate
        self._writer = writer
        self._lock = lock
        self._gateway_id = gateway_id

    def routes(self) -> list[web.RouteDef]:
        """What is served where."""
        return [web.post(ENROL_PATH, self.enrol)]

    async def enrol(self, request: web.Request) -> web.Response:
        """Redeem an invitation."""
        try:
            async with asyncio.timeout(limits.BODY_LIMIT):
                body = await request.read()
            wanted = _shape.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return error_response(_UNPROCESSABLE, f"the body is no enrolment: {problem_in_words(error)}")
        text = enrolment.sled_text(wanted.invite, wanted.project, wanted.sled_id, wanted.nonce)
        if not is_signed(wanted.sled_id.lower(), bytes.fromhex(wanted.signature), text):
            return self._refused(request, "the signature does not match the sled_id")
        try:
            async with self._lock:
                invite, sled = await asyncio.to_thread(self._enrol, wanted)
        except EnrolmentRefusedError as error:
            return self._refused(request, str(error))
        self._gate.guard.refresh()
        who = f"invitation {invite.id} of {invite.created_by}"
        self._gate.note(request, f"sled {sled.state}", f"{sled.project} {sled.sled_id[:16]}", who=who)
        return json_response(self._answer(wanted, invite, sled))

    def _enrol(self, wanted: Enrolment) -> tuple[Invite, EnrolledSled]:
        return sleds.enrol(self._writer, wanted, now_ms=self._gate.now_ms())

    def _answer(self, wanted: Enrolment, invite: Invite, sled: EnrolledSled) -> Enrolled:
        own = self._gateway_id()
        text = enrolment.gateway_text(wanted, own, sled.project, sled.state)
        return Enrolled(
            gateway_id=own,
            project=sled.project,
            state=sled.state,
            proof=enrolment.prove(invite.hash, text),
        )

    def _refused(self, request: web.Request, problem: str) -> web.Response:
        refusal = self._gate.failed(request)
        if refusal.status == 401:  # noqa: PLR2004 - HTTP's own number
            refusal = RefusedError(_REFUSED, problem)
        self._gate.say_refused(request, refusal)
        return error_response(refusal.status, refusal.problem)
