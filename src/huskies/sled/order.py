"""In which order what one look found, and what was emitted since the look before, happened. Pure.

A transition clears what held a story up before it. So which came first, a move or an emitted block, decides
where the story stands, also when both are found at once: above all where no sled ran when they happened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence

from huskies.events.model import StatusEvent
from huskies.sled.scan import Changes, SeenStory


def in_order(
    changes: Changes, changed_ns: Mapping[str, int], emitted_ns: Sequence[int]
) -> list[tuple[int, Changes]]:
    """The changes in parts, each with how many of the emitted events come before it.

    `changed_ns`: when each story's file last changed; `emitted_ns`: ascending (both Unix ns). What is gone
    comes after everything that was emitted, for when it went shows nowhere.
    """
    places = {
        story.story_id: bisect_left(emitted_ns, changed_ns.get(story.story_id, 0)) for story in changes.seen
    }
    seen: defaultdict[int, list[SeenStory]] = defaultdict(list)
    events: defaultdict[int, list[StatusEvent]] = defaultdict(list)
    for story in changes.seen:
        seen[places[story.story_id]].append(story)
    for event in changes.events:
        events[places[event.story_id]].append(event)
    last = len(emitted_ns) if changes.gone else max(seen, default=0)
    return [
        (
            place,
            Changes(
                events=events[place],
                seen=seen[place],
                gone=changes.gone if place == last else (),
                unsaid=changes.unsaid and place == last,
            ),
        )
        for place in sorted({*seen, last} if changes else ())
    ]
