"""`up` and `sled` as real processes, with a real gateway."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from huskies.cli.up import sled_configs
from huskies.errors import ConfigError

if TYPE_CHECKING:
    from tests.cli.conftest import Process, Run, Start


def answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def url_in(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


def shown(gateway_url: str) -> dict[str, Any]:
    return {project["name"]: project for project in answer(gateway_url + "/gateway/projects")["projects"]}


def until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < patience, "it never came true"


def blocked_story(line: str) -> tuple[str, str]:
    received = json.loads(line)
    return received["project"], received["event"]["story_id"]


def test_up_shows_what_happens_in_every_project(start: Start, project: Path, tmp_path: Path) -> None:
    billing = tmp_path / "billing"
    billing.mkdir()
    up = start("up", project, billing, "--port", "0", "--data-dir", tmp_path / "data")
    gateway_url = url_in(up.line("dashboard"))
    places = {name: up.line(name) for name in ("web-shop", "billing")}
    for name, directory in (("web-shop", project), ("billing", billing)):
        assert str(directory) in places[name]
        assert answer(url_in(places[name]) + "/api/events?since=0") == []
    assert (billing / ".huskies" / "work" / "1_backlog").is_dir()

    tail = start("tail", "--gateway-url", gateway_url, "--after", "0", "--json")
    assert start("emit", "-C", project, "blocked", "1_story_a", "x").end(None).status == 0
    assert blocked_story(tail.line()) == ("web-shop", "1_story_a")
    assert start("emit", "blocked", "2_story_b", "x", "-C", billing).end(None).status == 0
    assert blocked_story(tail.line()) == ("billing", "2_story_b")

    assert {name: view["url"] for name, view in shown(gateway_url).items()} == {
        name: url_in(line) for name, line in places.items()
    }
    outcome = up.end(signal.SIGINT, patience=5)
    assert outcome.status == 0
    assert "Traceback" not in outcome.stderr


def test_up_shows_its_own_gateway_the_tokens_that_it_asks_for(
    start: Start, huskies: Run, project: Path, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    assert huskies("token", "make", "web-shop", "--data-dir", data_dir).status == 0
    up = start("up", project, "--port", "0", "--data-dir", data_dir)
    gateway_url = url_in(up.line("dashboard"))
    until(lambda: shown(gateway_url)["web-shop"]["connected"])
    assert up.end().status == 0


def test_up_watches_the_directory_it_is_started_in(start: Start, project: Path, tmp_path: Path) -> None:
    up = start("up", cwd=project, HUSKIES_PORT="0", HUSKIES_DATA_DIR=str(tmp_path / "data"))
    assert "web-shop" in up.line(str(project))
    assert up.end(signal.SIGTERM, patience=5).status == 0


def test_up_refuses_a_directory_twice(huskies: Run, project: Path, tmp_path: Path) -> None:
    outcome = huskies(
        "up", project, project / "..", project.parent / "web-shop", "--data-dir", tmp_path / "data"
    )
    assert outcome.status == 2
    assert outcome.stderr.endswith("web-shop: expected each project once; leave out the repetition\n")


def test_up_says_when_the_port_is_in_use(start: Start, project: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = start("up", project, "--port", port, "--data-dir", tmp_path / "data").end(None)
    assert outcome.status == 2
    assert str(port) in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr


def test_up_ends_when_a_project_has_a_sled_already(start: Start, project: Path, tmp_path: Path) -> None:
    sled = start("sled", project, "--port", "0")
    sled.line("web-shop")
    outcome = start("up", project, "--port", "0", "--data-dir", tmp_path / "data").end(None)
    assert outcome.status == 2
    assert "another sled" in outcome.stderr
    assert sled.end().status == 0


def test_names_that_collide_get_a_suffix_and_no_token_of_another_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSKIES_SLED_TOKEN", "for another gateway")
    for place in ("a", "b", "c"):
        (tmp_path / place / "shop").mkdir(parents=True)
    directories = [tmp_path / place / "shop" for place in ("a", "b", "c")]
    configs = sled_configs(directories)
    assert [(config.name, config.sled_token) for config in configs] == [
        ("shop", None),
        ("shop-2", None),
        ("shop-3", None),
    ]
    assert {(config.host, config.port) for config in configs} == {("127.0.0.1", 0)}


def test_a_project_that_is_a_link_to_another_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    with pytest.raises(ConfigError, match="link: expected each project once"):
        sled_configs([tmp_path / "shop", tmp_path / "link"])


# --- sled ------------------------------------------------------------------------------------------


def started_gateway(start: Start, data_dir: Path) -> tuple[Process, str]:
    gateway = start("gateway", "--port", "0", "--data-dir", data_dir)
    return gateway, url_in(gateway.line("gateway"))


def test_a_sled_joins_a_gateway_with_its_token(
    start: Start, huskies: Run, project: Path, tmp_path: Path
) -> None:
    secret = huskies("token", "make", "web-shop", "--data-dir", tmp_path / "data").stdout.strip()
    _, gateway_url = started_gateway(start, tmp_path / "data")
    sled = start("sled", project, "--port", "0", "--log-level", "debug", "--gateway-url", gateway_url + "/",
                 HUSKIES_SLED_TOKEN=secret)  # fmt: skip
    assert sled.line("relays to").split()[-1] == gateway_url
    tail = start("tail", "--gateway-url", gateway_url, "--after", "0", "--json")
    assert start("emit", "-C", project, "blocked", "1_story_a", "x").end(None).status == 0
    assert blocked_story(tail.line()) == ("web-shop", "1_story_a")
    outcome = sled.end(signal.SIGTERM, patience=5)
    assert outcome.status == 0
    assert secret not in outcome.stdout + outcome.stderr


def test_an_empty_variable_means_no_relay_whatever_the_file_says(start: Start, project: Path) -> None:
    (project / ".huskies" / "project.toml").write_text('name = "shop"\ngateway_url = "http://127.0.0.1:1"\n')
    sled = start("sled", project, "--port", "0", HUSKIES_GATEWAY_URL="")
    assert url_in(sled.line("shop")).startswith("http://127.0.0.1:")
    assert sled.line("relays to") == "relays to  no gateway"


def test_a_flag_wins_over_the_variable(start: Start, project: Path) -> None:
    sled = start(
        "sled", project, "--port", "0", "--gateway-url", "", HUSKIES_GATEWAY_URL="http://127.0.0.1:1"
    )
    assert sled.line("relays to") == "relays to  no gateway"


def test_what_was_emitted_without_a_sled_arrives_when_there_is_one(
    start: Start, project: Path, tmp_path: Path
) -> None:
    assert start("emit", "-C", project, "blocked", "1_story_a", "x").end(None).status == 0
    _, gateway_url = started_gateway(start, tmp_path / "data")
    start("sled", project, "--port", "0", "--gateway-url", gateway_url)
    tail = start("tail", "--gateway-url", gateway_url, "--after", "0", "--json")
    assert blocked_story(tail.line()) == ("web-shop", "1_story_a")


def test_a_moved_story_is_an_event(start: Start, project: Path, tmp_path: Path) -> None:
    work = project / ".huskies" / "work"
    for stage in ("2_current", "3_qa"):
        (work / stage).mkdir()
    (work / "2_current" / "1_story_a.md").write_text("# Story A\n")
    up = start("up", project, "--port", "0", "--data-dir", tmp_path / "data")
    gateway_url = url_in(up.line("dashboard"))
    tail = start("tail", "--gateway-url", gateway_url, "--after", "0")
    # Where a story stands when it is seen for the first time is no event.
    until(lambda: [story["story_id"] for story in shown(gateway_url)["web-shop"]["stories"]] == ["1_story_a"])
    shutil.move(work / "2_current" / "1_story_a.md", work / "3_qa")
    assert 'web-shop  1_story_a  2_current → 3_qa  "Story A"' in tail.line()
