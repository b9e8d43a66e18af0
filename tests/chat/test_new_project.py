"""The whole way: a line in a room makes a project in a container, and the room hears what happens in it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest
from tests.chat.conftest import IN_MATRIX, StartPerson
from tests.containers.conftest import PATIENCE, PROJECTS, WITH_ENGINE, engine, engine_host, name
from tests.containers.test_made import in_container
from tests.support.chat_scene import Scene, edits, told
from tests.support.synapse import Synapse

pytestmark = [IN_MATRIX, *WITH_ENGINE]
__all__ = ["engine", "engine_host", "name"]  # fixtures

STORY = ".huskies/work/{stage}/1_story_login.md"


def with_a_key(directory: Path) -> Path:
    """A home directory with an SSH key in it, as who runs a gateway has one."""
    (directory / "home" / ".ssh").mkdir(parents=True)
    path = directory / "home" / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", path], check=True)
    return directory / "home"


async def until_in(stage: str, session: aiohttp.ClientSession, url: str, project: str) -> float:
    """Seconds until the gateway shows the story there."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while await stages(session, url, project) != {"1_story_login": stage}:  # noqa: ASYNC110 - as users do
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def stages(session: aiohttp.ClientSession, url: str, project: str) -> dict[str, Any]:
    async with session.get(f"{url}/gateway/projects") as answer:
        projects = {each["name"]: each for each in (await answer.json())["projects"]}
    return {story["story_id"]: story["stage"] for story in projects[project]["stories"]}


async def test_a_line_in_a_room_makes_a_project_that_reports_there(  # noqa: PLR0917 - fixtures
    synapse: Synapse,
    person: StartPerson,
    scene: Scene,
    engine: docker.APIClient,
    engine_host: str,
    name: str,
    tmp_path: Path,
) -> None:
    ann = await person()
    username = f"maker-{tmp_path.name[-12:].replace('_', '-')}"
    bot = await asyncio.to_thread(synapse.register, username)
    room = await ann.create_room(bot)
    scene.set_up(synapse.url, username, room, ann.user_id, PROJECTS)
    await asyncio.to_thread(scene.start, DOCKER_HOST=engine_host, HOME=str(with_a_key(tmp_path)))
    await ann.until_joined(room, bot)
    await ann.say(room, f"!new project {name}")
    # One message, which is edited as it goes on.
    await ann.until(lambda: any("its sled is connected" in event.body for event in ann.heard(room, bot)))
    assert len(told(ann, room, bot)) == 1
    end = edits(ann.heard(room, bot))[-1].source["content"]["m.new_content"]["body"]
    assert "URL: http://127.0.0.1:" in end
    assert "log in: ssh -p " in end
    assert engine.inspect_container(f"huskies-{name}")["State"]["Running"]

    async with aiohttp.ClientSession() as session:
        await in_container(engine, name, f"echo '# Login' > {STORY.format(stage='1_backlog')}")
        await until_in("1_backlog", session, scene.url, name)
        before, after = STORY.format(stage="1_backlog"), STORY.format(stage="2_current")
        await in_container(engine, name, f"mv {before} {after}")
        assert await until_in("2_current", session, scene.url, name) < 1.0
    # Blocked, it is one message in the room; and one that is changed when it goes on.
    await in_container(engine, name, f"printf -- '---\\nblocked: needs a key\\n---\\n# Login\\n' > {after}")
    await ann.until(lambda: len(told(ann, room, bot)) == 2)
    assert "needs a key" in told(ann, room, bot)[1]
    changes = len(edits(ann.heard(room, bot)))
    await in_container(engine, name, f"echo '# Login' > {after}")
    await ann.until(lambda: len(edits(ann.heard(room, bot))) == changes + 1)
    # It is taken away again by who asked for it, once they say so.
    await ann.say(room, f"!remove project {name}")
    await ann.until(lambda: len(told(ann, room, bot)) == 3)
    await ann.say(room, "yes")
    await ann.until(lambda: len(told(ann, room, bot)) == 4)
    with pytest.raises(docker.errors.NotFound):
        engine.inspect_container(f"huskies-{name}")
    assert (scene.data_dir / "projects" / name / ".huskies").is_dir()
