"""Asking the gateway."""

from __future__ import annotations

import pytest

from huskies.chat.gateway import GatewayClient
from huskies.errors import ConfigError, GatewayUnreachableError
from huskies.tls import Trust


async def test_a_certificate_that_is_half_written_is_a_gateway_that_does_not_answer() -> None:
    def trust() -> Trust:
        raise ConfigError("chain.pem", "expected a certificate in PEM")

    client = GatewayClient("https://127.0.0.1:1", trust=trust)
    with pytest.raises(GatewayUnreachableError, match=r"chain\.pem"):
        await client.projects()
    await client.close()
