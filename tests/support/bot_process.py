"""The bot as a process of its own, which a test can kill: `python -m tests.support.bot_process DIR URL`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from huskies import logs
from huskies.chat.bot import Bot
from huskies.chat.gateway import GatewayClient
from huskies.chat.settings import load_bot
from huskies.cli import runtime

ROOT: Final = Path(__file__).resolve().parents[2]


class NoMutes:
    """Nothing is ever muted."""

    async def mute(self, project: str, until_ms: int) -> None:
        del project, until_ms

    async def unmute(self, project: str) -> bool:
        del project
        return False

    async def muted(self) -> dict[str, int]:
        return {}


class BotProcess:
    """A bot that can be killed and started again; its log is a file."""

    def __init__(self, data_dir: Path, gateway_url: str, password: str) -> None:
        self.data_dir = data_dir
        self._command = [sys.executable, "-m", "tests.support.bot_process", str(data_dir), gateway_url]
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "HUSKIES_MATRIX_PASSWORD": password,
        }
        self.log = data_dir / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=ROOT, stdout=output, stderr=output
            )

    def kill(self) -> None:
        """As the power would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)

    def end(self) -> int:
        """As whoever runs it would; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()


def _run(data_dir: Path, gateway_url: str) -> None:
    settings = load_bot(data_dir, os.environ)

    async def launch(services: runtime.Services) -> None:
        gateway = GatewayClient(gateway_url)
        await services.start(Bot(settings, gateway=gateway, mutes=NoMutes(), data_dir=data_dir))

    runtime.run(launch)


if __name__ == "__main__":
    logs.set_up()
    _run(Path(sys.argv[1]), sys.argv[2])
