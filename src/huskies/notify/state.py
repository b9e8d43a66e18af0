"""What the notifier remembers between events: rows, of which only those that changed are written. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

from huskies.notify.rules import Doubtful
from huskies.notify.seen import Seen

# Why messages are told together, later: what came late, quiet hours, a digest, the end of a muting, the
# notifier's own start, events that nobody has any more, what the board alone says, and a flood.
Why: TypeAlias = Literal["replay", "quiet", "digest", "mute", "start", "gap", "board", "flood"]

# Of what is told together, so much is told one by one.
LINES_MAX: Final = 20
ABOUT_MAX: Final = 100


class Told(msgspec.Struct, frozen=True):
    """The message that told a channel of something; `alone`: of nothing else."""

    delivery_id: str
    alone: bool


class Due(msgspec.Struct, frozen=True):
    """A step of an escalation that is still to come, at `at_ms`, after so long."""

    at_ms: int
    after_ms: int
    channel: str
    doubtful: Doubtful | None = None


class Problem(msgspec.Struct, frozen=True):
    """A story that is blocked, or failed to merge, and who knows of it.

    `since_ms` is when it began, `at_ms` the time of the newest event that says so, `noted_ms` when the
    notifier read of it. `seq` is 0 where the board alone said so. `waits` are the collections (by key) that
    will name it.
    """

    project: str
    story_id: str
    story_name: str
    kind: str
    reason: str
    since_ms: int
    at_ms: int
    noted_ms: int
    sled_id: str = ""
    epoch: str = ""
    seq: int = 0
    told: dict[str, Told] = {}
    waits: tuple[str, ...] = ()
    escalations: tuple[Due, ...] = ()

    @property
    def key(self) -> str:
        """Its row."""
        return problem_key(self.project, self.story_id, self.kind)

    @property
    def identity(self) -> str:
        """The event that said so."""
        if not self.seq:
            return f"board/{self.key}/{self.since_ms}"
        return f"{self.sled_id}/{self.epoch}/{self.seq}"


class Collection(msgspec.Struct, frozen=True):
    """What is told together, once `due_ms` is past and no quiet hours are in the way.

    Those of one `group` become one message, each being of one project: what is muted when it comes due is
    left out. It is of no project in particular where `project` is empty; `scope` tells collections of one
    channel and reason apart. `digest` covers the identities of all events in it, of which `about` names the
    first. `wanted`: how many of them some rule asks for. `from_ms`, `to_ms`: when the events happened, on
    their sleds; `sled_id` is the one that the last came from.
    """

    channel: str
    why: Why
    scope: str
    project: str
    first_ms: int
    due_ms: int
    counts: dict[str, int] = {}
    events: int = 0
    wanted: int = 0
    digest: str = ""
    about: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    from_ms: int = 0
    to_ms: int = 0
    sled_id: str = ""
    doubtful: Doubtful | None = None

    @property
    def key(self) -> str:
        """Its row."""
        return collection_key(self.channel, self.why, self.scope)

    @property
    def group(self) -> tuple[str, str, str]:
        """What it is told together with."""
        return self.channel, self.why, self.scope.removesuffix(scope_within("", self.project))


class Recent(msgspec.Struct, frozen=True):
    """When a channel was last told of such a thing, and what it was not told since: `held` messages."""

    at_ms: int
    held: int = 0
    due_ms: int = 0
    problem: str = ""
    draft: Draft | None = None


class Mute(msgspec.Struct, frozen=True):
    """A project of which nobody is told until then."""

    until_ms: int


class Missed(msgspec.Struct, frozen=True):
    """Events were missed, the last of them then; the board has not been asked since for what they said."""

    at_ms: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was decided on. `edits`, `thread`: deliveries that it replaces, or belongs under.

    `state`: `queued`, or `muted` or `overtaken` where it is written down and not sent.
    """

    delivery_id: str
    channel: str
    project: str
    kind: str
    subject: str
    text: str
    html: str
    about: tuple[str, ...]
    queued_ms: int
    edits: str | None = None
    thread: str | None = None
    urgent: bool = False
    doubtful: Doubtful | None = None
    state: str = "queued"


def problem_key(project: str, story_id: str, kind: str) -> str:
    """The row of a problem; a project's name holds no slash."""
    return f"{project}/{kind}/{story_id}"


def collection_key(channel: str, why: str, scope: str) -> str:
    """The row of a collection; none of the three holds a slash."""
    return f"{channel}/{why}/{scope}"


def scope_within(group: str, project: str) -> str:
    """The scope of what is told with others of a group; a project's name holds no colon."""
    return f"{group}:{project}"


_Row = TypeVar("_Row", Problem, Collection, Recent, Mute, Missed)


class Table(Generic[_Row]):
    """Rows by key, and which of them changed since they were kept."""

    def __init__(self, shape: type[_Row], rows: Mapping[str, bytes]) -> None:
        self._rows: dict[str, _Row] = {
            key: msgspec.json.decode(value, type=shape) for key, value in rows.items()
        }
        self._changed: set[str] = set()

    def get(self, key: str) -> _Row | None:
        """The row, if there is one."""
        return self._rows.get(key)

    def put(self, key: str, row: _Row) -> None:
        """Set the row."""
        self._rows[key] = row
        self._changed.add(key)

    def drop(self, key: str) -> None:
        """Remove the row, if there is one."""
        if self._rows.pop(key, None) is not None:
            self._changed.add(key)

    def rows(self) -> list[_Row]:
        """All rows, in the order in which they came; the table may be changed meanwhile."""
        return list(self._rows.values())

    def items(self) -> list[tuple[str, _Row]]:
        """All rows with their keys."""
        return list(self._rows.items())

    def __len__(self) -> int:
        return len(self._rows)

    def has_changed(self) -> bool:
        """Whether any row has."""
        return bool(self._changed)

    def changed(self) -> Iterator[tuple[str, bytes | None]]:
        """Each row that changed since `kept`, as it is to be kept; None: not any more."""
        for key in self._changed:
            row = self._rows.get(key)
            yield key, None if row is None else msgspec.json.encode(row)

    def kept(self) -> None:
        """All of it is durable now."""
        self._changed.clear()


TABLES: Final = ("problems", "collections", "recents", "mutes", "missed")
Kept: TypeAlias = Mapping[str, Mapping[str, bytes]]


class State:
    """All that is remembered; `kept` is what an earlier process wrote, by table and key."""

    def __init__(self, kept: Kept, seen: Seen) -> None:
        self.seen = seen
        self.problems = Table(Problem, kept.get("problems", {}))
        self.collections = Table(Collection, kept.get("collections", {}))
        self.recents = Table(Recent, kept.get("recents", {}))
        self.mutes = Table(Mute, kept.get("mutes", {}))
        # One row at most.
        self.missed = Table(Missed, kept.get("missed", {}))

    def muted_until(self, project: str, now_ms: int) -> int | None:
        """Until when a project is muted; None: it is not."""
        mute = self.mutes.get(project)
        return mute.until_ms if mute is not None and mute.until_ms > now_ms else None

    def has_changed(self) -> bool:
        """Whether anything has, here or of what was seen."""
        return self.seen.has_changed() or any(getattr(self, name).has_changed() for name in TABLES)

    def changed(self) -> Iterator[tuple[str, str, bytes | None]]:
        """Table, key and value of each row that changed since `kept`; None: drop it."""
        for name in TABLES:
            for key, value in getattr(self, name).changed():
                yield name, key, value

    def kept(self) -> None:
        """All of it, and of what was seen, is durable now."""
        self.seen.kept()
        for name in TABLES:
            getattr(self, name).kept()
