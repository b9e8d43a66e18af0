"""What `POST /gateway/projects` takes, and what an engine, git and a command line are given of it."""

from __future__ import annotations

import shlex
from typing import Final

from fuzz.samples import JSON
from fuzz.target import Outcome, Target, always, refused, taken
from huskies.containers.errors import InvalidProjectError
from huskies.containers.plan import Ports, container_name, create_request, make_plan, run_arguments
from huskies.containers.wanted import parse

_SEEDS: Final = (
    b'{"name":"web-shop"}',
    b'{"name":"web-shop","git":null,"stack":"python","memory":"4g","cpus":1.5}',
    b'{"name":"a","git":"https://git.example/a.git","gateway_url":"http://127.0.0.1:3000","image":"x/y:1"}',
    b'{"name":"A.b_c","git":"git@git.example:team/a.git","git_name":"Ann","git_email":"a@team.example"}',
    b'{"name":"1","ssh_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHSoOu1mnKl4FqVYIbxfOvzDq ann"}',
)
_WORDS: Final = (
    *(
        b"ext::",
        b"file://",
        b"--privileged",
        b"../",
        b"-o",
        b"ssh://",
        b"@",
        b"\\n",
        b"\\u0000",
        b"[::1]",
        b"0.0.0.0",
    ),
    *(b"command=", b"host.docker.internal", b"/var/run/docker.sock", b"$(id)", b";", b"128m", b"1e400"),
)


def wanted(data: bytes) -> Outcome:
    """A body; nothing of what is taken is a flag, a path or a second line to whoever gets it."""
    try:
        found = parse(data)
    except InvalidProjectError as error:
        return refused(str(error).partition(";")[0])
    plan = make_plan(
        found,
        image=found.image or "huskies-base:1",
        directory=f"/srv/{found.name}",
        gateway_url=found.gateway_url or "http://127.0.0.1:3000",
        sled_token="husky_x",  # noqa: S106 - it is none
        ports=Ports("127.0.0.1", 1, 2),
    )
    request = create_request(plan)
    words = run_arguments(container_name(found.name), request)
    assert shlex.split(shlex.join(words)) == words
    assert all(word.isprintable() for word in words)
    assert not words[-1].startswith("-")
    assert "/" not in found.name
    assert not found.name.startswith((".", "-"))
    assert [line.partition("=")[0] for line in request["Env"][:3]] == [
        "HUSKIES_GATEWAY_URL",
        "HUSKIES_NAME",
        "HUSKIES_SLED_TOKEN",
    ]
    assert found.git is None or not found.git.startswith(("-", "ext:", "file:", "/"))
    return taken(" ".join(key for key in ("git", "stack", "image", "ssh_key") if getattr(found, key)))


TARGETS: Final = (Target(name="new-project", opened=always(wanted), seeds=_SEEDS, words=(*JSON, *_WORDS)),)
