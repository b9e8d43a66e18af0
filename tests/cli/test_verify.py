"""`verify`, `backup` and `restore` on the logs of real gateways."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import stat
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from huskies.errors import StoreError
from huskies.events.model import StoredStoryBlocked
from huskies.gateway.store.appends import Append
from huskies.gateway.store.index import Index, IndexReader
from huskies.gateway.store.log import Log

if TYPE_CHECKING:
    from tests.cli.conftest import Process, Run, Start

SLED, EPOCH = "aa" * 32, "e1" * 8


class _Owner:
    def on_committed(self, last_seq: int, batches: int, events: int) -> None: ...
    def on_gap(self, expected: int, batches: int, events: int) -> None: ...
    def on_conflict(self, seq: int, batches: int, events: int) -> None: ...


def fill(directory: Path, *reasons: str, first_seq: int = 1, epoch: str = EPOCH) -> Path:
    """Append to the log in a directory, a block for each event."""

    async def append() -> None:
        index = Index(directory)
        lookup = IndexReader(index)
        failures: list[StoreError] = []
        log = Log(
            directory, lookup=lookup, published=lambda _: None, failed=failures.append, now_ms=lambda: 1_000
        )
        admitted = await log.admit(SLED, epoch, "shop")
        assert not isinstance(admitted, str)
        for seq, reason in enumerate(reasons, first_seq):
            event = StoredStoryBlocked(story_id="1_bug_x", reason=reason, timestamp_ms=1)
            log.append(Append(admitted[0], seq, [event], 1_000, 0, _Owner(), 1, 100))
            await log.call(lambda _: None)
        await log.stop()
        assert failures == []
        lookup.close()
        index.close()

    directory.mkdir(exist_ok=True)
    asyncio.run(append())
    return directory


def flip(directory: Path, position: int) -> None:
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as db:
        db.execute("UPDATE blocks SET events = replace(events, 'b2', 'x2') WHERE position = ?", (position,))
        [found] = db.execute("SELECT typeof(events) FROM blocks WHERE position = ?", (position,)).fetchone()
        if found == "text":
            db.execute("UPDATE blocks SET events = CAST(events AS BLOB) WHERE position = ?", (position,))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def gateway(start: Start, directory: Path) -> tuple[Process, str]:
    process = start("gateway", "--port", "0", "--data-dir", directory)
    return process, process.line("gateway").split()[-1]


def answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", "b1", "b2", "b3", "b4")


# --- verify ------------------------------------------------------------------------------------------


def test_a_sound_log_is_zero(huskies: Run, data: Path) -> None:
    outcome = huskies("verify", "--data-dir", data)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("sound: ")
    assert "4 blocks, 4 events (positions 1 to 4), 1 streams" in outcome.stdout


def test_a_damaged_log_is_one_and_names_everything(huskies: Run, data: Path) -> None:
    flip(data, 2)
    outcome = huskies("verify", "--data-dir", data)
    assert outcome.status == 1
    first, second, third = outcome.stdout.splitlines()
    assert first.startswith("position 2 to 2: its checksum is")
    assert second == f"  missing: seq 2 to 2 of sled {SLED[:12]}, epoch {EPOCH}"
    assert third.startswith("DAMAGED, 1 problem: ")
    outcome = huskies("verify", "--data-dir", data, "--json")
    problem, verdict = lines(outcome.stdout)
    assert (outcome.status, problem["kind"], problem["position"]) == (1, "problem", 2)
    assert problem["missing"] == [{"sled_id": SLED, "epoch": EPOCH, "first_seq": 2, "last_seq": 2}]
    assert (verdict["kind"], verdict["sound"], verdict["problems"], verdict["events"]) == (
        "verdict",
        False,
        1,
        3,
    )


def test_a_damaged_row_of_a_sequence_is_one_and_named(huskies: Run, data: Path) -> None:
    with closing(sqlite3.connect(data / "log.db", isolation_level=None)) as db:
        db.execute("UPDATE streams SET project = 'chop'")
    outcome = huskies("verify", "--data-dir", data)
    first, second = outcome.stdout.splitlines()
    assert outcome.status == 1
    assert first.startswith("position 1: the row of sequence 1: its checksum is ")
    assert first.endswith(f" (chop {SLED[:12]}, epoch {EPOCH})")
    assert "4 blocks, 4 events" in second
    outcome = huskies("gateway", "--port", "0", "--data-dir", data)
    assert (outcome.status, "Traceback" in outcome.stderr) == (1, False)
    assert "log.db: the log is damaged: the row of sequence 1 " in outcome.stderr
    assert "huskies verify" in outcome.stderr


def test_a_log_of_a_newer_version_is_two(huskies: Run, data: Path) -> None:
    with closing(sqlite3.connect(data / "log.db", isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 9")
    outcome = huskies("verify", "--data-dir", data)
    assert outcome.status == 2
    assert "written by a newer Huskies" in outcome.stderr


def test_what_is_no_log_is_two(huskies: Run, tmp_path: Path) -> None:
    outcome = huskies("verify", "--data-dir", tmp_path)
    assert outcome.status == 2
    assert "expected a gateway's log" in outcome.stderr
    (tmp_path / "log.db").write_bytes(b"nothing of the kind" * 500)
    outcome = huskies("verify", "--data-dir", tmp_path)
    assert outcome.status == 2
    assert str(tmp_path / "log.db") in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_beside_a_running_gateway_and_against_it(
    start: Start, huskies: Run, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "other")
    _, url = gateway(start, data)
    assert huskies("verify", "--data-dir", data).status == 0
    outcome = huskies("verify", "--data-dir", data, "--against", url)
    assert outcome.status == 0
    assert outcome.stdout.splitlines()[1] == f"{url}: nothing differs"
    # What one merely lacks is said, and no fault.
    other = fill(tmp_path / "other", "b5", first_seq=5)
    fill(other, "c1", epoch="e2" * 8)
    outcome = huskies("verify", "--data-dir", other, "--against", url)
    assert outcome.status == 0
    assert "the same up to seq 4; 5 here, 4 there" in outcome.stdout
    assert "only here, up to seq 1" in outcome.stdout


@pytest.mark.parametrize("differs", [1, 4, 9, 13])
def test_the_first_seq_that_differs_is_named(
    start: Start, huskies: Run, tmp_path: Path, differs: int
) -> None:
    ours = [f"r{seq}" for seq in range(1, 14)]
    theirs = [text if seq < differs else f"{text} there" for seq, text in enumerate(ours, 1)]
    here, there = fill(tmp_path / "here", *ours), fill(tmp_path / "there", *theirs, "and more")
    _, url = gateway(start, there)
    outcome = huskies("verify", "--data-dir", here, "--against", url, "--json")
    assert outcome.status == 1
    [_, difference, comparison] = lines(outcome.stdout)
    assert (difference["kind"], difference["seq"], difference["sled_id"]) == ("difference", differs, SLED)
    assert comparison == {"kind": "comparison", "url": url, "same": False}
    assert f"DIFFERS from seq {differs} on" in huskies("verify", "--data-dir", here, "--against", url).stdout


def test_a_gateway_that_does_not_answer_is_two(huskies: Run, data: Path) -> None:
    outcome = huskies("verify", "--data-dir", data, "--against", "http://127.0.0.1:9")
    assert outcome.status == 2
    assert "no gateway answers" in outcome.stderr


# --- backup and restore ------------------------------------------------------------------------------


def test_a_backup_of_a_running_gateway_is_whole_and_private(
    start: Start, huskies: Run, data: Path, tmp_path: Path
) -> None:
    (data / "projects.toml").write_text('[sled_tokens]\nshop = "secret-of-the-shop"\n')
    (data / "projects.toml").chmod(0o600)
    process, url = gateway(start, data)
    dest = tmp_path / "backup"
    outcome = huskies("backup", dest, "--data-dir", data)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "4 events" in outcome.stdout
    held = ["access.db", "log.db", "projects.toml"]
    assert sorted(path.name for path in dest.iterdir()) == sorted([*held, "backup.json"])
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in dest.iterdir()} == {0o600}
    manifest = json.loads((dest / "backup.json").read_text())
    assert (manifest["position"], sorted(manifest["files"])) == (4, held)
    assert huskies("verify", "--data-dir", dest).status == 0
    # It is never overwritten, and nothing half done is left.
    outcome = huskies("backup", dest, "--data-dir", data)
    assert outcome.status == 2
    assert "is there already" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    before = answer(f"{url}/gateway/digests")
    process.end()

    target = tmp_path / "restored"
    assert huskies("restore", dest, "--data-dir", target).status == 0
    assert (target / "projects.toml").read_text() == (data / "projects.toml").read_text()
    process, url = gateway(start, target)
    after = answer(f"{url}/gateway/digests")
    assert after["sequences"] == before["sequences"]
    assert after["log_id"] == before["log_id"]
    assert after["gateway_id"] != before["gateway_id"]
    assert len(answer(f"{url}/gateway/events")["events"]) == 4


def test_cursors_from_beyond_a_backup_are_told(
    start: Start, huskies: Run, data: Path, tmp_path: Path
) -> None:
    assert huskies("backup", tmp_path / "backup", "--data-dir", data).status == 0
    fill(data, "b5", "b6", first_seq=5)
    process, url = gateway(start, data)
    events = answer(f"{url}/gateway/events")["events"]
    process.end()
    assert huskies("restore", tmp_path / "backup", "--data-dir", tmp_path / "new").status == 0
    fill(tmp_path / "new", "another b5", first_seq=5)
    _, url = gateway(start, tmp_path / "new")
    assert len(answer(f"{url}/gateway/events?after={events[3]['cursor']}")["events"]) == 1
    for event in events[4:]:
        with pytest.raises(urllib.error.HTTPError) as refused:
            answer(f"{url}/gateway/events?after={event['cursor']}")
        assert refused.value.code == 409
        refused.value.close()


def test_nothing_is_restored_over_a_log_or_from_what_is_no_backup(
    huskies: Run, data: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    assert huskies("backup", backup, "--data-dir", data).status == 0
    outcome = huskies("restore", backup, "--data-dir", data)
    assert outcome.status == 2
    assert "is there already" in outcome.stderr
    outcome = huskies("restore", tmp_path / "nothing", "--data-dir", tmp_path / "new")
    assert outcome.status == 2
    assert "expected a backup" in outcome.stderr


def test_a_backup_that_changed_is_refused_and_leaves_nothing(
    huskies: Run, data: Path, tmp_path: Path
) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    assert huskies("backup", backup, "--data-dir", data).status == 0
    content = bytearray((backup / "log.db").read_bytes())
    content[-1] ^= 1
    (backup / "log.db").write_bytes(content)
    outcome = huskies("restore", backup, "--data-dir", new)
    assert outcome.status == 1
    assert "is not what was backed up" in outcome.stderr
    assert [path.name for path in new.iterdir() if path.name != "lock"] == []


def test_a_backup_of_a_damaged_log_is_restored_only_on_demand(
    huskies: Run, data: Path, tmp_path: Path
) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    flip(data, 2)
    assert huskies("backup", backup, "--data-dir", data).status == 0
    outcome = huskies("restore", backup, "--data-dir", new)
    assert outcome.status == 1
    assert "position 2 to 2" in outcome.stdout
    assert not (new / "log.db").exists()
    assert huskies("restore", backup, "--data-dir", new, "--accept-damage").status == 0
    assert (new / "log.db").exists()


def test_a_key_that_was_left_is_not_the_restored_gateways(huskies: Run, data: Path, tmp_path: Path) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    assert huskies("backup", backup, "--data-dir", data).status == 0
    new.mkdir()
    (new / "gateway.key").write_bytes(bytes(32))
    (new / "projects.toml").write_text("# mine\n")
    assert huskies("restore", backup, "--data-dir", new).status == 0
    assert not (new / "gateway.key").exists()
    assert (new / "projects.toml").read_text() == "# mine\n"


# --- copies ------------------------------------------------------------------------------------------


def identity(start: Start, directory: Path) -> str:
    process, url = gateway(start, directory)
    gateway_id = answer(f"{url}/gateway/digests")["gateway_id"]
    assert process.end().status == 0
    return str(gateway_id)


def test_a_copy_gets_an_identity_of_its_own_and_what_was_moved_keeps_its(
    start: Start, data: Path, tmp_path: Path
) -> None:
    original = identity(start, data)
    assert identity(start, data) == original
    shutil.copytree(data, tmp_path / "copy")
    copied = identity(start, tmp_path / "copy")
    assert copied != original
    assert identity(start, tmp_path / "copy") == copied
    assert identity(start, data) == original
    shutil.move(data, tmp_path / "moved")
    assert identity(start, tmp_path / "moved") == original
    # Another name for the same directory is no copy.
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert identity(start, tmp_path / "link") == original


# --- retention ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["gateway", "up"])
@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--retain", "90"),
        ("--retain", "0d"),
        ("--retain", "soon"),
        ("--retain-size", "10XB"),
        ("--retain-size", "1.5GB"),
    ],
)
def test_a_measure_without_a_sense_is_refused(
    huskies: Run, command: str, flag: str, value: str, tmp_path: Path
) -> None:
    outcome = huskies(command, flag, value, "--data-dir", tmp_path)
    assert outcome.status == 2
    assert "expected a number and a unit" in outcome.stderr


def test_a_gateway_started_with_a_size_keeps_the_newest(start: Start, tmp_path: Path) -> None:
    data = fill(tmp_path / "data", *("x" * 15_000 for _ in range(100)))
    process = start("gateway", "--port", "0", "--data-dir", data, HUSKIES_RETAIN_SIZE="1MB")
    url = process.line("gateway").split()[-1]
    process.line("retained no more", "stderr")
    page = answer(f"{url}/gateway/events")
    assert page["gap"]["from"] == 1
    assert 40 < len(page["events"]) < 70
