"""The part of the OpenAPI document that is about projects in containers."""

from __future__ import annotations

from typing import Any

from huskies.gateway import openapi_parts as parts
from huskies.gateway.new_projects import LINES_MAX, NDJSON


def _of_containers(operation: dict[str, Any], *errors: str) -> dict[str, Any]:
    """What takes the scope admin, and a container engine."""
    refused = {code: parts.ERRORS[code] for code in ("401", "403", "429")}
    failed = {code: parts.ERRORS[code] for code in ("502", *errors)} | {"503": "No container engine answers."}
    responses = {
        **operation["responses"],
        **{
            code: {"description": text, "content": parts.content("ErrorAnswer")}
            for code, text in refused.items()
        },
        **{
            code: {"description": text, "content": parts.content("ProjectErrorAnswer")}
            for code, text in failed.items()
        },
    }
    return {**operation, "responses": responses, "security": [{"token": []}, {"login": []}, {}]}


def new_project() -> dict[str, Any]:
    """The operation."""
    operation = parts.operation("newProject", "Make a project in a container.", "Result")
    operation["responses"]["201"] = {"description": "It is there.", "content": parts.content("Result")}
    lines = {
        "type": "string",
        "description": '`{"step","text","done":false}` as it goes on; at the end `{"result":Result}` or a '
        "ProjectErrorAnswer; leaving before that gives it up.",
    }
    operation["responses"]["200"] = {"description": "Lines.", "content": {NDJSON: {"schema": lines}}}
    schema = {"$ref": "#/components/schemas/Wanted"}
    operation["requestBody"] = {"content": {"application/json": {"schema": schema}}, "required": True}
    operation = _of_containers(operation, "409", "422")
    operation["responses"]["409"]["description"] = "There is such a project."
    operation["responses"]["408"] = {
        "description": parts.ERRORS["408"],
        "content": parts.content("ErrorAnswer"),
    }
    return operation


def of_project(action: str, schema: str) -> dict[str, Any]:
    """What is done to one project's container; its answer has this schema."""
    operation = parts.operation(f"{action}Project", f"{action.capitalize()} a project's container.", schema)
    return _with_name(operation)


def _with_name(operation: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    operation = _of_containers(operation, "404", "409", "422")
    operation["responses"]["409"]["description"] = "It is just being made, or removed."
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {**operation, "parameters": [name, *parameters]}


def remove_project() -> dict[str, Any]:
    """The operation."""
    operation = parts.operation(
        "removeProject", "Remove a project's container and its token.", "RemovedAnswer"
    )
    flag = {"type": "boolean", "description": "Its directory, too, with everything in it."}
    history = {"type": "boolean", "description": "What its sleds said, too: nobody is shown it any more."}
    return _with_name(operation, parts.query("directory", flag), parts.query("history", history))


def project_logs() -> dict[str, Any]:
    """The operation."""
    operation = parts.text("projectLogs", "The last lines that a project's container wrote.", "text/plain")
    return _with_name(
        operation, parts.query("lines", {"type": "integer", "minimum": 0, "maximum": LINES_MAX})
    )


def containers() -> dict[str, Any]:
    """The operation."""
    return _of_containers(parts.operation("containers", "The containers of projects.", "ContainersAnswer"))
