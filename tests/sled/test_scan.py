from __future__ import annotations

import time
from typing import Any

import pytest

from huskies.events.model import MergeFailure, StageTransition, StatusEvent, StoryBlocked
from huskies.sled.order import in_order
from huskies.sled.scan import (
    DELETION_SETTLES,
    Changes,
    Deletions,
    Look,
    SeenStory,
    diff,
    problem_of,
    story_id_of,
)
from huskies.sled.story_file import StoryContent, parse_story


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", StoryContent()),
        ("---\nname: Login\n---\n# Other\n", StoryContent(name="Login")),
        ("# The heading #\n", StoryContent(name="The heading")),
        ("intro\n\n## Second level\n# First\n", StoryContent(name="Second level")),
        ("#no heading\n#\n", StoryContent()),
        ("```\n# a comment\n```\n# Real\n", StoryContent(name="Real")),
        ("---\nname:\n---\n# H\n", StoryContent(name="H")),
        ("---\nname: [a, b]\n---\n# H\n", StoryContent(name="H")),
        ("---\nname: 1.10\n---\n", StoryContent(name="1.10")),
        ('---\nname: "two\\nlines"\n---\n', StoryContent(name="two lines")),
        ("---\nname: [broken\nblocked: x\n---\n# H\n", StoryContent(name="[broken", blocked="x")),
        ("---\nblocked: waiting for: a key\n---\n", StoryContent(blocked="waiting for: a key")),
        ("---\nblocked: @bob says no\n---\n", StoryContent(blocked="@bob says no")),
        ("---\nname: [Login\nblocked: null\n---\n", StoryContent(name="[Login")),
        ("---\nblocked: - x\n---\n", StoryContent(blocked="- x")),
        ("---\nname: never closed\n# H\n", StoryContent(name="H")),
        ("---\n- a\n- b\n---\n# H\n", StoryContent(name="H")),
        (
            "---\r\nname: Windows\r\nblocked: yes it is\r\n---\r\n",
            StoryContent(name="Windows", blocked="yes it is"),
        ),
        ("\ufeff---\nname: With a mark\n---\n", StoryContent(name="With a mark")),
        ("---\nblocked: no key\n---\n", StoryContent(blocked="no key")),
        ("---\nblocked: false\nmerge_failure: ~\n---\n", StoryContent()),
        ("---\nblocked: ''\nmerge_failure: null\n---\n", StoryContent()),
        ("---\nblocked: true\n---\n", StoryContent(blocked="true")),
        ("---\nblocked: 'false'\n---\n", StoryContent(blocked="false")),
        ("---\nblocked: 12\n---\n", StoryContent(blocked="12")),
        ("---\nblocked: |\n  one\n  two\n---\n", StoryContent(blocked="one\ntwo")),
        (
            "---\nblocked: {a: b}\nmerge_failure: conflict\n---\n",
            StoryContent(blocked="{a: b}", merge_failure="conflict"),
        ),
        ("---\nmeta: {blocked: x, name: y}\nname: N\n---\n", StoryContent(name="N")),
        ("---\n? [complex]\n: name\nname: N\n---\n", StoryContent(name="N")),
        ("---\nx: &a 1\nname: *a\n---\n# H\n", StoryContent(name="H")),
        ("---\nname: !!python/object:os.system x\n---\n", StoryContent(name="x")),
    ],
)
def test_what_a_story_file_says(text: str, expected: StoryContent) -> None:
    assert parse_story(text.encode()) == expected


@pytest.mark.parametrize(
    "text", ["[" * 60_000, "{a: " * 15_000, "- " * 30_000, "? " * 30_000, "&a " * 20_000]
)
def test_deep_front_matter_neither_crashes_nor_hides_the_heading(text: str) -> None:
    assert parse_story(f"---\n{text}\n---\n# H\n".encode()).name == "H"


def test_front_matter_beyond_the_limit_is_none() -> None:
    assert parse_story(b"---\nname: N\nx: " + b"y" * 70_000 + b"\n---\n# H\n").name in ("H", "")


def test_bytes_that_are_no_text() -> None:
    assert parse_story(b"# caf\xe9\n").name == "caf\ufffd"


def test_long_texts_are_shortened() -> None:
    content = parse_story(f"---\nname: {'n' * 2_000}\nblocked: {'b' * 20_000}\n---\n".encode())
    assert content.blocked is not None
    assert (len(content.name), len(content.blocked)) == (1_024, 16_384)
    assert "shortened from" in content.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("42_story_login.md", "42_story_login"),
        ("a b.md", "a b"),
        (".hidden.md", None),
        (".md", None),
        (".#42_story_login.md", None),
        (".42_story_login.md.swp", None),
        ("42_story_login.md~", None),
        ("4913", None),
        ("notes.txt", None),
    ],
)
def test_which_files_are_stories(name: str, expected: str | None) -> None:
    assert story_id_of(name) == expected


def test_story_ids_that_cannot_be_followed() -> None:
    assert problem_of("x" * 256) is None
    assert "257" in str(problem_of("x" * 257))
    assert problem_of("bad\udcff") is not None


def seen(stage: str, **content: str) -> SeenStory:
    return SeenStory(story_id="s", stage=stage, content=StoryContent(**content))


def moved(from_stage: str, to_stage: str, name: str = "") -> StageTransition:
    return StageTransition(story_id="s", story_name=name, from_stage=from_stage, to_stage=to_stage)


QA, DONE, CURRENT = "3_qa", "5_done", "2_current"
Places = dict[str, StoryContent | None]


@pytest.mark.parametrize(
    ("before", "places", "events", "after"),
    [
        pytest.param(None, {QA: StoryContent(blocked="x")}, [], seen(QA, blocked="x"), id="first seen"),
        pytest.param(seen(QA), {QA: StoryContent()}, [], None, id="unchanged"),
        pytest.param(seen(QA), {QA: StoryContent(name="N")}, [], seen(QA, name="N"), id="renamed"),
        pytest.param(
            seen(QA, name="old"),
            {DONE: StoryContent(name="new")},
            [moved(QA, DONE, "new")],
            seen(DONE, name="new"),
            id="moved",
        ),
        pytest.param(
            seen(QA),
            {DONE: StoryContent(blocked="b", merge_failure="m")},
            [
                moved(QA, DONE),
                StoryBlocked(story_id="s", reason="b"),
                MergeFailure(story_id="s", reason="m"),
            ],
            seen(DONE, blocked="b", merge_failure="m"),
            id="moved and blocked",
        ),
        pytest.param(
            seen(QA, blocked="b"),
            {DONE: StoryContent(blocked="b")},
            [moved(QA, DONE)],
            seen(DONE, blocked="b"),
            id="moved, still blocked",
        ),
        pytest.param(
            seen(QA, merge_failure="m"),
            {DONE: StoryContent(merge_failure="m")},
            [moved(QA, DONE)],
            seen(DONE, merge_failure="m"),
            id="moved, still not mergeable",
        ),
        pytest.param(
            seen(QA, blocked="a"),
            {QA: StoryContent(blocked="b")},
            [StoryBlocked(story_id="s", reason="b")],
            seen(QA, blocked="b"),
            id="another reason",
        ),
        pytest.param(seen(QA, blocked="a"), {QA: StoryContent()}, [moved(QA, QA)], seen(QA), id="unblocked"),
        pytest.param(
            seen(QA, merge_failure="m"), {QA: StoryContent()}, [moved(QA, QA)], seen(QA), id="mergeable again"
        ),
        pytest.param(
            seen(QA, blocked="a", merge_failure="m"),
            {QA: StoryContent(blocked="a")},
            [moved(QA, QA)],
            seen(QA, blocked="a"),
            id="mergeable again, still blocked",
        ),
        pytest.param(
            seen(QA, blocked="a"),
            {DONE: StoryContent()},
            [moved(QA, DONE)],
            seen(DONE),
            id="moved and unblocked",
        ),
        pytest.param(
            seen(QA, blocked="a"),
            {QA: StoryContent(merge_failure="m")},
            [moved(QA, QA), MergeFailure(story_id="s", reason="m")],
            seen(QA, merge_failure="m"),
            id="unblocked but not mergeable",
        ),
        pytest.param(
            seen(QA), {QA: StoryContent(), DONE: StoryContent(name="c")}, [], None, id="copied: stays"
        ),
        pytest.param(
            seen(CURRENT),
            {QA: StoryContent(), DONE: StoryContent()},
            [moved(CURRENT, DONE)],
            seen(DONE),
            id="gone, in two others: the later one",
        ),
        pytest.param(
            None, {QA: StoryContent(), DONE: StoryContent()}, [], seen(DONE), id="first seen in two"
        ),
        pytest.param(seen(QA, blocked="b"), {QA: None}, [], None, id="unreadable"),
        pytest.param(
            seen(QA, name="n"),
            {DONE: None},
            [moved(QA, DONE, "n")],
            seen(DONE, name="n"),
            id="moved, unreadable",
        ),
        pytest.param(None, {QA: None}, [], None, id="never read"),
    ],
)
def test_what_a_look_changes(
    before: SeenStory | None, places: Places, events: list[StatusEvent], after: SeenStory | None
) -> None:
    changes = diff({} if before is None else {"s": before}, Look(stories={"s": places}))
    assert changes.events == events
    assert changes.seen == ([] if after is None else [after])
    assert changes.gone == []


def test_the_same_look_again_changes_nothing() -> None:
    look = Look(stories={"s": {QA: StoryContent(), DONE: StoryContent()}})
    first = diff({"s": seen(CURRENT)}, look)
    assert not diff({"s": first.seen[0]}, look)


def test_the_snapshot_is_due_where_events_do_not_say_it_all() -> None:
    def unsaid(before: SeenStory | None, stage: str, **content: str) -> bool:
        look = Look(stories={"s": {stage: StoryContent(**content)}})
        return diff({} if before is None else {"s": before}, look).unsaid

    assert unsaid(None, QA)
    assert unsaid(seen(QA), QA, name="renamed")
    assert unsaid(seen(QA, blocked="b"), DONE, blocked="b")
    assert not unsaid(seen(QA), DONE)
    assert not unsaid(seen(QA), DONE, blocked="b")
    assert not unsaid(seen(QA, merge_failure="m"), QA, merge_failure="m", blocked="b")


def test_the_snapshot_is_due_for_any_of_the_stories() -> None:
    new, settled = {QA: StoryContent()}, {DONE: StoryContent()}
    for stories in ({"r": new, "s": settled}, {"s": settled, "t": new}):
        changes = diff({"s": seen(QA)}, Look(stories=stories))
        assert changes.events == [moved(QA, DONE)]
        assert changes.unsaid


def test_a_story_stays_where_nothing_can_be_listed() -> None:
    look = Look(stories={"s": {DONE: StoryContent()}}, unreadable=frozenset({QA}))
    assert not diff({"s": seen(QA)}, look)


def test_stories_of_a_stage_that_cannot_be_listed_are_not_gone() -> None:
    look = Look(stories={}, unreadable=frozenset({QA}))
    assert diff({"s": seen(QA)}, look).gone == []
    assert diff({"s": seen(DONE)}, look).gone == ["s"]


def test_a_deletion_counts_once_the_story_has_stayed_away() -> None:
    deletions = Deletions()
    assert deletions.next_due() is None
    assert deletions.settled(["s"], 10.0) == []
    assert deletions.next_due() == 10.0 + DELETION_SETTLES
    assert deletions.settled([], 11.0) == []
    assert deletions.settled(["s"], 12.0) == []
    assert deletions.settled(["s"], 12.0 + DELETION_SETTLES) == ["s"]


@pytest.mark.parametrize(
    ("begin", "end"),
    [("# A", "#"), ("# A", "x"), ("---\nblocked: [\nname:", "\n---"), ("---\nblocked: [\nname: a", "b\n---")],
)
def test_a_long_line_of_blanks_takes_no_time(begin: str, end: str) -> None:
    # The time of a processor, and a hundred times what it takes: what grew with the square took minutes.
    began = time.process_time()
    parse_story(f"{begin}{' ' * 60_000}{end}".encode())
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("## Two words  ##  ", "Two words"),
        ("# C#", "C#"),
        ("# C # #", "C #"),
        ("# #", ""),
        ("#", ""),
        ("####### Seven", ""),
        ("   #\tT\t", "T"),
    ],
)
def test_what_a_heading_is(line: str, heading: str) -> None:
    assert parse_story(line.encode()).name == heading


def changes_of(*story_ids: str, **more: Any) -> Changes:
    """Each of these was moved."""
    return Changes(
        events=[StageTransition(story_id=one, from_stage="2_current", to_stage="3_qa") for one in story_ids],
        seen=[SeenStory(story_id=one, stage="3_qa", content=StoryContent()) for one in story_ids],
        **more,
    )


def test_changes_stand_among_what_was_emitted_by_when_they_happened() -> None:
    found = changes_of("a", "b", "c", "d", gone=["e"], unsaid=True)
    # When `b` changed is not known.
    changed_ns = {"a": 25, "c": 5, "d": 26}
    assert in_order(found, changed_ns, [10, 20, 30]) == [
        (0, changes_of("b", "c")),
        (2, changes_of("a", "d")),
        (3, changes_of(gone=["e"], unsaid=True)),
    ]
    assert in_order(found, changed_ns, []) == [(0, found)]
    assert in_order(changes_of("a", unsaid=True), {"a": 15}, [10, 20]) == [(1, changes_of("a", unsaid=True))]


def test_nothing_that_changed_has_no_place() -> None:
    assert in_order(Changes(), {}, [10]) == []
