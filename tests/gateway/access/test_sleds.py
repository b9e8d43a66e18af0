"""A sled is enrolled by an invitation, once; a second one for a project needs an operator's word."""

from __future__ import annotations

import pytest
from tests.support.relay_client import new_key, sled_id_of

from huskies.errors import HuskiesError
from huskies.gateway.access import sleds
from huskies.gateway.access.file import AccessFile
from huskies.gateway.access.sleds import EnrolmentRefusedError
from huskies.protocol import enrolment
from huskies.protocol.enrolment import Enrolment

NONCE = "0f" * 32


def invite(file: AccessFile, project: str = "web-shop", *, adds: bool = False) -> str:
    return sleds.invite(file, project, created_by="ann", now_ms=1_000, lifetime_ms=500, adds=adds)


def request(code: str, sled_id: str | None = None, project: str = "web-shop") -> Enrolment:
    parsed = enrolment.parse_code(code)
    assert parsed is not None
    sled_id = sled_id or sled_id_of(new_key())
    text = enrolment.sled_text(parsed.id, project, sled_id, NONCE)
    return Enrolment(
        invite=parsed.id,
        project=project,
        sled_id=sled_id,
        nonce=NONCE,
        proof=enrolment.prove(parsed.key, text),
        signature="0" * 128,
    )


def test_the_first_sled_of_a_project_is_let_in(file: AccessFile) -> None:
    wanted = request(invite(file))
    found, sled = sleds.enrol(file, wanted, now_ms=1_499)
    assert (found.project, found.created_by) == ("web-shop", "ann")
    assert (sled.sled_id, sled.project, sled.state) == (wanted.sled_id, "web-shop", "active")
    assert sleds.all_sleds(file) == [sled]


def test_of_the_code_only_the_key_is_kept(file: AccessFile) -> None:
    code = invite(file)
    # A secret may hold, and end with, what stands between the parts.
    secret = code.split("-", 3)[3]
    assert len(secret) >= 32
    assert secret.encode() not in file.path.read_bytes()


def test_an_invitation_holds_once_and_not_for_long(file: AccessFile) -> None:
    code = invite(file)
    with pytest.raises(EnrolmentRefusedError, match="was used or has expired"):
        sleds.enrol(file, request(code), now_ms=1_500)
    sleds.enrol(file, request(code), now_ms=1_200)
    with pytest.raises(EnrolmentRefusedError, match="was used or has expired"):
        sleds.enrol(file, request(code), now_ms=1_200)


def test_who_does_not_know_the_secret_is_told_nothing(file: AccessFile) -> None:
    good = request(invite(file))
    for wrong in (
        request("husky-invite-00000000-" + "x" * 32),
        _changed(good, "proof"),
        _changed(good, "nonce"),
    ):
        with pytest.raises(EnrolmentRefusedError, match="is not one of this gateway's"):
            sleds.enrol(file, wrong, now_ms=1_000)
    # The proof is of this sled's key alone.
    stolen = Enrolment(
        invite=good.invite,
        project=good.project,
        sled_id=sled_id_of(new_key()),
        nonce=good.nonce,
        proof=good.proof,
        signature=good.signature,
    )
    with pytest.raises(EnrolmentRefusedError, match="is not one of this gateway's"):
        sleds.enrol(file, stolen, now_ms=1_000)


def _changed(good: Enrolment, field: str) -> Enrolment:
    values = {name: getattr(good, name) for name in Enrolment.__struct_fields__}
    return Enrolment(**{**values, field: "1" * 64})


def test_a_second_sled_waits_for_a_word_unless_it_was_invited_as_such(file: AccessFile) -> None:
    sleds.enrol(file, request(invite(file)), now_ms=1_000)
    _, second = sleds.enrol(file, request(invite(file)), now_ms=1_000)
    _, third = sleds.enrol(file, request(invite(file, adds=True)), now_ms=1_000)
    _, other = sleds.enrol(file, request(invite(file, "blog"), project="blog"), now_ms=1_000)
    assert (second.state, third.state, other.state) == ("pending", "active", "active")
    assert sleds.approve(file, second.sled_id[:12]).state == "active"
    assert sleds.revoke(file, second.sled_id.upper()).state == "revoked"
    states = {sled.sled_id: sled.state for sled in sleds.all_sleds(file)}
    assert states[second.sled_id] == "revoked"


def test_a_sled_that_comes_again_is_told_how_it_stands(file: AccessFile) -> None:
    """Its answer was lost, say, or it lost what it had pinned."""
    sled_id, code = sled_id_of(new_key()), invite(file)
    _, first = sleds.enrol(file, request(code, sled_id), now_ms=1_000)
    assert sleds.enrol(file, request(code, sled_id), now_ms=1_400)[1] == first
    another = invite(file)
    assert sleds.enrol(file, request(another, sled_id), now_ms=1_000)[1] == first
    with pytest.raises(EnrolmentRefusedError, match="was used or has expired"):
        sleds.enrol(file, request(another), now_ms=1_000)
    sleds.revoke(file, sled_id)
    assert sleds.enrol(file, request(code, sled_id), now_ms=1_400)[1].state == "revoked"
    assert len(sleds.all_sleds(file)) == 1


def test_a_sled_is_enrolled_for_one_project(file: AccessFile) -> None:
    sled_id = sled_id_of(new_key())
    sleds.enrol(file, request(invite(file), sled_id), now_ms=1_000)
    with pytest.raises(EnrolmentRefusedError, match="this sled is enrolled for project web-shop"):
        sleds.enrol(file, request(invite(file, "blog"), sled_id, "blog"), now_ms=1_000)


def test_an_invitation_for_another_project_is_not_used_up(file: AccessFile) -> None:
    code = invite(file)
    with pytest.raises(EnrolmentRefusedError, match="is for project web-shop, and this one is blog"):
        sleds.enrol(file, request(code, project="blog"), now_ms=1_000)
    assert sleds.enrol(file, request(code), now_ms=1_000)[1].state == "active"


@pytest.mark.parametrize("key", ["", "zz", "00" * 32])
def test_a_key_that_is_nobodys_is_refused(file: AccessFile, key: str) -> None:
    sleds.enrol(file, request(invite(file)), now_ms=1_000)
    with pytest.raises(HuskiesError, match="no sled has an id that begins with"):
        sleds.revoke(file, key)


def test_two_that_begin_alike_are_not_confused(file: AccessFile) -> None:
    for last in "ab":
        sleds.enrol(file, request(invite(file, last), "a" * 63 + last, last), now_ms=1_000)
    with pytest.raises(HuskiesError, match="more than one sled has an id that begins with aaa"):
        sleds.revoke(file, "aaa")


@pytest.mark.parametrize(
    "text",
    ["", "husky-invite-", "husky-invite-0000000-" + "x" * 32, "husky-invite-00000000-short", "invite"],
)
def test_a_text_that_is_no_invitation_is_known_as_such(text: str) -> None:
    assert enrolment.parse_code(text) is None


def test_a_code_may_have_been_pasted_with_its_line(file: AccessFile) -> None:
    code = invite(file)
    assert enrolment.parse_code(f"  {code}\n") == enrolment.parse_code(code)


def test_the_gateway_proves_what_it_says(file: AccessFile) -> None:
    code = invite(file)
    parsed = enrolment.parse_code(code)
    assert parsed is not None
    wanted = request(code)
    text = enrolment.gateway_text(wanted, "ab" * 32, "web-shop", "active")
    proof = enrolment.prove(parsed.key, text)
    assert enrolment.is_proof(parsed.key, text, proof)
    for other in (
        enrolment.gateway_text(wanted, "ac" * 32, "web-shop", "active"),
        enrolment.gateway_text(wanted, "ab" * 32, "blog", "active"),
        enrolment.gateway_text(wanted, "ab" * 32, "web-shop", "pending"),
    ):
        assert not enrolment.is_proof(parsed.key, other, proof)
    # What the sled proved is not what the gateway has to prove.
    assert wanted.proof != proof
