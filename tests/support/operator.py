"""Someone at the gateway's machine."""

from __future__ import annotations

from pathlib import Path

from huskies.gateway.access import audit, tokens
from huskies.gateway.access.audit import Entry
from huskies.gateway.access.file import AccessFile


class Operator:
    """Someone at the gateway's machine, who runs `huskies token`."""

    def __init__(self, directory: Path) -> None:
        self.directory = self._directory = directory

    def make(self, name: str, *scopes: str, expires_ms: int | None = None) -> str:
        file = AccessFile(self._directory)
        _, secret = tokens.create(
            file, name=name, scopes=scopes, created_by="ann", now_ms=0, expires_ms=expires_ms
        )
        file.close()
        return secret

    def revoke(self, name: str) -> None:
        file = AccessFile(self._directory)
        tokens.revoke(file, name, now_ms=1)
        file.close()

    def enrol(self, project: str, sled_id: str, state: str = "active") -> None:
        file = AccessFile(self._directory)
        with file.transaction() as db:
            db.execute(
                "INSERT INTO sleds VALUES (?, ?, ?, 0, 'i', NULL) ON CONFLICT DO UPDATE SET state = ?",
                (sled_id, project, state, state),
            )
        file.close()

    def entries(self) -> list[Entry]:
        file = AccessFile(self._directory)
        found = audit.newest(file, 1_000)
        file.close()
        return found

    def last_used(self) -> dict[str, int | None]:
        file = AccessFile(self._directory)
        found = {token.name: token.last_used_ms for token in tokens.all_tokens(file)}
        file.close()
        return found
