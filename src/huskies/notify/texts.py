"""What messages say: plain text that reads well anywhere, and the same as safe HTML. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from html import escape
from typing import Final, NamedTuple

from huskies.durations import exact_duration
from huskies.events.codec import shorten
from huskies.events.model import (
    STAGES,
    RelayedEvent,
    RelayedRateLimitHardBlock,
    RelayedRateLimitWarning,
    StoredMergeFailure,
    StoredStageTransition,
    StoredStoryBlocked,
)
from huskies.logs import printable
from huskies.notify.state import Collection, Problem

# A reason may hold a whole log; the dashboard has all of it.
_REASON_MAX: Final = 2_000
_LINE_MAX: Final = 300
_NAMED_MAX: Final = 20
_COUNTED: Final = {
    "stage_transition": ("move", "moves"),
    "story_blocked": ("block", "blocks"),
    "merge_failure": ("merge failure", "merge failures"),
    "rate_limit_warning": ("rate-limit warning", "rate-limit warnings"),
    "rate_limit_hard_block": ("rate limit reached", "rate limits reached"),
}
HELD_UP: Final = {"story_blocked": "blocked", "merge_failure": "not merged"}


class Said(NamedTuple):
    """One message: `subject` is one line and says it all but for the details."""

    subject: str
    text: str
    html: str


def title(story_id: str, name: str) -> str:
    """What a story is called: its number, and its name or the rest of its id."""
    number, _, rest = story_id.partition("_")
    return _on_one_line(f"{number} {name or rest}".strip())


def of_event(project: str, event: RelayedEvent, zone: tzinfo | None, now_ms: int) -> Said:
    """What happened."""
    called = title(event.story_id, event.story_name)
    match event:
        case StoredStoryBlocked():
            return _said(project, f"{called} is blocked", event.reason)
        case StoredMergeFailure():
            return _said(project, f"{called} could not be merged", event.reason)
        case StoredStageTransition():
            if event.from_stage == event.to_stage:
                return _said(project, f"{called} goes on in {stage(event.to_stage)}")
            return _said(project, f"{called}: {stage(event.from_stage)} → {stage(event.to_stage)}")
        case RelayedRateLimitHardBlock():
            until = clock(int(event.reset_at.timestamp() * 1_000), zone, now_ms)
            return _said(project, f"{_agent(event.agent_name)} is rate limited until {until}, at {called}")
        case RelayedRateLimitWarning():
            return _said(project, f"{_agent(event.agent_name)} is close to its rate limit, at {called}")


def of_problem(problem: Problem, *, times: int = 1) -> Said:
    """That a story is held up, `times` meanwhile."""
    again = f" ({times} times)" if times > 1 else ""
    what = "is blocked" if problem.kind == "story_blocked" else "could not be merged"
    called = title(problem.story_id, problem.story_name)
    return _said(problem.project, f"{called} {what}{again}", problem.reason)


def of_repeats(said: Said, held: int) -> Said:
    """The newest of several messages, the others of which were not sent."""
    more = f"({held} like it)"
    return Said(f"{said.subject} {more}", f"{said.text}\n{more}", f"{said.html}<br>{more}")


def resolved(problem: Problem, event: StoredStageTransition) -> Said:
    """That a story goes on."""
    after = exact_duration(event.timestamp_ms - problem.since_ms)
    what = f"{title(problem.story_id, problem.story_name)} goes on in {stage(event.to_stage)}, after {after}"
    return _said(problem.project, what, f"was {HELD_UP[problem.kind]}: {problem.reason}")


def gone(problem: Problem, now_ms: int) -> Said:
    """That a story is not held up any more, as the board says without an event."""
    after = exact_duration(now_ms - problem.since_ms)
    what = f"{title(problem.story_id, problem.story_name)} is held up no more, after {after}"
    return _said(problem.project, what, f"was {HELD_UP[problem.kind]}: {problem.reason}")


def still(problem: Problem, now_ms: int) -> Said:
    """That a story is held up still."""
    for_ = exact_duration(now_ms - problem.since_ms)
    what = f"{title(problem.story_id, problem.story_name)} is still {HELD_UP[problem.kind]} after {for_}"
    return _said(problem.project, what, problem.reason)


def of_collection(found: Collection, held_up: list[Problem], zone: tzinfo | None, now_ms: int) -> Said:
    """Several events in one message, and which stories they leave held up."""
    subject = _subject(found, len(held_up))
    lines = [_happened(found, zone, now_ms)] if found.events and found.why != "gap" else []
    lines += [f"• {line}" for line in found.lines]
    # What was replayed is counted, and not told one by one.
    unsaid = 0 if found.why == "replay" else found.wanted - len(found.lines)
    if unsaid > 0 and found.lines:
        lines.append(f"… and {unsaid} more")
    if held_up:
        lines.append("held up now:")
        lines += [f"• {_named(problem, found.project)}" for problem in held_up[:_NAMED_MAX]]
        if len(held_up) > _NAMED_MAX:
            lines.append(f"… and {len(held_up) - _NAMED_MAX} more")
    elif found.why in {"replay", "quiet"}:
        lines.append("nothing of it is held up now")
    html = "<br>".join((f"<b>{escape(subject)}</b>", *(escape(line) for line in lines)))
    return Said(subject, "\n".join((subject, *lines)), html)


def gap_line(first: int | str, last: int | str) -> str:
    """That events were missed."""
    return _on_one_line(f"positions {first} to {last} of the log are kept no more, or damaged")


def line_of(said: Said) -> str:
    """A message as one line among several."""
    return line_of_subject(said.subject)


def line_of_subject(subject: str) -> str:
    """The same, of what is left of a message."""
    return shorten(subject, _LINE_MAX)


def stage(name: str) -> str:
    """`qa` for `3_qa`."""
    return name.partition("_")[2] if name in STAGES else _on_one_line(name)


def clock(unix_ms: int, zone: tzinfo | None, now_ms: int) -> str:
    """The time of day in the zone (None: this machine's), with the date where it is not today's."""
    try:
        moment = datetime.fromtimestamp(unix_ms / 1_000, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"
    today = datetime.fromtimestamp(now_ms / 1_000, UTC).astimezone(zone).date()
    return moment.strftime("%H:%M" if moment.date() == today else "%Y-%m-%d %H:%M")


def _subject(found: Collection, held_up: int) -> str:
    stories = f"{held_up} {'story is' if held_up == 1 else 'stories are'} held up"
    where = f"{found.project}: " if found.project else ""
    if found.why in {"start", "board"} or (found.why == "quiet" and not found.wanted):
        return f"{where}{stories} now"
    if found.why == "mute":
        return f"{where}{stories}; it was muted"
    what = {
        "gap": "events were missed",
        "replay": f"{_events(found.events)} came late",
        "quiet": f"{_events(found.wanted)} in quiet hours",
        "flood": f"{found.wanted:,} more in a minute",
        "digest": _events(found.wanted),
    }[found.why]
    return f"{where}{what}" + (f"; {stories}" if held_up else "")


def _happened(found: Collection, zone: tzinfo | None, now_ms: int) -> str:
    counts = ", ".join(
        f"{number} {words[number != 1]}"
        for kind, words in _COUNTED.items()
        if (number := found.counts.get(kind, 0))
    )
    first, last = clock(found.from_ms, zone, now_ms), clock(found.to_ms, zone, now_ms)
    return f"from {first} to {last}: {counts}" if first != last else f"at {first}: {counts}"


def _named(problem: Problem, project: str) -> str:
    where = "" if project else f"{problem.project}: "
    called = title(problem.story_id, problem.story_name)
    return shorten(f"{where}{called}: {HELD_UP[problem.kind]}: {_on_one_line(problem.reason)}", _LINE_MAX)


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _agent(name: str) -> str:
    return _on_one_line(name) or "an agent"


def _said(project: str, what: str, details: str = "") -> Said:
    lines = shorten(details.strip(), _REASON_MAX).splitlines()
    details = "\n".join(printable(line.expandtabs()) for line in lines)
    subject = f"{project}: {what}"
    html = f"<b>{escape(project)}</b>: {escape(what)}"
    if not details:
        return Said(subject, subject, html)
    broken = escape(details).replace("\n", "<br>")
    return Said(subject, f"{subject}\n{details}", f"{html}<br>{broken}")


def _on_one_line(text: str) -> str:
    return printable(" ".join(text.split()))
