from __future__ import annotations

import os
import subprocess
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from huskies.config import SledSettings
from huskies.events.model import STAGES, MergeFailure, StageTransition, StatusEvent, StoryBlocked
from huskies.sled import spool
from huskies.sled.broadcast import Missed
from huskies.sled.layout import Layout
from huskies.sled.service import Sled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.sled.conftest import Eventually

STORY = "42_story_login"


class Watched:
    """A running sled and all that it has published."""

    def __init__(self, sled: Sled) -> None:
        self.sled = sled
        self._subscription = sled.broadcaster.subscribe()
        self._events: list[StatusEvent | Missed] = []

    @property
    def events(self) -> list[StatusEvent | Missed]:
        queue = self._subscription._queue
        while queue:
            self._events.append(queue.popleft())
        return self._events

    def moves(self) -> list[tuple[str, str]]:
        return [(e.from_stage, e.to_stage) for e in self.events if isinstance(e, StageTransition)]

    def stories(self) -> dict[str, str]:
        assert self.sled._outbox is not None
        return {story.story_id: story.stage for story in self.sled._outbox.snapshot()[1]}


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Watched]]]:
    """Starts the sled of the project `shop`, and stops it before it starts it again."""
    (tmp_path / "shop").mkdir(exist_ok=True)
    running: list[Sled] = []

    async def start() -> Watched:
        if running:
            await running.pop().stop()
        sled = Sled(SledSettings(project_dir=tmp_path / "shop", port=0))
        running.append(sled)
        watched = Watched(sled)
        await sled.start()
        return watched

    yield start
    for sled in running:
        await sled.stop()


def move(layout: Layout, from_stage: str, to_stage: str, story_id: str = STORY) -> None:
    (layout.stage(from_stage) / f"{story_id}.md").rename(layout.stage(to_stage) / f"{story_id}.md")


def transition(from_stage: str, to_stage: str, name: str = "A story") -> StageTransition:
    return StageTransition(story_id=STORY, story_name=name, from_stage=from_stage, to_stage=to_stage)


async def test_a_file_that_moves_is_a_transition(
    layout: Layout, put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    put("1_backlog", STORY)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "1_backlog"})
    for number, (before, after) in enumerate(pairwise(STAGES), 1):
        move(layout, before, after)
        await eventually(partial(lambda count: len(watched.events) == count, number))
    assert watched.events == [transition(before, after) for before, after in pairwise(STAGES)]


async def test_an_editor_that_saves_by_renaming_blocks_and_unblocks(
    put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    path = put("3_qa", STORY)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "3_qa"})

    def save(text: str) -> None:
        draft = path.with_name(f".{path.name}.swp")
        draft.write_text(text)
        path.rename(path.with_name(f"{path.name}~"))
        draft.rename(path)

    save("---\nblocked: no key\n---\n# A story\n")
    await eventually(lambda: len(watched.events) == 1)
    save("---\nmerge_failure: conflict\n---\n# A story\n")
    await eventually(lambda: len(watched.events) == 3)
    assert watched.events == [
        StoryBlocked(story_id=STORY, story_name="A story", reason="no key"),
        transition("3_qa", "3_qa"),
        MergeFailure(story_id=STORY, story_name="A story", reason="conflict"),
    ]
    assert watched.stories() == {STORY: "3_qa"}


async def test_what_changed_while_no_sled_ran(
    layout: Layout, put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    put("1_backlog", STORY)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "1_backlog"})
    await watched.sled.stop()
    move(layout, "1_backlog", "2_current")
    put("2_current", STORY, "---\nname: New\nblocked: stuck\n---\n")
    watched = await start()
    await eventually(lambda: len(watched.events) == 2)
    assert watched.events == [
        transition("1_backlog", "2_current", "New"),
        StoryBlocked(story_id=STORY, story_name="New", reason="stuck"),
    ]


@pytest.mark.parametrize("moves_first", [True, False])
async def test_what_was_emitted_while_no_sled_ran_keeps_its_place(
    layout: Layout,
    put: Callable[..., Path],
    start: Callable[[], Awaitable[Watched]],
    eventually: Eventually,
    *,
    moves_first: bool,
) -> None:
    """A block stands that was emitted after the move, and one before it is over."""
    put("1_backlog", STORY)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "1_backlog"})
    await watched.sled.stop()
    blocked = StoryBlocked(story_id=STORY, reason="no key")
    if moves_first:
        move(layout, "1_backlog", "2_current")
        spool.write(layout, blocked)
    else:
        emitted_ns = spool.emitted_ns(spool.write(layout, blocked))
        # The times of files come in ticks.
        await eventually(lambda: time_of_a_change(layout.huskies / "probe") > emitted_ns)
        move(layout, "1_backlog", "2_current")
    watched = await start()
    await eventually(lambda: len(watched.events) == 2)
    moved = transition("1_backlog", "2_current")
    assert watched.events == ([moved, blocked] if moves_first else [blocked, moved])


def time_of_a_change(probe: Path) -> int:
    probe.touch()
    return probe.stat().st_ctime_ns


async def test_directories_that_appear_later(
    tmp_path: Path, start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    layout = Layout(tmp_path / "shop")
    watched = await start()
    assert not layout.work.exists()
    for stage in STAGES:
        layout.stage(stage).mkdir(parents=True)
    (layout.stage("1_backlog") / f"{STORY}.md").write_text("# A story\n")
    await eventually(lambda: watched.stories() == {STORY: "1_backlog"})
    move(layout, "1_backlog", "5_done")
    await eventually(lambda: watched.events == [transition("1_backlog", "5_done")])


async def test_a_checkout_that_moves_many_stories(
    layout: Layout, put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(
            ["git", *identity, *arguments], cwd=layout.project_dir, check=True, capture_output=True
        )

    count = 300
    for number in range(count):
        put("2_current", f"{number}_story", f"# Story {number}\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "current")
    git("checkout", "-b", "done")
    for number in range(count):
        move(layout, "2_current", "5_done", f"{number}_story")
    git("add", "-A", ".")
    git("commit", "-m", "done")
    git("checkout", "main")
    watched = await start()
    await eventually(lambda: set(watched.stories().values()) == {"2_current"})
    git("checkout", "done")
    await eventually(lambda: len(watched.events) == count)
    git("checkout", "main")
    await eventually(lambda: len(watched.events) == 2 * count)
    there, back = ("2_current", "5_done"), ("5_done", "2_current")
    assert watched.moves() == [there] * count + [back] * count
    assert len(watched.stories()) == count


async def test_a_deletion_settles_and_is_no_event(
    put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    path = put("3_qa", STORY)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "3_qa"})
    path.unlink()
    await eventually(lambda: watched.stories() == {})
    assert watched.events == []


async def test_copying_and_deleting_later_is_a_move(
    put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    path = put("3_qa", STORY)
    put("3_qa", "other")
    watched = await start()
    await eventually(lambda: len(watched.stories()) == 2)
    put("4_merge", STORY)
    # Seen after the copy, so the copy was seen too.
    put("4_merge", "third")
    await eventually(lambda: len(watched.stories()) == 3)
    assert watched.stories()[STORY] == "3_qa"
    path.unlink()
    await eventually(lambda: watched.events == [transition("3_qa", "4_merge")])


@pytest.mark.skipif(os.name == "nt", reason="links and permissions as POSIX has them")
async def test_what_is_no_story_is_ignored_and_said_once(
    layout: Layout,
    put: Callable[..., Path],
    start: Callable[[], Awaitable[Watched]],
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = layout.stage("3_qa")
    (stage / "directory.md").mkdir()
    (stage / "loop.md").symlink_to("loop.md")
    (stage / ".hidden.md").write_text("x")
    (stage / "notes.txt").write_text("x")
    os.mkfifo(stage / "pipe.md")
    put("3_qa", STORY)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "3_qa"})
    put("3_qa", "second")
    await eventually(lambda: len(watched.stories()) == 2)
    assert [
        record.message.count("loop.md") for record in caplog.records if "cannot be read" in record.message
    ] == [1]


async def test_a_file_that_an_editor_has_just_emptied_keeps_its_block(
    put: Callable[..., Path], start: Callable[[], Awaitable[Watched]], eventually: Eventually
) -> None:
    text = "---\nblocked: no key\n---\n# A story\n"
    path = put("3_qa", STORY, text)
    watched = await start()
    await eventually(lambda: watched.stories() == {STORY: "3_qa"})
    path.write_text("")
    put("3_qa", "second")
    await eventually(lambda: len(watched.stories()) == 2)
    path.write_text(text)
    put("3_qa", "third")
    await eventually(lambda: len(watched.stories()) == 3)
    assert watched.events == []
