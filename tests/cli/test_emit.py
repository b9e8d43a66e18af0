from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from huskies.cli import main

if TYPE_CHECKING:
    from tests.cli.conftest import Run, Start

STORY = "42_story_login"
NAMELESS = {"story_id": STORY, "story_name": ""}
STAGES = "1_backlog, 2_current, 3_qa, 4_merge, 5_done, 6_archived"


def spooled(project: Path) -> list[dict[str, Any]]:
    new = project / ".huskies" / "state" / "spool" / "new"
    return [json.loads(path.read_bytes()) for path in sorted(new.iterdir())] if new.is_dir() else []


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        (
            ("stage-transition", STORY, "current", "3_QA", "--name", "Login"),
            {
                "type": "stage_transition",
                "story_id": STORY,
                "story_name": "Login",
                "from_stage": "2_current",
                "to_stage": "3_qa",
            },
        ),
        (("blocked", STORY, "no key"), {"type": "story_blocked", **NAMELESS, "reason": "no key"}),
        (("merge-failure", STORY, "conflict"), {"type": "merge_failure", **NAMELESS, "reason": "conflict"}),
        (("rate-limit", STORY, "coder"), {"type": "rate_limit_warning", **NAMELESS, "agent_name": "coder"}),
        (
            ("rate-limit", STORY, "coder", "--reset-at", "2026-01-31T15:00:00+01:00"),
            {
                "type": "rate_limit_hard_block",
                **NAMELESS,
                "agent_name": "coder",
                "reset_at": "2026-01-31T14:00:00Z",
            },
        ),
    ],
)
def test_every_kind_is_put_into_the_spool(
    huskies: Run, project: Path, arguments: tuple[str, ...], event: dict[str, Any]
) -> None:
    before_ms = time.time_ns() // 1_000_000
    assert huskies("emit", "-C", project, *arguments) == (0, "", "")
    [stored] = spooled(project)
    assert stored.pop("place") == str(project.resolve())
    assert before_ms <= stored.pop("timestamp_ms") <= time.time_ns() // 1_000_000
    assert stored == event


def test_the_project_may_be_named_before_or_after_or_by_the_variable(
    huskies: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = project.parent / "other"
    (other / ".huskies").mkdir(parents=True)
    monkeypatch.setenv("HUSKIES_PROJECT_DIR", str(project))
    huskies("emit", "blocked", "1", "by the variable")
    huskies("emit", "-C", other, "blocked", "1", "before")
    huskies("emit", "blocked", "1", "after", "-C", other)
    huskies("emit", "-C", project, "blocked", "1", "after wins", "-C", other)
    assert [event["reason"] for event in spooled(project)] == ["by the variable"]
    assert [event["reason"] for event in spooled(other)] == ["before", "after", "after wins"]


def test_the_variable_that_names_a_project_names_no_story(
    huskies: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSKIES_NAME", "web-shop")
    huskies("emit", "-C", project, "blocked", "1", "x")
    assert spooled(project)[0]["story_name"] == ""
    explained = " ".join(huskies("emit", "blocked", "--help").stdout.split())
    assert "HUSKIES_NAME is the project's, and not used here. [env var: HUSKIES_STORY_NAME]" in explained


def test_the_storys_name_has_a_variable_of_its_own(
    huskies: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSKIES_STORY_NAME", "Login")
    huskies("emit", "-C", project, "blocked", "1", "x")
    huskies("emit", "-C", project, "blocked", "1", "x", "--name", "Log in")
    assert [event["story_name"] for event in spooled(project)] == ["Login", "Log in"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("stage-transition", "1", "qa", "review"),
            f"'TO': 'review' is none of {STAGES} (the number may be left out)",
        ),
        (
            ("blocked", "x" * 257, "why"),
            "not a valid event: story_id: expected a text of at most 256 characters",
        ),
        (("blocked", "", "why"), "not a valid event: story_id: expected a text that is not empty"),
        (("blocked", "caf\udce9", "why"), "surrogates not allowed"),
        (
            ("rate-limit", "1", "coder", "--reset-at", "soon"),
            "'soon' is no time such as 2026-01-31T14:00:00Z",
        ),
        (("blocked", "1"), "Missing argument 'REASON'"),
    ],
)
def test_what_is_no_event_is_a_usage_error(
    huskies: Run, project: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    outcome = huskies("emit", "-C", project, *arguments)
    assert outcome.status == 2
    assert complaint in outcome.stderr
    assert spooled(project) == []


def test_outside_a_project_it_says_what_to_do(huskies: Run, tmp_path: Path) -> None:
    outcome = huskies("emit", "-C", tmp_path, "blocked", "1", "x")
    assert outcome.status == 2
    assert outcome.stderr.endswith("run `huskies init` in the project, or name it with -C PROJECT_DIR\n")


def test_a_process_emits_from_within_the_project(start: Start, project: Path) -> None:
    (project / "src").mkdir()
    assert start("emit", "blocked", "1", "Grüße", cwd=project / "src").end(None) == (0, "", "")
    assert spooled(project)[0]["reason"] == "Grüße"


def test_it_imports_nothing_that_is_slow_to_import(project: Path) -> None:
    script = "import sys; from huskies.cli.main import run; s = run(sys.argv[1:]); print(s, *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, "emit", "-C", project, "blocked", "1", "x"],
        env={**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    status, *modules = done.stdout.split()
    assert status == "0"
    slow = {
        "asyncio",
        "aiohttp",
        "rich",
        "tomlkit",
        "sqlite3",
        "cryptography",
        "http.client",
        "yaml",
        "uvloop",
        "ssl",
    }
    assert not slow & set(modules)
