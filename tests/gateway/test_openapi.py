"""Requests that schemathesis makes of our OpenAPI document, to a real gateway, with a token and without."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.support.relay_client import blocked, push

from huskies import limits
from huskies.config import GatewaySettings
from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile
from huskies.gateway.openapi import document
from huskies.gateway.server import Gateway

EXAMPLES = 25
PATIENCE = 10.0
PROJECTS = """
[projects.web]
open = true
[sled_tokens]
web-shop = "token-of-the-shop"
"""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CHECKS_INSIDE = [unsupported_method, negative_data_rejection]
# Nothing is left out; but the stream and the WebSockets are asked for as any endpoint, and answer with a page
# and 426: what is endless cannot be judged. `test_stream.py` and `test_push.py` read that.
SCHEMA = schemathesis.openapi.from_dict(document())


class Served:
    """A gateway in a thread of its own: schemathesis waits for each answer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.url = ""

    async def run(self) -> None:
        gateway = Gateway(GatewaySettings(port=0, data_dir=self._directory))
        await gateway.start()
        self._loop, self._end, self.url = asyncio.get_running_loop(), asyncio.Event(), gateway.url
        await push(gateway.url, "web", blocked("one"), blocked("two"))
        self._ready.set()
        await self._end.wait()
        await gateway.stop()

    def wait(self) -> None:
        assert self._ready.wait(PATIENCE)

    def end(self) -> None:
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The gateway's URL, and tokens by who has them; whoever shows none, or a wrong one, is refused."""
    directory = tmp_path_factory.mktemp("gw")
    (directory / "projects.toml").write_text(PROJECTS)
    (directory / "projects.toml").chmod(0o600)
    file = AccessFile(directory)
    secrets = {
        who: tokens.create(file, name=who, scopes=(scope,), created_by="ann", now_ms=0)[1]
        for who, scope in (("a reader", "read"), ("an admin", "admin"))
    }
    file.close()
    with (
        # Hundreds of wrong tokens come from one address here, and are all to be judged.
        mock.patch.object(limits, "FAILED_LOGIN_DELAY", 0.0),
        mock.patch.object(limits, "FAILED_LOGINS_MAX", 1 << 30),
        # Whatever is asked for, no container comes of it.
        mock.patch.dict(os.environ, DOCKER_HOST="unix:///nowhere/d.sock"),
    ):
        gateway = Served(directory)
        thread = threading.Thread(target=lambda: asyncio.run(gateway.run()))
        thread.start()
        try:
            gateway.wait()
            yield gateway.url, secrets
        finally:
            gateway.end()
            thread.join(PATIENCE)


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("asks", ["a reader", "an admin", "nobody"])
def test_every_answer_is_one_that_the_document_names(
    case: schemathesis.Case[Any], served: tuple[str, dict[str, str]], asks: str
) -> None:
    url, secrets = served
    headers = {"Authorization": f"Bearer {secrets[asks]}"} if asks in secrets else {}
    answer = case.call(base_url=url, headers=headers, timeout=PATIENCE, allow_redirects=False)
    # There is none here, which is no fault of the gateway's.
    is_without_engine = answer.status_code == 503 and "no container engine answers" in answer.text
    excluded = [not_a_server_error] if is_without_engine else []
    # Who may not come in is not told which methods there are.
    checks = CHECKS if asks == "nobody" else [*CHECKS, *CHECKS_INSIDE]
    case.validate_response(answer, checks=[each for each in checks if each not in excluded])
