"""The gateway that a sled was enrolled with: no other one is taken for it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from huskies.protocol import wire


class Pinned(msgspec.Struct, frozen=True):
    """The gateway that this sled was enrolled with at a URL; None: with none there.

    `known` are all that it was enrolled with. `verify` checks signatures.
    """

    gateway_id: str | None
    known: frozenset[str]
    verify: Callable[[str, bytes, bytes], bool]

    def problem_with(self, challenge: wire.Challenge, project: str) -> str | None:
        """Why a challenge is not that gateway's; None where it is."""
        if self.gateway_id is None:
            # Whoever passes its challenge on would be the sled there.
            is_elsewhere = challenge.gateway_id.lower() in self.known
            return "the sled was enrolled with this gateway at another URL" if is_elsewhere else None
        if challenge.gateway_id.lower() != self.gateway_id:
            return (
                f"this is another gateway ({challenge.gateway_id[:16]}) than the one that the sled was "
                f"enrolled with ({self.gateway_id[:16]}); join again if that is meant (--join)"
            )
        text = wire.challenge_text(gateway_id=challenge.gateway_id, nonce=challenge.nonce, project=project)
        signature = bytes.fromhex(challenge.signature or "")
        if not self.verify(self.gateway_id, signature, text):
            return "the gateway does not prove that it is the one that the sled was enrolled with"
        return None
