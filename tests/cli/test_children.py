"""A process that a gateway runs beside itself, started again where it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from huskies.cli import children
from huskies.cli.children import Child

PATIENCE = 30.0
SETTINGS = '[channels.ops]\nwebhook = "https://a.example"\nsecret_file = "ops.secret"\n'


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - what is waited for is in a log
            await asyncio.sleep(0.01)


@pytest.fixture
async def child(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Child]:
    """One that can never use its settings."""
    caplog.set_level(logging.INFO, "huskies.children")
    (tmp_path / "notify.toml").write_text(SETTINGS)
    (tmp_path / "ops.secret").write_text("")
    one = Child("chat", ["chat", "--data-dir", str(tmp_path)], {}, [tmp_path / "notify.toml"])
    yield one
    await one.stop()


def starts(caplog: pytest.LogCaptureFixture) -> int:
    return caplog.messages.count("chat is started")


async def test_one_that_cannot_use_its_settings_is_started_again_in_a_while(
    child: Child, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_LOOK_AGAIN", 0.01)
    monkeypatch.setattr(children, "_TRY_AGAIN", 0.05)
    await child.start()
    await until(lambda: starts(caplog) >= 3)
    assert "it is started again once they change, and every" in caplog.text


async def test_a_secret_that_its_settings_name_is_a_change_of_them(
    child: Child, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(children, "_LOOK_AGAIN", 0.01)
    await child.start()
    await until(lambda: "cannot use its settings" in caplog.text)
    assert starts(caplog) == 1
    (tmp_path / "ops.secret").write_text("whsec_x")
    await until(lambda: starts(caplog) >= 2)


@pytest.mark.parametrize("text", ["", "[", "\xff", 'password_file = 1\n[[rules]]\nchannels = ["a"]\n'])
async def test_settings_of_any_kind_name_what_they_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(text, "latin-1")
    assert children._named_in(path) == []
    assert children._named_in(tmp_path / "none") == []
    path.write_text('password_file = "p"\n' + SETTINGS)
    assert children._named_in(path) == [tmp_path / "p", tmp_path / "ops.secret"]
