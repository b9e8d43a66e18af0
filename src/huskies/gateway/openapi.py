"""`GET /openapi.json`: the HTTP side in OpenAPI 3.1, its schemas taken from the code's own types."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from huskies import __version__, limits
from huskies.events.model import EVENT_TYPES, RelayedEvent
from huskies.gateway.access.gate import COOKIE, NOTIFICATIONS_PATH
from huskies.gateway.boards import ProjectView
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
)
_ERRORS: Final = {
    "400": "A parameter is not what it should be.",
    "401": "The token is missing, unknown, used, revoked or expired.",
    "403": "The token does not let you, or the request comes from a page of another origin.",
    "404": "There is nothing of this name, or what there is is not so.",
    "409": "The cursor is of another log, or of this one before it was restored: start from `after=0`.",
    "422": "A parameter is not what it should be.",
    "429": "Too much came from this address, or the sleds of this project connect too often or are too many.",
    "426": "The endpoint is a WebSocket.",
    "507": "The project is over its quota.",
    "503": "The gateway cannot take this now.",
}


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
            wire.PROJECTS_PATH: {"get": _read("projects", "Every project.", "ProjectsAnswer")},
            PEERS_PATH: {"get": _read("peers", "The gateways that this one replicates with.", "PeersAnswer")},
            STATS_PATH: {"get": _stats()},
            DIGESTS_PATH: {"get": _digests()},
            NOTIFICATIONS_PATH: {"get": _notifications()},
            f"{NOTIFICATIONS_PATH}/{{id}}/resend": {"post": _resend()},
            "/healthz": {"get": _operation("health", "Whether the process is alive.", "StatusAnswer")},
            "/readyz": {"get": _ready()},
            "/metrics": {"get": _readable(_text("metrics", "Prometheus metrics.", "text/plain"))},
            ENROL_PATH: {"post": _enrol()},
            "/login": {
                "get": _login_page(),
                "post": _log_in(),
            },
            "/logout": {"post": _redirect("logout", "End the session that the cookie names.")},
            "/openapi.json": {"get": _text("openapi", "This document.", "application/json")},
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


def _operation(name: str, summary: str, schema: str, *errors: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": _content(schema)},
            **{code: {"description": _ERRORS[code], "content": _content("ErrorAnswer")} for code in errors},
        },
    }


def _read(name: str, summary: str, schema: str, *errors: str) -> dict[str, Any]:
    return _readable(_operation(name, summary, schema, *errors))


def _readable(operation: dict[str, Any]) -> dict[str, Any]:
    """Who may read; on loopback and without tokens anyone."""
    refused = {
        code: {"description": _ERRORS[code], "content": _content("ErrorAnswer")}
        for code in ("401", "403", "429")
    }
    responses = {**operation["responses"], **refused}
    return {**operation, "responses": responses, "security": [{"token": []}, {"login": []}, {}]}


def _redirect(name: str, summary: str) -> dict[str, Any]:
    errors = {"403": {"description": _ERRORS["403"], "content": _content("ErrorAnswer")}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"303": {"description": "Done; go there."}, **errors},
    }


def _login_page() -> dict[str, Any]:
    operation = _text("loginPage", "The page to log in on.", "text/html")
    operation["responses"]["303"] = {"description": "Anyone on this machine may read: go to the dashboard."}
    return operation


def _dashboard() -> dict[str, Any]:
    operation = _readable(_text("dashboard", "The dashboard.", "text/html"))
    # A browser is sent to where a person can log in.
    del operation["responses"]["401"]
    operation["responses"]["303"] = {"description": "Who may read is to be said: log in there."}
    return operation


def _log_in() -> dict[str, Any]:
    operation = _redirect("login", "Begin a session, for a browser, with a token that reads.")
    form = {"type": "object", "properties": {"token": {"type": "string"}}, "required": ["token"]}
    for code in ("401", "403", "429"):
        content = {"text/html": {}, **_content("ErrorAnswer")}
        operation["responses"][code] = {"description": _ERRORS[code], "content": content}
    body = {"content": {"application/x-www-form-urlencoded": {"schema": form}}, "required": True}
    return {**operation, "requestBody": body}


def _enrol() -> dict[str, Any]:
    operation = _operation("enrol", "Redeem an invitation for a sled's key.", "Enrolled", "403", "422", "429")
    schema = {"$ref": "#/components/schemas/Enrolment"}
    return {
        **operation,
        "requestBody": {"content": {"application/json": {"schema": schema}}, "required": True},
    }


def _ready() -> dict[str, Any]:
    operation = _operation("ready", "Whether it serves.", "StatusAnswer")
    operation["responses"]["503"] = {"description": "It is stopping.", "content": _content("StatusAnswer")}
    return operation


def _text(name: str, summary: str, content_type: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {content_type: {}}}},
    }


def _make_token() -> dict[str, Any]:
    operation = _operation("makeToken", "Ask for a join token.", "TokenAnswer", "401", "403", "503")
    return {**operation, "security": [{"sledToken": []}, {}]}


def _push() -> dict[str, Any]:
    errors = ("401", "403", "422", "426", "429", "507")
    return {
        "operationId": "push",
        "summary": f"A sled's WebSocket; it offers the subprotocol {wire.SUBPROTOCOL}, or none for v1.",
        "security": [{"joinToken": []}, {}],
        "parameters": [
            _query("project", {"type": "string"}, required=True),
            _query("token", {"type": "string", "description": "The join token, from older sleds."}),
        ],
        "responses": {
            "101": {"description": "The upgrade was accepted."},
            **{code: {"description": _ERRORS[code], "content": _content("ErrorAnswer")} for code in errors},
        },
    }


def _events() -> dict[str, Any]:
    operation = _read("events", "Events, as a page or as a stream.", "EventsPage", "409", "422")
    operation["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {
            "type": "string",
            "description": "`event: status` with a cursor as `id` and a GatewayStatusEvent as `data`; blocks "
            "with only an `id`; `event: reset`, `gap` and `error`.",
        }
    }
    whole = {"type": "integer", "minimum": 0, "maximum": limits.TIMESTAMP_MS_MAX}
    operation["parameters"] = [
        _query("after", {"type": "string", "description": "A cursor, or 0: from the beginning."}),
        _query("before", {"type": "string", "description": "A cursor, or `latest`: newest first (a page)."}),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": limits.PAGE_EVENTS_MAX}),
        _query("project", {"type": "string"}),
        _query("type", {"type": "string", "enum": list(EVENT_TYPES)}),
        _query("story", {"type": "string"}),
        _query("since", whole),
        _query("until", whole),
        {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
    ]
    return operation


def _stats() -> dict[str, Any]:
    operation = _read("stats", "Counts of days, of stages and of projects.", "StatsAnswer", "422", "503")
    days = {"type": "integer", "minimum": 1, "maximum": DAYS_MAX, "description": "With today."}
    offset = {
        "type": "integer",
        "minimum": -OFFSET_MAX,
        "maximum": OFFSET_MAX,
        "description": "How far the viewer's clock is ahead of UTC: days begin at its midnight.",
    }
    operation["parameters"] = [
        _query("days", days),
        _query("project", {"type": "string", "description": "Only this one."}),
        _query("offset_minutes", offset),
    ]
    return operation


def _digests() -> dict[str, Any]:
    operation = _read("digests", "Digests of the log's sequences.", "DigestsAnswer", "422")
    operation["parameters"] = [
        _query("sled_id", {"type": "string", "description": "Only this sequence; with `epoch`."}),
        _query("epoch", {"type": "string"}),
        _query("seq", {"type": "integer", "minimum": 1, "description": "Up to here, not to its newest."}),
    ]
    return operation


def _notifications() -> dict[str, Any]:
    operation = _read("notifications", "What people were told.", "NotificationsAnswer", "422", "503")
    operation["parameters"] = [
        _query("state", {"type": "string", "enum": list(STATES)}),
        _query("channel", {"type": "string"}),
        _query("project", {"type": "string"}),
        _query("before", {"type": "integer", "minimum": 1, "maximum": 2**53, "description": "A `next`."}),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_MAX}),
    ]
    return operation


def _resend() -> dict[str, Any]:
    summary = "Send what did not arrive again; with `all` for the id, all of it."
    operation = _read("resendNotification", summary, "ResendAnswer", "404", "422", "503")
    schema = {"oneOf": [{"type": "integer", "minimum": 1, "maximum": 2**53}, {"const": "all"}]}
    operation["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": schema}]
    return operation


def _query(name: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
