"""What is shown of a story's life, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias

from huskies.logs import printable
from huskies.readers.fleet import StoryView
from huskies.readers.happening import what_happened
from huskies.readers.life import Happening, Life, Spell, time_of
from huskies.readers.times import exact_duration, local_time

Kind: TypeAlias = Literal["title", "heading", "alarm", "quiet", "plain"]
_NO_ONE_KNOWS: Final = "no one knows how long"


class Line(NamedTuple):
    """One line, already printable, and what kind of line it is."""

    text: str
    kind: Kind = "plain"


def life_lines(project: str, story: StoryView, life: Life, now_ms: int) -> Iterator[Line]:
    """Where the story stands, its stages, what held it up, and all its events."""
    now = datetime.fromtimestamp(now_ms / 1_000, UTC)
    yield Line(printable(f"{story.story_id}  {story.story_name}".rstrip()), "title")
    yield Line(f"{project}  {_stands(story, now_ms, now)}")
    for what, why, since_ms in (
        ("BLOCKED", story.blocked, story.blocked_since_ms),
        ("MERGE FAILED", story.merge_failure, story.merge_failure_since_ms),
    ):
        if why is not None:
            yield Line(f"{what} for {_ago(since_ms, now_ms)}: {printable(why)}", "alarm")
    yield from _stages(life, now_ms)
    yield from _held_up("Blocked", life.blocked, now_ms, now)
    yield from _held_up("Merge failed", life.merge_failures, now_ms, now)
    yield from _events(life.events, now)


def _stands(story: StoryView, now_ms: int, now: datetime) -> str:
    if story.stage is None:
        return "no one knows in which stage"
    if story.since_ms is None:
        return f"in {printable(story.stage)}, {_NO_ONE_KNOWS}"
    since = local_time(story.since_ms, now)
    return f"in {printable(story.stage)} for {_ago(story.since_ms, now_ms)}, since {since}"


def _stages(life: Life, now_ms: int) -> Iterator[Line]:
    times = life.time_in_stages(now_ms)
    if not times:
        return
    yield Line("")
    yield Line("Time in each stage", "heading")
    width = max(len(printable(stage)) for stage, _ in times)
    for stage, lasted in times:
        spent = _NO_ONE_KNOWS if lasted is None else exact_duration(lasted)
        yield Line(f"  {printable(stage):<{width}}  {spent}")


def _held_up(what: str, spells: Sequence[Spell], now_ms: int, now: datetime) -> Iterator[Line]:
    yield Line("")
    if not spells:
        yield Line(f"{what}: never", "heading")
        return
    times = "once" if len(spells) == 1 else f"{len(spells)} times"
    yield Line(f"{what} {times}, {exact_duration(time_of(spells, now_ms))} in all", "heading")
    for spell in spells:
        still = ", still" if spell.to_ms is None else ""
        begun = local_time(spell.from_ms or 0, now)
        yield Line(
            f"  {begun}  for {_ago(spell.from_ms, spell.to_ms or now_ms)}{still}  {printable(spell.what)}"
        )


def _events(events: Sequence[Happening], now: datetime) -> Iterator[Line]:
    yield Line("")
    yield Line(f"Events: {len(events)}" if events else "Events: none yet", "heading")
    for happening in events:
        what = printable(what_happened(happening.event, now))
        replayed = f"  (replayed, received {local_time(happening.received_ms, now)})"
        kind: Kind = "quiet" if happening.replayed else "plain"
        yield Line(
            f"  {local_time(happening.at_ms, now)}  {what}{replayed if happening.replayed else ''}", kind
        )


def _ago(since_ms: int | None, now_ms: int) -> str:
    return "?" if since_ms is None else exact_duration(now_ms - since_ms)
