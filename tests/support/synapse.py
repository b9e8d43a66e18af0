"""A real Matrix homeserver on loopback, and people who use it."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

PYTHON: Final = Path(__file__).resolve().parents[2] / ".venv-homeserver" / "bin" / "python"
NAME: Final = "hs.test"
PASSWORD: Final = "correct horse battery"
_PATIENCE: Final = 60.0
_SECRET: Final = "for tests alone"
_FAST: Final = {"per_second": 10_000, "burst_count": 10_000}
_SETTINGS: Final[dict[str, Any]] = {
    "server_name": NAME,
    "report_stats": False,
    "trusted_key_servers": [],
    "suppress_key_server_warning": True,
    "registration_shared_secret": _SECRET,
    "enable_registration": False,
    "presence": {"enabled": False},
    # The passwords here need no protection, and hashing them takes a second.
    "bcrypt_rounds": 4,
    "rc_message": _FAST,
    "rc_registration": _FAST,
    "rc_login": {"address": _FAST, "account": _FAST, "failed_attempts": _FAST},
    "rc_joins": {"local": _FAST, "remote": _FAST},
    "rc_invites": {"per_room": _FAST, "per_user": _FAST, "per_issuer": _FAST},
}


def installed() -> bool:
    """Whether this checkout has one."""
    return PYTHON.exists()


class Synapse:
    """One that keeps its port and its data when it is started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._config = directory / "homeserver.yaml"
        # Bound, not listening: the kernel picks the port for nobody else, and the homeserver may bind it.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = int(self._reserved.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._lay_out()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "synapse.app.homeserver", "-c", self._config],
                cwd=self._directory,
                stdout=output,
                stderr=output,
            )
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5):
                    return
            except OSError:
                said = (self._directory / "output").read_text("utf-8", "replace")
                assert self._process.poll() is None, said
                assert time.monotonic() < end, said
                time.sleep(0.05)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it at once."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(_PATIENCE)

    def close(self) -> None:
        """End it for good."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._reserved.close()

    def register(self, local_part: str, *, admin: bool = False) -> str:
        """A new account with the password of all; says its whole id."""
        path = f"{self.url}/_synapse/admin/v1/register"
        with urllib.request.urlopen(path, timeout=_PATIENCE) as answer:
            nonce = json.load(answer)["nonce"]
        parts = (nonce, local_part, PASSWORD, "admin" if admin else "notadmin")
        mac = hmac.new(_SECRET.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": local_part, "password": PASSWORD, "admin": admin, "mac": mac}
        request = urllib.request.Request(path, json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return str(json.load(answer)["user_id"])

    def _lay_out(self) -> None:
        listener = {
            "port": self.port,
            "type": "http",
            "bind_addresses": ["127.0.0.1"],
            "resources": [{"names": ["client"]}],
        }
        settings = {
            **_SETTINGS,
            "listeners": [listener],
            "database": {"name": "sqlite3", "args": {"database": str(self._directory / "homeserver.db")}},
            "media_store_path": str(self._directory / "media"),
            "signing_key_path": str(self._directory / "signing.key"),
            "pid_file": str(self._directory / "pid"),
        }
        # JSON is YAML, too.
        self._config.write_text(json.dumps(settings))
        subprocess.run(
            [PYTHON, "-m", "synapse.app.homeserver", "-c", self._config, "--generate-keys"],
            cwd=self._directory,
            check=True,
            capture_output=True,
            timeout=_PATIENCE,
        )


@contextmanager
def running(directory: Path) -> Iterator[Synapse]:
    """One that ends with the block."""
    synapse = Synapse(directory)
    try:
        yield synapse
    finally:
        synapse.close()
