"""What someone wants of a new project, and what of it cannot be. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from huskies.containers.errors import InvalidProjectError
from huskies.errors import ConfigError
from huskies.events.names import is_project_name
from huskies.events.words import problem_in_words
from huskies.limits import PROJECT_NAME_MAX
from huskies.urls import gateway_base_url

STACKS: Final = ("base", "python", "node", "rust", "go")
DEFAULT_STACK: Final = "base"
DEFAULT_MEMORY: Final = "4g"
DEFAULT_CPUS: Final = 2.0

NAME_RULE: Final = (
    f"expected a name for a project: 1 to {PROJECT_NAME_MAX} of A-Z a-z 0-9 . _ -, a letter or digit first"
)
_STACK_RULE: Final = f"expected a stack: one of {', '.join(STACKS)}"
_GIT_RULE: Final = (
    "expected a repository's URL without a password: https://…, http://…, ssh://…, git://… or user@host:path"
)
_MEMORY_RULE: Final = "expected how much memory it may take, at least 128m, such as 512m or 4g"
_IMAGE_RULE: Final = "expected an image's name, such as registry/team/image:tag"
_KEY_RULE: Final = "expected one line of an OpenSSH public key, such as `ssh-ed25519 AAAA… name`"
_LINE_MAX: Final = 256
_LINE_RULE: Final = f"expected one line of at most {_LINE_MAX} characters"

_SCHEMES: Final = ("https", "http", "ssh", "git")
# As ssh itself takes it; a letter or digit first, since git hands the host on to ssh.
_SCP_LIKE: Final = re.compile(r"(?:[A-Za-z0-9._][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:[^:\s-]\S*")
_HOST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9a-f:.]+")
_MEMORY: Final = re.compile(r"([1-9][0-9]{0,12})([kmgt]?)b?", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# A sled takes half of it.
_MEMORY_MIN: Final = 128 << 20
_MEMORY_MAX: Final = 1 << 50
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_KEY: Final = re.compile(
    r"(?:ssh|ecdsa|sk)-[a-z0-9@.-]{1,60} [A-Za-z0-9+/]{20,16000}={0,2}(?: [^\x00-\x1f\x7f]{0,256})?"
)
_TEXT_MAX: Final = 2_048

Text = Annotated[str, Meta(max_length=_TEXT_MAX)]
Cpus = Annotated[float, Meta(ge=0.1, le=1_024)]


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /gateway/projects`; null is "not said".

    `git`: what to clone; null: a new repository. `stack` picks the image, unless `image` names one. `memory`
    such as 4g, `cpus` such as 1.5: how much of the machine it may take. `gateway_url`: by which its sled
    reaches the gateway. `git_name`, `git_email`: who commits there. `ssh_key`: the public key that logs in.
    """

    name: str
    git: Text | None = None
    stack: str | None = None
    image: Text | None = None
    gateway_url: Text | None = None
    memory: str | None = None
    cpus: Cpus | None = None
    git_name: Text | None = None
    git_email: Text | None = None
    ssh_key: Annotated[str, Meta(max_length=20_000)] | None = None


_decoder: Final = msgspec.json.Decoder(Wanted)


def parse(body: bytes) -> Wanted:
    """What a request's body wants, checked; raises `InvalidProjectError`."""
    try:
        wanted = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidProjectError(f"the body is no project: {problem_in_words(error)}") from None
    check(wanted)
    return wanted


def check(wanted: Wanted) -> None:
    """Raises `InvalidProjectError` for the first thing that cannot be."""
    _require("name", wanted.name, is_new_name(wanted.name), NAME_RULE)
    _require("stack", wanted.stack, wanted.stack is None or wanted.stack in STACKS, _STACK_RULE)
    _require("memory", wanted.memory, wanted.memory is None or is_memory(wanted.memory), _MEMORY_RULE)
    _require("image", wanted.image, wanted.image is None or bool(_IMAGE.fullmatch(wanted.image)), _IMAGE_RULE)
    for key, line in (("git_name", wanted.git_name), ("git_email", wanted.git_email)):
        _require(key, line, line is None or (len(line) <= _LINE_MAX and line.isprintable()), _LINE_RULE)
    # What follows may hold a secret by mistake, and is not said again.
    _require("git", None, wanted.git is None or is_git_url(wanted.git), _GIT_RULE)
    _require("ssh_key", None, wanted.ssh_key is None or is_ssh_key(wanted.ssh_key), _KEY_RULE)
    if wanted.gateway_url is not None:
        try:
            gateway_base_url(wanted.gateway_url, "gateway_url")
        except ConfigError as error:
            raise InvalidProjectError(str(error)) from None


def is_new_name(name: str) -> bool:
    """Whether a new project may be called so: it becomes a directory, and part of a command line."""
    return is_project_name(name) and name[0].isalnum()


def is_git_url(text: str) -> bool:
    """Whether git may clone this: nothing that runs a program, reads this machine, or is a flag."""
    if not text.isprintable() or any(mark in text for mark in " \\") or not text.isascii():
        return False
    if "://" not in text:
        return _SCP_LIKE.fullmatch(text) is not None
    try:
        parts = urlsplit(text)
        # Reading the port is what checks it.
        usable = parts.port is None or parts.port > 0
    except ValueError:
        return False
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.password is not None:
        return False
    user = parts.username or "git"
    return usable and _HOST.fullmatch(parts.hostname) is not None and not user.startswith("-")


def is_ssh_key(text: str) -> bool:
    """Whether it is one public key, and nothing that could change what a login may do."""
    return text.strip().isprintable() and _KEY.fullmatch(text.strip()) is not None


def is_memory(text: str) -> bool:
    """Whether `memory_bytes` takes the text."""
    match = _MEMORY.fullmatch(text)
    return match is not None and _MEMORY_MIN <= int(match[1]) * _UNITS[match[2].lower()] <= _MEMORY_MAX


def memory_bytes(text: str) -> int:
    """Bytes of a text that `is_memory`."""
    match = _MEMORY.fullmatch(text)
    assert match is not None  # noqa: S101 - checked before
    return int(match[1]) * _UNITS[match[2].lower()]


def _require(key: str, value: str | None, holds: bool, rule: str) -> None:  # noqa: FBT001 - one caller
    if not holds:
        got = "" if value is None else f"; got {value[:_LINE_MAX]!r}"
        raise InvalidProjectError(f"{key}: {rule}{got}")
