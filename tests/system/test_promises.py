"""The promises of SPEC 7 between real processes, and how they end."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.processes import Process, gateway_url, get, post, running, until, whole_log
from faults.readers import StreamReader


def make_project(directory: Path, story: str = "42_story_login", stage: str = "2_current") -> Path:
    for name in ("2_current", "3_qa", "4_merge"):
        (directory / ".huskies" / "work" / name).mkdir(parents=True)
    (directory / ".huskies" / "work" / stage / f"{story}.md").write_text("---\nname: Login\n---\n")
    return directory


def move(project: Path, story: str, from_stage: str, to_stage: str) -> None:
    work = project / ".huskies" / "work"
    (work / from_stage / f"{story}.md").rename(work / to_stage / f"{story}.md")


def stage_of(url: str, project: str, story: str) -> str | None:
    for found in get(f"{url}/gateway/projects")["projects"]:
        for said in found["stories"]:
            if (found["name"], said["story_id"]) == (project, story):
                stage: str = said["stage"]
                return stage
    return None


def emit(project: Path, *args: str) -> None:
    subprocess.run([sys.executable, "-m", "huskies", "emit", "-C", str(project), *args], check=True)


def test_a_moved_file_is_seen_in_the_log_the_stream_and_the_board(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    with running("up", str(project), "--port", "0", "--data-dir", str(tmp_path / "data")) as up:
        url = gateway_url(up)
        until(lambda: stage_of(url, "shop", "42_story_login") == "2_current", "the snapshot is on the board")
        reader = StreamReader(url, "")
        reader.start()
        until(lambda: reader.last_id, "the stream opens with an id")
        move(project, "42_story_login", "2_current", "3_qa")
        until(lambda: reader.events, "the event is streamed")
        reader.enough.set()
        seen = reader.events[0]
        assert seen["project"] == "shop"
        assert seen["replayed"] is False
        assert {key: seen["event"][key] for key in ("type", "story_name", "from_stage", "to_stage")} == {
            "type": "stage_transition",
            "story_name": "Login",
            "from_stage": "2_current",
            "to_stage": "3_qa",
        }
        assert stage_of(url, "shop", "42_story_login") == "3_qa"
        assert up.terminate() == 0


def test_what_happens_while_the_gateway_is_down_arrives_afterwards_as_replayed(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    project = make_project(tmp_path / "shop")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("sled", str(project), "--gateway-url", url, "--port", "0") as sled:
        api = sled.find(r"answers at (http://127\.0\.0\.1:\d+)")[1]
        for number in range(20):
            emit(project, "blocked", "42_story_login", str(number))
        # What the sled takes over only once it is connected is no replay.
        until(lambda: get(f"{api}/healthz")["last_seq"] == 20, "all is recorded")
        with running("gateway", "--port", str(port), "--data-dir", str(tmp_path / "data")) as gateway:
            gateway_url(gateway)
            until(lambda: len(whole_log(url)) == 20, "everything arrives")
            log = whole_log(url)
            assert [event["event"]["reason"] for event in log] == [str(number) for number in range(20)]
            assert all(event["replayed"] for event in log)
            assert all(event["event"]["timestamp_ms"] <= event["received_ms"] for event in log)
            emit(project, "blocked", "42_story_login", "live")
            until(lambda: len(whole_log(url)) == 21, "the next one arrives")
            assert whole_log(url)[-1]["replayed"] is False
            assert gateway.terminate() == 0


def test_what_changed_while_no_sled_ran_is_noticed_at_the_next_start(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    data = tmp_path / "data"
    with running("up", str(project), "--port", "0", "--data-dir", str(data)) as up:
        url = gateway_url(up)
        until(lambda: stage_of(url, "shop", "42_story_login") == "2_current", "the story is known")
        assert up.terminate() == 0
    move(project, "42_story_login", "2_current", "3_qa")
    emit(project, "blocked", "42_story_login", "emitted while nothing ran")
    with running("up", str(project), "--port", "0", "--data-dir", str(data)) as up:
        url = gateway_url(up)
        until(lambda: len(whole_log(url)) == 2, "both are noticed")
        assert {event["event"]["type"] for event in whole_log(url)} == {"stage_transition", "story_blocked"}


def test_a_reader_resumes_across_sigkill_of_the_gateway_and_sees_exactly_the_log(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    project = make_project(tmp_path / "shop")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("gateway", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    with running("sled", str(project), "--gateway-url", url, "--port", "0") as sled:
        api = sled.find(r"answers at (http://127\.0\.0\.1:\d+)")[1] + "/api/events"
        reader = StreamReader(url)
        reader.start()
        sent = 0
        for _ in range(4):
            with running(*arguments) as gateway:
                gateway_url(gateway)
                for _ in range(25):
                    body = {"type": "story_blocked", "story_id": "1_story_x", "reason": str(sent)}
                    assert post(api, body)[0] == 201
                    sent += 1
                gateway.kill()
        with running(*arguments) as gateway:
            gateway_url(gateway)
            until(lambda: len(reader.events) >= sent, "the reader has everything")
            reader.enough.set()
            assert reader.events == whole_log(url)
            assert [event["event"]["reason"] for event in reader.events] == [str(n) for n in range(sent)]
            assert reader.connections > 1
            assert reader.other == []


def test_sigterm_while_busy_ends_everything_cleanly_within_five_seconds(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    data = str(tmp_path / "data")
    with running("up", str(project), "--port", "0", "--data-dir", data) as up:
        url = gateway_url(up)
        api = up.find(r"shop\s+(http://127\.0\.0\.1:\d+)")[1] + "/api/events"
        enough = threading.Event()
        confirmed: list[int] = []

        def load() -> None:
            number = 0
            while not enough.is_set():
                body = {"type": "story_blocked", "story_id": "1_story_x", "reason": str(number)}
                if post(api, body)[0] == 201:
                    confirmed.append(number)
                number += 1

        reader = StreamReader(url)
        reader.start()
        busy = threading.Thread(target=load)
        busy.start()
        until(lambda: len(confirmed) > 50, "the load is under way")
        status = up.terminate(5.0)
        enough.set()
        reader.enough.set()
        busy.join()
        assert status == 0
        assert "Traceback" not in up.output
    with running("up", str(project), "--port", "0", "--data-dir", data) as up:
        url = gateway_url(up)
        until(lambda: len(whole_log(url)) >= len(confirmed), "all that was confirmed is there")
        found = [int(event["event"]["reason"]) for event in whole_log(url)]
        assert set(confirmed) <= set(found)
        assert len(found) == len(set(found))


def limit_files() -> None:
    """No file may grow beyond 200 KiB: what a full disk does, without one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 << 10, 200 << 10))


def start_limited(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "huskies", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit_files,  # noqa: PLW1509 - nothing else runs between fork and exec
    )


def test_a_gateway_that_cannot_write_acknowledges_nothing_and_says_why(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    project = make_project(tmp_path / "shop")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running("sled", str(project), "--gateway-url", url, "--port", "0") as sled:
        api = sled.find(r"answers at (http://127\.0\.0\.1:\d+)")[1]
        for number in range(40):
            body = {"type": "story_blocked", "story_id": "1_story_x", "reason": f"{number} {'x' * 15_000}"}
            assert post(f"{api}/api/events", body)[0] == 201
        full = start_limited("gateway", "--port", str(port), "--data-dir", str(tmp_path / "data"))
        output, _ = full.communicate(timeout=30)
        assert full.returncode == 1
        assert "log.db" in output
        assert "Traceback" not in output
        assert get(f"{api}/healthz")["last_seq"] == 40
        with running("gateway", "--port", str(port), "--data-dir", str(tmp_path / "data")) as gateway:
            gateway_url(gateway)
            until(lambda: len(whole_log(url)) == 40, "with room again, everything arrives")
            numbers = [int(event["event"]["reason"].split()[0]) for event in whole_log(url)]
            assert numbers == list(range(40))


def test_a_full_disk_at_one_of_three_gateways_stops_that_one_alone(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    project = make_project(tmp_path / "shop")
    full, second = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in (full, second)]
    limited = ("gateway", "--port", str(full), "--data-dir", str(tmp_path / "full"))
    with (
        running(
            "gateway", "--port", str(second), "--data-dir", str(tmp_path / "2"), "--peer", urls[0]
        ) as other,
        running("gateway", "--port", "0", "--data-dir", str(tmp_path / "3"), "--peer", urls[1]) as third,
        running("sled", str(project), "--port", "0", env={"HUSKIES_GATEWAY_URL": " ".join(urls)}) as sled,
    ):
        gateway_url(other)
        stopped = start_limited(*limited)
        api = sled.find(r"answers at (http://127\.0\.0\.1:\d+)")[1]
        for number in range(40):
            body = {"type": "story_blocked", "story_id": "1_story_x", "reason": f"{number} {'x' * 15_000}"}
            assert post(f"{api}/api/events", body)[0] == 201
        output, _ = stopped.communicate(timeout=30)
        assert (stopped.returncode, "log.db" in output) == (1, True)
        last = third.find(r"gateway +(http://127\.0\.0\.1:\d+)")[1]
        until(lambda: len(whole_log(last)) == 40, "the others go on")
        with running(*limited) as again:
            gateway_url(again)
            until(lambda: len(whole_log(urls[0])) == 40, "with room again, it catches up")
            for url in (*urls, last):
                numbers = [int(event["event"]["reason"].split()[0]) for event in whole_log(url)]
                assert numbers == list(range(40))


def test_a_sled_that_cannot_write_confirms_nothing_and_says_why(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    project = make_project(tmp_path / "shop")
    port = free_port()
    full = start_limited("sled", str(project), "--port", str(port))
    api = f"http://127.0.0.1:{port}/api/events"
    confirmed = 0
    statuses: list[int] = []

    def fill() -> bool:
        nonlocal confirmed
        body = {"type": "story_blocked", "story_id": "1_story_x", "reason": f"{confirmed} {'x' * 15_000}"}
        status, _ = post(api, body)
        statuses.append(status)
        confirmed += status == 201
        return full.poll() is not None

    until(fill, "the sled ends", 60)
    assert full.stdout is not None
    output = full.stdout.read()
    full.stdout.close()
    assert full.returncode == 1
    assert "outbox" in output
    assert "Traceback" not in output
    assert confirmed > 0
    with running("sled", str(project), "--port", "0") as sled:
        api = sled.find(r"answers at (http://127\.0\.0\.1:\d+)")[1]
        kept = get(f"{api}/api/events?since=0")
        assert len(kept) >= confirmed


def test_a_copied_project_and_a_restored_outbox_never_reuse_an_identity(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    original = make_project(tmp_path / "shop")
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def run_sled(project: Path, reason: str) -> None:
        before = len(whole_log(url))
        with running("sled", str(project), "--name", "shop", "--gateway-url", url, "--port", "0") as sled:
            sled.find(r"http://127\.0\.0\.1:\d+")
            emit(project, "blocked", "42_story_login", reason)
            until(lambda: len(whole_log(url)) > before, f"{reason} arrives")
            assert sled.terminate() == 0

    with running("gateway", "--port", str(port), "--data-dir", str(tmp_path / "data")) as gateway:
        gateway_url(gateway)
        run_sled(original, "first")
        shutil.copytree(original, tmp_path / "copy")
        backup = tmp_path / "backup"
        shutil.copytree(original / ".huskies" / "state", backup)
        run_sled(original, "second")
        run_sled(tmp_path / "copy", "from the copy")
        shutil.rmtree(original / ".huskies" / "state")
        shutil.copytree(backup, original / ".huskies" / "state")
        run_sled(original, "after the restore")
        log = whole_log(url)
    assert [event["event"]["reason"] for event in log] == [
        "first",
        "second",
        "from the copy",
        "after the restore",
    ]
    identities = [(event["sled_id"], event["epoch"], event["seq"]) for event in log]
    assert len(set(identities)) == 4
    first, second, copied, restored = log
    assert first["sled_id"] == second["sled_id"] == restored["sled_id"] != copied["sled_id"]
    assert restored["epoch"] != first["epoch"]


@pytest.mark.parametrize("fate", ["stays", "moved", "deleted"])
def test_a_copy_and_its_original_tell_once_what_they_share(tmp_path: Path, fate: str) -> None:
    original = make_project(tmp_path / "shop")
    with running("sled", str(original), "--port", "0") as sled:
        api = sled.find(r"answers at (http://127\.0\.0\.1:\d+)")[1]
        emit(original, "blocked", "42_story_login", "before the copy")
        until(lambda: len(get(f"{api}/api/events?since=0")) == 1, "it is recorded")
        assert sled.terminate() == 0
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    projects = {"stays": [copy, original], "moved": [copy, tmp_path / "moved"], "deleted": [copy]}[fate]
    if fate == "moved":
        original.rename(tmp_path / "moved")
    elif fate == "deleted":
        shutil.rmtree(original)
    with running("gateway", "--port", "0", "--data-dir", str(tmp_path / "data")) as gateway:
        url = gateway_url(gateway)
        for project in projects:
            with running("sled", str(project), "--gateway-url", url, "--port", "0") as sled:
                emit(project, "blocked", "42_story_login", f"in {project.name}")
                said = f"in {project.name}"
                until(lambda: said in [event["event"]["reason"] for event in whole_log(url)], said)  # noqa: B023 - called before the next
        told = [(event["project"], event["event"]["reason"]) for event in whole_log(url)]
    expected = [("shop", "before the copy"), *((project.name, f"in {project.name}") for project in projects)]
    assert told == expected


def test_what_was_emitted_and_then_copied_is_told_by_the_original_alone(tmp_path: Path) -> None:
    original = make_project(tmp_path / "a" / "shop")
    data = str(tmp_path / "data")
    with running("up", str(original), "--port", "0", "--data-dir", data) as up:
        gateway_url(up)
        assert up.terminate() == 0
    emit(original, "blocked", "42_story_login", "before the copy")
    copy = tmp_path / "b" / "shop"
    shutil.copytree(original, copy)
    emit(copy, "blocked", "42_story_login", "in the copy")
    with running("up", str(original), str(copy), "--port", "0", "--data-dir", data) as up:
        url = gateway_url(up)
        until(lambda: len(whole_log(url)) >= 2, "both arrive")
        told = [(event["project"], event["event"]["reason"]) for event in whole_log(url)]
        assert sorted(told) == [("shop", "before the copy"), ("shop-2", "in the copy")]
        assert up.terminate() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gateway", "--port", "{taken}", "--data-dir", "{tmp}/data"), "{taken}"),
        (("gateway", "--port", "0", "--data-dir", "{tmp}/file"), "{tmp}/file"),
        (("gateway", "--host", "0.0.0.0", "--port", "0", "--data-dir", "{tmp}/data"), "huskies token make"),  # noqa: S104 - that it refuses is the test
        (("sled", "{tmp}/shop", "--port", "{taken}"), "{taken}"),
        (("sled", "{tmp}/nowhere"), "{tmp}/nowhere"),
        (("gateway", "--host", "", "--data-dir", "{tmp}/data"), "--host"),
        (("sled", "{tmp}/shop", "--port", "many"), "--port"),
        (("up", "{tmp}/shop", "--port", "{taken}", "--data-dir", "{tmp}/data"), "{taken}"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line_and_status_2(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    make_project(tmp_path / "shop")
    (tmp_path / "file").write_text("not a directory")
    with running("gateway", "--port", "0", "--data-dir", str(tmp_path / "other")) as other:
        taken = gateway_url(other).rpartition(":")[2]
        filled: dict[str, Any] = {"taken": taken, "tmp": tmp_path}
        process = Process(*(argument.format(**filled) for argument in arguments))
        status = process.popen.wait(20)
        process.close()
    assert status == 2, process.output
    errors = [line for line in process.lines if line.startswith("huskies: ")]
    assert len(errors) == 1, process.output
    assert message.format(**filled) in errors[0]
    assert "Traceback" not in process.output


def test_a_second_sled_on_the_same_state_exits_with_status_2(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop")
    with running("sled", str(project), "--port", "0") as first:
        first.find(r"http://127\.0\.0\.1:\d+")
        second = Process("sled", str(project), "--port", "0")
        assert second.popen.wait(20) == 2
        second.close()
        assert "Traceback" not in second.output
