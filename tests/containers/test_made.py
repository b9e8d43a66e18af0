"""A project is made, worked in and taken down: a real gateway, a real engine, a real sled and SSH."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from tests.containers.conftest import PATIENCE, PROJECTS, WITH_ENGINE, Asker
from tests.gateway.conftest import StartGateway, stop
from tests.support.operator import Operator

from huskies.gateway.access import audit
from huskies.gateway.server import Gateway

pytestmark = WITH_ENGINE


async def until(holds: Callable[[], object], patience: float = PATIENCE) -> float:
    """Seconds until a condition holds."""
    began = time.monotonic()
    async with asyncio.timeout(patience):
        while not holds():  # noqa: ASYNC110 - what is waited for says nothing
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def stories(gateway: Gateway, name: str) -> dict[str, str | None]:
    found = next(view for view in gateway.project_views() if view.name == name)
    return {story.story_id: story.stage for story in found.stories}


async def in_container(engine: docker.APIClient, name: str, script: str) -> str:
    def run() -> str:
        made = engine.exec_create(f"huskies-{name}", ["bash", "-ec", script])
        output = bytes(engine.exec_start(made["Id"])).decode()
        assert engine.exec_inspect(made["Id"])["ExitCode"] == 0, output
        return output

    return await asyncio.to_thread(run)


async def ssh(line: str, key: Path, script: str) -> str:
    words = line.split()
    options = ("-i", str(key), "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=no", "-oLogLevel=ERROR")
    known = f"-oUserKnownHostsFile={key.parent / 'known'}"
    process = await asyncio.create_subprocess_exec(
        words[0],
        *options,
        known,
        *words[1:],
        script,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


async def test_a_project_is_made_and_a_story_moved_in_it_is_seen(  # noqa: PLR0917 - fixtures
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, key: Path, tmp_path: Path
) -> None:
    public = key.with_suffix(".pub").read_text()
    made = await asker.result(gateway, name, ssh_key=public, git_name="Ann", git_email="ann@team.example")
    assert asker.steps == ["engine", "directory", "image", "container", "sled"]
    assert made["container"] == f"huskies-{name}"
    # It is listed, and what someone wrote there stays.
    text = (tmp_path / "gw" / "projects.toml").read_text()
    assert text.startswith("# kept as it is\n")
    entry = gateway.policy().projects[name]
    assert (entry.url, entry.container, entry.directory) == (
        made["url"],
        made["container"],
        made["directory"],
    )
    assert gateway.sessions.state(name).connected
    assert stat.S_IMODE(os.stat(made["directory"]).st_mode) == 0o700  # noqa: PTH116 - once
    # Someone works in it, as who owns the directory, with the identity that was given.
    output = await ssh(
        made["ssh"], key, "pwd; id -un; git config user.name; git config user.email; huskies --version"
    )
    assert output.split("\n")[:4] == ["/work", "dev", "Ann", "ann@team.example"]
    await ssh(made["ssh"], key, "echo '# Login' > .huskies/work/1_backlog/1_story_login.md")
    await until(lambda: stories(gateway, name) == {"1_story_login": "1_backlog"})
    await ssh(made["ssh"], key, "mv .huskies/work/1_backlog/1_story_login.md .huskies/work/2_current/")
    assert await until(lambda: stories(gateway, name) == {"1_story_login": "2_current"}) < 1.0
    assert (Path(made["directory"]) / ".huskies/work/2_current/1_story_login.md").exists()
    # The sled's own port is published, for this machine alone.
    _, listed = await asker.ask("GET", gateway, "/gateway/containers")
    [row] = [row for row in listed["containers"] if row["name"] == name]
    assert row["state"] == "running"
    assert {key: row[key] for key in ("container", "directory", "url", "ssh")}.items() < made.items()
    async with asker.session.get(f"{made['url']}/healthz") as answer:
        assert (await answer.json())["name"] == name
    for place in engine.inspect_container(f"huskies-{name}")["NetworkSettings"]["Ports"].values():
        assert [each["HostIp"] for each in place] == ["127.0.0.1"]


async def test_it_has_no_power_over_the_machine(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    made = await asker.result(gateway, name, memory="512m", cpus=0.5, stack="python")
    output = await in_container(engine, name, "python3 -m pip --version; huskies-health && echo healthy")
    assert output.startswith("pip ")
    assert output.endswith("healthy\n")
    found = engine.inspect_container(made["container"])
    host = found["HostConfig"]
    assert (host["Privileged"], host["CapDrop"], host["CapAdd"]) == (False, ["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (512 << 20, 500_000_000, 4_096)
    assert [mount["Source"] for mount in found["Mounts"]] == [made["directory"]]
    script = (
        "exec 2>&1; id -u; grep -hE 'CapBnd|NoNewPrivs' /proc/self/status; ls /var/run/docker.sock || true"
    )
    output = await in_container(engine, name, script)
    assert output.split()[0] == "1000"
    assert {"CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} < set(output.splitlines())
    assert "No such file" in output
    # Whoever reads the log learns no secret.
    environment = dict(line.split("=", 1) for line in found["Config"]["Env"])
    secret = environment["HUSKIES_SLED_TOKEN"]
    assert secret.startswith("husky_")
    assert secret not in caplog.text
    assert secret not in bytes(engine.logs(made["container"])).decode()


async def test_another_gateway_s_container_is_not_listed_and_not_removed(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, start_gateway: StartGateway, name: str
) -> None:
    await asker.result(gateway, name)
    another = await start_gateway(name="another", projects=PROJECTS)
    assert (await asker.ask("GET", another, "/gateway/containers"))[1] == {"containers": []}
    for method, below in (("DELETE", ""), ("POST", "/stop"), ("POST", "/start"), ("GET", "/logs")):
        assert (await asker.ask(method, another, f"/gateway/projects/{name}{below}"))[0] == 404
    status, body = await asker.ask("POST", another, "/gateway/projects", json={"name": name})
    assert status == 409
    assert body["error"] == f"there is a container huskies-{name} already: take another name"
    assert engine.inspect_container(f"huskies-{name}")["State"]["Running"]
    assert gateway.sessions.state(name).connected


async def test_what_is_killed_comes_back_with_nothing_lost(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    made = await asker.result(gateway, name)
    # A key that may log in is the gateway's own user's, or there is none.
    assert made["ssh"] is None or made["ssh"].startswith("ssh -p ")
    work = Path(made["directory"]) / ".huskies/work"
    (work / "1_backlog/1_story_x.md").write_text("# X\n")
    await until(lambda: stories(gateway, name) == {"1_story_x": "1_backlog"})
    # Its first process dies, as when there is no memory left: the engine starts it again.
    os.kill(engine.inspect_container(made["container"])["State"]["Pid"], signal.SIGKILL)
    (work / "1_backlog/1_story_x.md").rename(work / "2_current/1_story_x.md")
    await until(lambda: stories(gateway, name) == {"1_story_x": "2_current"})
    assert engine.inspect_container(made["container"])["RestartCount"] == 1
    # `docker kill` is meant: it stays away until it is started.
    engine.kill(made["container"])
    (work / "2_current/1_story_x.md").rename(work / "3_qa/1_story_x.md")
    status, _ = await asker.ask("POST", gateway, f"/gateway/projects/{name}/start")
    assert status == 200
    await until(lambda: stories(gateway, name) == {"1_story_x": "3_qa"})
    events = (await asker.ask("GET", gateway, f"/gateway/events?project={name}"))[1]["events"]
    assert [each["event"]["to_stage"] for each in events] == ["2_current", "3_qa"]


async def test_it_is_stopped_started_looked_at_and_removed(  # noqa: PLR0917 - fixtures
    gateway: Gateway,
    asker: Asker,
    engine: docker.APIClient,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # However long an engine on a busy machine takes for all of it, it counts as at once in the audit.
    monkeypatch.setattr(audit, "_SAME_MS", 3_600_000)
    made = await asker.result(gateway, name)
    path = f"/gateway/projects/{name}"
    status, stopped = await asker.ask("POST", gateway, f"{path}/stop")
    assert (status, stopped["state"]) == (200, "exited")
    # It ended by itself, and was not killed.
    assert engine.inspect_container(made["container"])["State"]["ExitCode"] == 0
    await until(lambda: not gateway.sessions.state(name).connected)
    status, started = await asker.ask("POST", gateway, f"{path}/start")
    assert (status, started["state"], started["url"]) == (200, "running", made["url"])
    await until(lambda: gateway.sessions.state(name).connected)
    status, text = await asker.ask("GET", gateway, f"{path}/logs?lines=50")
    assert status == 200
    assert "relays to  http://host.docker.internal:" in text
    status, removed = await asker.ask("DELETE", gateway, path)
    assert (status, removed) == (200, {"removed": [f"container huskies-{name}"]})
    assert name not in gateway.policy().projects
    assert (Path(made["directory"]) / ".huskies").is_dir()
    assert (await asker.ask("POST", gateway, f"{path}/start"))[0] == 404
    assert not gateway.guard.takes_tokens(name)
    # With what is still there it is made again, and removed with its directory.
    again = await asker.result(gateway, name)
    assert again["directory"] == made["directory"]
    await until(lambda: bool(gateway.log.sequences.all_live()))
    flags = {"directory": "true", "history": "true"}
    status, removed = await asker.ask("DELETE", gateway, path, params=flags)
    assert status == 200
    assert removed["removed"][1:] == [f"directory {made['directory']}", "0 events of its history"]
    assert name not in [view.name for view in gateway.project_views()]
    assert not os.path.exists(made["directory"])  # noqa: ASYNC240, PTH110 - once
    gateway.guard.write()
    # What happens twice within a while is one entry that counts.
    entries = [each for each in Operator(tmp_path / "gw").entries() if each.subject == name]
    assert [(each.action, each.count) for each in entries] == [
        ("project new", 2), ("project stop", 1), ("project start", 1), ("project remove", 2),
        ("project start", 1),
    ]  # fmt: skip
    assert {each.who for each in entries} == {"anyone on this machine"}


async def test_what_someone_else_took_away_is_removed_all_the_same(
    gateway: Gateway, asker: Asker, engine: docker.APIClient, name: str
) -> None:
    made = await asker.result(gateway, name)
    engine.remove_container(made["container"], force=True)
    path, flags = f"/gateway/projects/{name}", {"directory": "true", "history": "true"}
    status, removed = await asker.ask("DELETE", gateway, path, params=flags)
    assert status == 200
    assert removed["removed"] == [
        "what projects.toml says of it", f"directory {made['directory']}", "0 events of its history",
    ]  # fmt: skip
    assert name not in gateway.policy().projects
    assert not gateway.guard.takes_tokens(name)
    assert (await asker.ask("DELETE", gateway, path, params=flags))[0] == 404
    assert (await asker.ask("DELETE", gateway, path, params={"history": "true"}))[0] == 200


async def test_a_gateway_that_starts_again_is_reached_by_what_it_made(
    gateway: Gateway, asker: Asker, start_gateway: StartGateway, name: str
) -> None:
    await asker.result(gateway, name)
    port = int(gateway.url.rpartition(":")[2])
    await stop(gateway)
    again = await start_gateway(port=port)
    await until(lambda: again.sessions.state(name).connected)
