"""What the operations of the OpenAPI document are put together of."""

from __future__ import annotations

from typing import Any, Final

ERRORS: Final = {
    "400": "A parameter is not what it should be.",
    "401": "The token is missing, unknown, used, revoked or expired.",
    "403": "The token does not let you, or the request comes from a page of another origin.",
    "409": "The cursor is of another log, or of this one before it was restored: start from `after=0`.",
    "422": "A parameter is not what it should be.",
    "429": "Too much came from this address, or the sleds of this project connect too often or are too many.",
    "404": "There is nothing of this name, or what there is is not so.",
    "408": "The body did not come in time.",
    "502": "The container engine, or git, did not do what it was asked for.",
    "426": "The endpoint is a WebSocket.",
    "507": "The project is over its quota.",
    "503": "The gateway cannot take this now.",
}


def operation(name: str, summary: str, schema: str, *errors: str) -> dict[str, Any]:
    """One that answers 200 with this schema, or one of these statuses."""
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": content(schema)},
            **{code: {"description": ERRORS[code], "content": content("ErrorAnswer")} for code in errors},
        },
    }


def read(name: str, summary: str, schema: str, *errors: str) -> dict[str, Any]:
    """An `operation` for who may read."""
    return readable(operation(name, summary, schema, *errors))


def readable(operation: dict[str, Any]) -> dict[str, Any]:
    """Who may read; on loopback and without tokens anyone."""
    refused = {
        code: {"description": ERRORS[code], "content": content("ErrorAnswer")}
        for code in ("401", "403", "429")
    }
    responses = {**operation["responses"], **refused}
    return {**operation, "responses": responses, "security": [{"token": []}, {"login": []}, {}]}


def text(name: str, summary: str, content_type: str) -> dict[str, Any]:
    """One that answers 200 with what is no JSON of a schema."""
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {content_type: {}}}},
    }


def query(name: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": required, "schema": schema}


def content(schema: str) -> dict[str, Any]:
    """A body of JSON."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
