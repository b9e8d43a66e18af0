"""What of bringing a project up needs no engine: threads that are waited for, git, directories, ports."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from huskies.containers import repository
from huskies.containers.errors import NameTakenError, ProjectError
from huskies.containers.launch import free_ports
from huskies.containers.repository import CloneError
from huskies.containers.threads import in_thread
from huskies.containers.undo import Undo

PATIENCE = 20.0


async def test_a_blocking_call_that_is_given_up_is_waited_for() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        may_end.wait(PATIENCE)
        ended.set()

    task = asyncio.create_task(in_thread(block, give_up=may_end.set))
    await asyncio.to_thread(began.wait, PATIENCE)
    task.cancel()
    # However often: what it makes must be known to be there.
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_a_blocking_call_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await in_thread(fail)
    assert await in_thread(lambda: 3) == 3


@pytest.fixture
async def silent() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A server that takes connections and says nothing; and whether there was one, and it ended."""
    gone, under_way = asyncio.Event(), set[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        under_way.add(writer)
        with suppress(ConnectionError):
            while await reader.read(1_024):
                pass
        gone.set()
        writer.close()
        under_way.remove(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x.git", gone
    server.close()
    await server.wait_closed()
    # Before Python 3.12 that waits for no connection; one that outlives the event loop fails a later test.
    async with asyncio.timeout(PATIENCE):
        while under_way:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def test_a_clone_that_is_given_up_ends_and_leaves_nothing(
    tmp_path: Path, silent: tuple[str, asyncio.Event]
) -> None:
    url, _ = silent
    undo, directory = Undo(), tmp_path / "projects" / "shop"
    task = asyncio.create_task(repository.prepare(directory, url, undo))
    async with asyncio.timeout(PATIENCE):
        while not directory.exists():  # noqa: ASYNC110 - git says nothing of it
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await undo.run() == ()
    assert not directory.exists()


async def test_a_clone_that_takes_too_long(
    tmp_path: Path, silent: tuple[str, asyncio.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, gone = silent
    monkeypatch.setattr(repository, "CLONE_LIMIT", 1.0)
    with pytest.raises(CloneError, match="git clone was not done within 1 s"):
        await repository.prepare(tmp_path / "shop", url, Undo())
    # git's helper, which holds the connection, has ended, too.
    async with asyncio.timeout(PATIENCE):
        await gone.wait()


async def test_a_repository_that_is_begun(tmp_path: Path) -> None:
    undo, directory = Undo(), tmp_path / "projects" / "shop"
    await repository.prepare(directory, None, undo)
    assert (directory / ".git/HEAD").read_text() == "ref: refs/heads/main\n"
    assert (directory / ".huskies/project.toml").exists()
    assert (directory / ".huskies/work/6_archived").is_dir()
    if os.getuid() == 0:
        owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in directory.rglob("*")}
        assert owners == {(1000, 1000)}
    assert await undo.run() == ()
    assert not directory.exists()


async def test_what_is_there_already_is_taken_as_it_is(tmp_path: Path) -> None:
    undo = Undo()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/mine").touch()
    await repository.prepare(tmp_path / "shop", None, undo)
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["mine"]
    with pytest.raises(NameTakenError, match="is there and not empty"):
        await repository.prepare(tmp_path / "shop", "https://git.example/x", undo)
    assert await undo.run() == ()
    assert (tmp_path / "shop/mine").exists()
    # A link that someone put there leads nowhere.
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    await repository.prepare(tmp_path / "link", None, undo)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProjectError, match=r"file.*: cannot be made: "):
        await repository.prepare(tmp_path / "file" / "shop", None, Undo())


def test_free_ports_are_two_and_free() -> None:
    ports = free_ports("127.0.0.1")
    assert ports.sled != ports.ssh
    for port in (ports.sled, ports.ssh):
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))
    # RFC 5737 gives this address to nobody.
    with pytest.raises(ProjectError, match=r"no port can be published on 192\.0\.2\.77"):
        free_ports("192.0.2.77")
