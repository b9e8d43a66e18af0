"""`GET /openapi.json`: the HTTP side in OpenAPI 3.1, its schemas taken from the code's own types."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huskies import __version__, limits
from huskies.containers.launch import Result
from huskies.containers.projects import ProjectContainer
from huskies.containers.wanted import Wanted
from huskies.events.model import EVENT_TYPES, RelayedEvent
from huskies.gateway import openapi_parts as parts
from huskies.gateway import openapi_projects
from huskies.gateway.access.gate import CONTAINERS_PATH, COOKIE, NOTIFICATIONS_PATH
from huskies.gateway.boards import ProjectView
from huskies.gateway.new_projects import ContainersAnswer, ProjectErrorAnswer, RemovedAnswer
from huskies.gateway.notifications import NotificationsAnswer, ResendAnswer
from huskies.gateway.peers.peers import PeerState
from huskies.gateway.stats_view import DAYS_MAX, OFFSET_MAX, STATS_PATH, StatsAnswer
from huskies.gateway.store.digests import DIGESTS_PATH, DigestsAnswer
from huskies.protocol import wire
from huskies.protocol.enrolment import ENROL_PATH, Enrolled, Enrolment
from huskies.protocol.peer_wire import PEERS_PATH
from huskies.storage.notifications import PAGE_MAX, STATES


class GatewayStatusEvent(msgspec.Struct):
    """One event of the log. `replayed`: it was recorded before the session that brought it began."""

    cursor: str
    project: str
    sled_id: str
    epoch: str
    seq: Annotated[int, Meta(ge=1)]
    received_ms: Annotated[int, Meta(ge=0)]
    replayed: bool
    event: RelayedEvent


class Gap(msgspec.Struct):
    """Positions that come before the page's events and are no longer retained, or damaged."""

    from_: int = msgspec.field(name="from")
    to: int


class EventsPage(msgspec.Struct):
    """A page of history; `next` is null where there is no more."""

    events: list[GatewayStatusEvent]
    next: str | None
    gap: Gap | msgspec.UnsetType = msgspec.UNSET


class ProjectsAnswer(msgspec.Struct):
    """All projects, as of the event at `cursor`."""

    projects: list[ProjectView]
    cursor: str


class PeersAnswer(msgspec.Struct):
    """This gateway's id, and how those that it replicates with stand.

    As a WebSocket (`huskies.peer.v1`) this is where other gateways connect, with the peer token as bearer.
    """

    gateway_id: str
    peers: list[PeerState]


class TokenAnswer(msgspec.Struct):
    """A join token, good for one push connection within `expires_in` seconds."""

    token: str
    expires_in: int


class ErrorAnswer(msgspec.Struct):
    """Why a request was refused."""

    error: str


class StatusAnswer(msgspec.Struct):
    """How the process is."""

    status: str


_TYPES: Final = (
    GatewayStatusEvent,
    EventsPage,
    ProjectsAnswer,
    PeersAnswer,
    DigestsAnswer,
    StatsAnswer,
    NotificationsAnswer,
    ResendAnswer,
    TokenAnswer,
    ErrorAnswer,
    StatusAnswer,
    Enrolment,
    Enrolled,
    Wanted,
    Result,
    ContainersAnswer,
    ProjectContainer,
    RemovedAnswer,
    ProjectErrorAnswer,
)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Huskies gateway",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            wire.TOKENS_PATH: {"post": _make_token()},
            wire.PUSH_PATH: {"get": _push()},
            wire.EVENTS_PATH: {"get": _events()},
            wire.PROJECTS_PATH: {
                "get": parts.read("projects", "Every project.", "ProjectsAnswer"),
                "post": openapi_projects.new_project(),
            },
            f"{wire.PROJECTS_PATH}/{{name}}": {"delete": openapi_projects.remove_project()},
            f"{wire.PROJECTS_PATH}/{{name}}/stop": {
                "post": openapi_projects.of_project("stop", "ProjectContainer")
            },
            f"{wire.PROJECTS_PATH}/{{name}}/start": {
                "post": openapi_projects.of_project("start", "ProjectContainer")
            },
            f"{wire.PROJECTS_PATH}/{{name}}/logs": {"get": openapi_projects.project_logs()},
            CONTAINERS_PATH: {"get": openapi_projects.containers()},
            PEERS_PATH: {
                "get": parts.read("peers", "The gateways that this one replicates with.", "PeersAnswer")
            },
            STATS_PATH: {"get": _stats()},
            DIGESTS_PATH: {"get": _digests()},
            NOTIFICATIONS_PATH: {"get": _notifications()},
            f"{NOTIFICATIONS_PATH}/{{id}}/resend": {"post": _resend()},
            "/healthz": {"get": parts.operation("health", "Whether the process is alive.", "StatusAnswer")},
            "/readyz": {"get": _ready()},
            "/metrics": {"get": parts.readable(parts.text("metrics", "Prometheus metrics.", "text/plain"))},
            ENROL_PATH: {"post": _enrol()},
            "/login": {
                "get": _login_page(),
                "post": _log_in(),
            },
            "/logout": {"post": _redirect("logout", "End the session that the cookie names.")},
            "/openapi.json": {"get": parts.text("openapi", "This document.", "application/json")},
            "/": {"get": _dashboard()},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "sledToken": {"type": "http", "scheme": "bearer", "description": "One per project."},
                "joinToken": {"type": "http", "scheme": "bearer", "description": "One per connection."},
                "token": {"type": "http", "scheme": "bearer", "description": "With a scope that reads."},
                "login": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _redirect(name: str, summary: str) -> dict[str, Any]:
    errors = {"403": {"description": parts.ERRORS["403"], "content": parts.content("ErrorAnswer")}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"303": {"description": "Done; go there."}, **errors},
    }


def _login_page() -> dict[str, Any]:
    operation = parts.text("loginPage", "The page to log in on.", "text/html")
    operation["responses"]["303"] = {"description": "Anyone on this machine may read: go to the dashboard."}
    return operation


def _dashboard() -> dict[str, Any]:
    operation = parts.readable(parts.text("dashboard", "The dashboard.", "text/html"))
    # A browser is sent to where a person can log in.
    del operation["responses"]["401"]
    operation["responses"]["303"] = {"description": "Who may read is to be said: log in there."}
    return operation


def _log_in() -> dict[str, Any]:
    operation = _redirect("login", "Begin a session, for a browser, with a token that reads.")
    form = {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}
    for code in ("401", "403", "429"):
        content = {"text/html": {}, **parts.content("ErrorAnswer")}
        operation["responses"][code] = {"description": parts.ERRORS[code], "content": content}
    body = {"content": {"application/x-www-form-urlencoded": {"schema": form}}, "required": True}
    return {**operation, "requestBody": body}


def _enrol() -> dict[str, Any]:
    operation = parts.operation(
        "enrol", "Redeem an invitation for a sled's key.", "Enrolled", "403", "422", "429"
    )
    schema = {"$ref": "#/components/schemas/Enrolment"}
    return {
        **operation,
        "requestBody": {"content": {"application/json": {"schema": schema}}, "required": True},
    }


def _ready() -> dict[str, Any]:
    operation = parts.operation("ready", "Whether it serves.", "StatusAnswer")
    operation["responses"]["503"] = {
        "description": "It is stopping.",
        "content": parts.content("StatusAnswer"),
    }
    return operation


def _make_token() -> dict[str, Any]:
    operation = parts.operation("makeToken", "Ask for a join token.", "TokenAnswer", "401", "403", "503")
    return {**operation, "security": [{"sledToken": []}, {}]}


def _push() -> dict[str, Any]:
    errors = ("401", "403", "422", "426", "429", "507")
    return {
        "operationId": "push",
        "summary": f"A sled's WebSocket; it offers the subprotocol {wire.SUBPROTOCOL}, or none for v1.",
        "security": [{"joinToken": []}, {}],
        "parameters": [
            parts.query("project", {"type": "string"}, required=True),
            parts.query("token", {"type": "string", "description": "The join token, from older sleds."}),
        ],
        "responses": {
            "101": {"description": "The upgrade was accepted."},
            **{
                code: {"description": parts.ERRORS[code], "content": parts.content("ErrorAnswer")}
                for code in errors
            },
        },
    }


def _events() -> dict[str, Any]:
    operation = parts.read("events", "Events, as a page or as a stream.", "EventsPage", "409", "422")
    operation["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {
            "type": "string",
            "description": "`event: status` with a cursor as `id` and a GatewayStatusEvent as `data`; blocks "
            "with only an `id`; `event: reset`, `gap` and `error`.",
        }
    }
    whole = {"type": "integer", "minimum": 0, "maximum": limits.TIMESTAMP_MS_MAX}
    operation["parameters"] = [
        parts.query("after", {"type": "string", "description": "A cursor, or 0: from the beginning."}),
        parts.query(
            "before", {"type": "string", "description": "A cursor, or `latest`: newest first (a page)."}
        ),
        parts.query("limit", {"type": "integer", "minimum": 1, "maximum": limits.PAGE_EVENTS_MAX}),
        parts.query("project", {"type": "string"}),
        parts.query("type", {"type": "string", "enum": list(EVENT_TYPES)}),
        parts.query("story", {"type": "string"}),
        parts.query("since", whole),
        parts.query("until", whole),
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
    ]
    return operation


def _stats() -> dict[str, Any]:
    operation = parts.read("stats", "Counts of days, of stages and of projects.", "StatsAnswer", "422", "503")
    days = {"type": "integer", "minimum": 1, "maximum": DAYS_MAX, "description": "With today."}
    offset = {
        "type": "integer",
        "minimum": -OFFSET_MAX,
        "maximum": OFFSET_MAX,
        "description": "How far the viewer's clock is ahead of UTC: days begin at its midnight.",
    }
    operation["parameters"] = [
        parts.query("days", days),
        parts.query("project", {"type": "string", "description": "Only this one."}),
        parts.query("offset_minutes", offset),
    ]
    return operation


def _digests() -> dict[str, Any]:
    operation = parts.read("digests", "Digests of the log's sequences.", "DigestsAnswer", "422")
    operation["parameters"] = [
        parts.query("sled_id", {"type": "string", "description": "Only this sequence; with `epoch`."}),
        parts.query("epoch", {"type": "string"}),
        parts.query(
            "seq", {"type": "integer", "minimum": 1, "description": "Up to here, not to its newest."}
        ),
    ]
    return operation


def _notifications() -> dict[str, Any]:
    operation = parts.read("notifications", "What people were told.", "NotificationsAnswer", "422", "503")
    operation["parameters"] = [
        parts.query("state", {"type": "string", "enum": list(STATES)}),
        parts.query("channel", {"type": "string"}),
        parts.query("project", {"type": "string"}),
        parts.query(
            "before", {"type": "integer", "minimum": 1, "maximum": 2**53, "description": "A `next`."}
        ),
        parts.query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_MAX}),
    ]
    return operation


def _resend() -> dict[str, Any]:
    summary = "Send what did not arrive again; with `all` for the id, all of it."
    operation = parts.read("resendNotification", summary, "ResendAnswer", "404", "422", "503")
    schema = {"oneOf": [{"type": "integer", "minimum": 1, "maximum": 2**53}, {"const": "all"}]}
    operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": schema}]
    return operation
