"""The events that everything here is measured with: the stage transition of SPEC 2, 148 bytes."""

from __future__ import annotations

from collections.abc import Sequence

EVENT_BYTES = 148


def project_names(count: int) -> list[str]:
    return [f"p{number:02d}" for number in range(count)]


def event_json(story: int, project: str) -> bytes:
    """An event of a story, numbered below 10,000; the project's name should have three characters."""
    return (
        b'{"type":"stage_transition","story_id":"%04d_story_%b","story_name":"Login","from_stage":"2_current",'
        b'"to_stage":"3_qa","timestamp_ms":%d}' % (story, project.encode(), 1_700_000_000_000 + story)
    )


def frame_tails(project: str, stories: int, events: int) -> Sequence[bytes]:
    """What follows `first_seq` in frames of so many events, which go round all of a project's stories."""
    frames = max(1, -(-stories // events))
    numbers = [[(frame * events + at) % stories for at in range(events)] for frame in range(frames)]
    return [b"[%b]}" % b",".join(event_json(story, project) for story in row) for row in numbers]
