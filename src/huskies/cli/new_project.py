"""What `huskies project` asks of a gateway, and what it finds out on this machine for it."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from huskies.cli.client import ask, get, read_all, reason
from huskies.errors import ConfigError, GatewayUnreachableError, HuskiesError

if TYPE_CHECKING:
    from huskies.containers.wanted import Wanted

_PROJECTS: Final = "/gateway/projects"
# Seconds for an answer: a container takes that long to stop, or to start on a busy machine.
_LIMIT: Final = 90.0
# And between two lines of what goes on: a large clone, or an image that is built, says nothing for long.
_STEP_LIMIT: Final = 1_000.0
_GIT_LIMIT: Final = 10.0


def make(wanted: Wanted, gateway_url: str, *, as_json: bool) -> None:
    """Have it made; what goes on is shown on stderr, what comes of it on stdout. Raises `HuskiesError`."""
    import msgspec

    from huskies.logs import printable, printable_json

    body = msgspec.json.encode({key: value for key, value in msgspec.structs.asdict(wanted).items() if value})
    answer = ask(
        "POST",
        gateway_url,
        _PROJECTS,
        headers={"Accept": "application/x-ndjson"},
        body=body,
        timeout=_STEP_LIMIT,
    )
    for raw in _lines(answer, gateway_url):
        line = _decoded(raw, gateway_url)
        if as_json:
            click.echo(printable_json(raw))
        if "error" in line:
            left = f"; still there: {', '.join(map(str, line['left']))}" if line.get("left") else ""
            raise HuskiesError(f"{line['error']}{left}")
        if "result" in line:
            if not as_json:
                _show(line["result"])
            return
        if not as_json:
            click.echo(printable(f"{line.get('step', ''):<9}  {line.get('text', '')}"), err=True)
    raise GatewayUnreachableError(
        gateway_url, "it ended before it was done, and undoes what it did; try again"
    )


def run_line(wanted: Wanted, projects_dir: Path) -> str:
    """The `docker run …` that a gateway's request for the project comes to."""
    from huskies.config import DEFAULT_GATEWAY_URL, DEFAULT_HOST, MOUNTABLE_RULE, is_mountable
    from huskies.containers.images import image_tag
    from huskies.containers.launch import free_ports
    from huskies.containers.plan import (
        TOKEN_PLACEHOLDER,
        container_name,
        create_request,
        make_plan,
        run_arguments,
        stack_of,
    )

    if not is_mountable(str(projects_dir)):
        raise ConfigError("--projects-dir", f"expected {MOUNTABLE_RULE}; got {str(projects_dir)!r}")
    plan = make_plan(
        wanted,
        image=wanted.image or image_tag(stack_of(wanted)),
        directory=str(projects_dir / wanted.name),
        gateway_url=wanted.gateway_url or DEFAULT_GATEWAY_URL,
        sled_token=TOKEN_PLACEHOLDER,
        ports=free_ports(DEFAULT_HOST),
    )
    return shlex.join(run_arguments(container_name(wanted.name), create_request(plan)))


def git_config(key: str) -> str | None:
    """What this user's git configuration says; None where nothing, or where there is no git."""
    try:
        done = subprocess.run(  # noqa: S603 - no word of it is anyone else's
            ["git", "config", "--global", "--get", key],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            timeout=_GIT_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeError):
        return None
    return done.stdout.strip() or None


def public_key(path: Path | None) -> str | None:
    """The key in this file, or the user's own; None where there is none. Raises `InvalidProjectError`."""
    from huskies.containers.keys import own_ssh_key, read_ssh_key

    return own_ssh_key(Path.home()) if path is None else read_ssh_key(path)


def path_of(name: str, below: str = "") -> str:
    """Where a gateway has a project."""
    return f"{_PROJECTS}/{quote(name, safe='')}" + (f"/{below}" if below else "")


def asked(method: str, gateway_url: str, path: str, query: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
    """The JSON that a gateway answers; raises `HuskiesError`."""
    answer = ask(method, gateway_url, path, query=query, timeout=_LIMIT)
    return _decoded(read_all(answer, gateway_url), gateway_url)


def asked_for_text(gateway_url: str, path: str, query: Mapping[str, str]) -> str:
    """The text that a gateway answers; raises `HuskiesError`."""
    answer = get(gateway_url, path, query=query, timeout=_LIMIT)
    return read_all(answer, gateway_url).decode("utf-8", "replace")


def _lines(answer: HTTPResponse, gateway_url: str) -> Iterator[bytes]:
    try:
        while line := answer.readline():
            yield line
    except (OSError, ValueError) as error:
        raise GatewayUnreachableError(gateway_url, f"the answer broke off: {reason(error)}") from None


def _decoded(raw: bytes, gateway_url: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(raw)
    except ValueError:
        raise GatewayUnreachableError(
            gateway_url, "it answered what is no JSON; is this a Huskies gateway? Check --gateway-url"
        ) from None


def _show(result: Mapping[str, Any]) -> None:
    from huskies.logs import printable

    login = result["ssh"] or "no key may log in: name one with --ssh-key"
    rows = (
        (result["name"], result["url"]),
        ("log in", login),
        ("container", result["container"]),
        ("directory", result["directory"]),
    )
    width = max(len(str(title)) for title, _ in rows)
    click.echo(f"{result['name']} is there, and its sled is connected")
    for title, text in rows:
        click.echo(printable(f"{title:<{width}}  {text}"))
