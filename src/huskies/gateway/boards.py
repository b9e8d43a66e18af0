"""What `GET /gateway/projects` shows of each project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from huskies.gateway.fleet import Fleet, Project
from huskies.gateway.quota import Quota
from huskies.gateway.sessions import ProjectState, Sessions
from huskies.gateway.standing import Story
from huskies.gateway.store.log import Log
from huskies.gateway.store.streams import MissingRange
from huskies.protocol.peer_wire import Present


class StoryView(msgspec.Struct, frozen=True):
    """Where one story stands, and since when (Unix ms); null where it is not so, or no event has said yet."""

    story_id: str
    story_name: str
    stage: str | None
    since_ms: int | None
    blocked: str | None
    merge_failure: str | None
    blocked_since_ms: int | None
    merge_failure_since_ms: int | None


class ProjectView(msgspec.Struct, frozen=True):
    """One project: its sled, and where its stories stand.

    `log_bytes`: how much of the log it takes; `over_quota`: that is too much, and no more is taken of it.
    """

    name: str
    url: str | None
    connected: bool
    last_seen_ms: int | None
    outstanding: int | None
    identity_used_twice: bool
    log_bytes: int
    over_quota: bool
    missing: list[MissingRange]
    quarantined: list[MissingRange]
    stories: list[StoryView]


def project_views(
    urls: Mapping[str, str | None],
    fleet: Fleet,
    sessions: Sessions,
    log: Log,
    elsewhere: Mapping[str, Sequence[Present]],
) -> list[ProjectView]:
    """Every project that is listed, has ever pushed, or is connected, by name.

    `elsewhere`: the projects whose sleds are connected to other gateways, as those say.
    """
    missing, quarantined = log.sequences.missing(), log.sequences.quarantined()
    names = sorted({*urls, *fleet.projects, *sessions.projects(), *elsewhere})
    return [
        _view(
            name,
            urls.get(name),
            fleet.projects.get(name, Project()),
            _joined(sessions.state(name), elsewhere.get(name, ()), sessions.now_ms),
            missing.get(name, []),
            quarantined.get(name, []),
            sessions.quota,
        )
        for name in names
    ]


def _joined(state: ProjectState, elsewhere: Sequence[Present], now_ms: Callable[[], int]) -> ProjectState:
    """How a project's sleds stand, wherever they are connected."""
    if state.connected or not elsewhere:
        return state
    known = [entry.outstanding for entry in elsewhere if entry.outstanding is not None]
    return ProjectState(
        connected=True,
        outstanding=sum(known) if len(known) == len(elsewhere) else None,
        last_seen_ms=now_ms(),
        identity_used_twice=state.identity_used_twice,
    )


def _view(  # noqa: PLR0917 - one caller
    name: str,
    url: str | None,
    project: Project,
    state: ProjectState,
    missing: list[MissingRange],
    quarantined: list[MissingRange],
    quota: Quota,
) -> ProjectView:
    return ProjectView(
        name=name,
        url=url,
        connected=state.connected,
        last_seen_ms=state.last_seen_ms,
        outstanding=state.outstanding,
        identity_used_twice=state.identity_used_twice,
        missing=missing,
        quarantined=quarantined,
        log_bytes=quota.used(name),
        over_quota=name in quota.over,
        stories=[_story_view(story_id, story) for story_id, story in project.stories().items()],
    )


def _story_view(story_id: str, story: Story) -> StoryView:
    return StoryView(
        story_id=story_id,
        story_name=story.name,
        stage=story.stage,
        since_ms=story.since_ms,
        blocked=story.blocked,
        merge_failure=story.merge_failure,
        blocked_since_ms=story.blocked_since_ms,
        merge_failure_since_ms=story.merge_failure_since_ms,
    )
