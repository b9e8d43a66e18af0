"""The one home of settings: defaults, overridden by files, by the environment, by flags.

The command line hands over each flag or, where it was not given, its environment variable
(`environment_name` is the rule); this module lays that over the files and the defaults. Whatever cannot be
used raises `ConfigError` with the file, the key and what was expected, and never with a secret.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from huskies.durations import parse_duration
from huskies.errors import ConfigError
from huskies.events.names import is_project_name, make_project_name
from huskies.limits import COPIES_MAX, KEEP_ACKED_MS, PROJECT_NAME_MAX
from huskies.logs import register_secret
from huskies.toml_file import dotted, place, read, reason, refuse
from huskies.urls import gateway_base_url, gateway_base_urls, is_base_url

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_GATEWAY_PORT: Final = 3000
DEFAULT_SLED_PORT: Final = 3001
DEFAULT_GATEWAY_URL: Final = f"http://{DEFAULT_HOST}:{DEFAULT_GATEWAY_PORT}"

HUSKIES_DIR: Final = ".huskies"
PROJECT_FILE: Final = "project.toml"
PROJECTS_FILE: Final = "projects.toml"
# Has no flag: the arguments of a process are there for every user of the machine to read.
SLED_TOKEN_VARIABLE: Final = "HUSKIES_SLED_TOKEN"  # noqa: S105 - a variable's name
PEER_TOKEN_VARIABLE: Final = "HUSKIES_PEER_TOKEN"  # noqa: S105 - a variable's name

_GATEWAY_ID: Final = re.compile(r"[0-9a-f]{64}")
PROJECT_NAME_RULE: Final = f"expected a project name: 1 to {PROJECT_NAME_MAX} of A-Z a-z 0-9 . _ -"
_DURATION_RULE: Final = "expected a duration such as 12h, 7d or 4w"
MOUNTABLE_RULE: Final = "an absolute path without commas, quotes and control characters"
_PROJECT_URL_RULE: Final = "expected an http or https URL with a host, such as http://web-shop:3001"
_CREDENTIAL_RULE: Final = "expected a token: printable ASCII without spaces, as `huskies token make` gives it"

_log = logging.getLogger(__name__)
# Files about which there was a warning: once is enough for a file that is read again and again.
_warned: set[Path] = set()

Port = Annotated[int, Meta(ge=0, le=65_535)]
Copies = Annotated[int, Meta(ge=1, le=COPIES_MAX)]
_Shape = TypeVar("_Shape")


class ProjectEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[projects.NAME]`: `url` is where the project's own server answers; `open` admits older sleds.

    `container` and `directory` stand where the gateway made the project: what is its own on this machine.
    """

    url: str | None = None
    open: bool = False
    container: str | None = None
    directory: str | None = None


class ContainersEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[containers]`: how new projects are made.

    `directory`: where theirs are; not said: `projects` in the data directory. `base_image`: what images are
    built of. `gateway_url`: by which containers reach the gateway. `publish`: the address that their ports
    are published on.
    """

    directory: str | None = None
    base_image: str | None = None
    gateway_url: str | None = None
    publish: str = DEFAULT_HOST


class PeersEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[peers]`: the gateways to replicate with.

    `urls` are dialed; `token` is presented to them, and asked of those that dial; `gateways`, where there are
    any, are the only gateway_ids admitted.
    """

    urls: list[str] = []
    token: str | None = None
    gateways: list[str] = []

    def __repr__(self) -> str:
        # The token is a secret, and a repr ends up in logs.
        return f"PeersEntry(urls={self.urls!r}, gateways={self.gateways!r})"


class AccessEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[access]`: how people and programs reach the gateway beside its own tokens.

    `trusted_proxies`: addresses or networks whose `X-Forwarded-*` is believed, and whose `user_header`, if
    one is set, names who was authenticated there; those users have `user_scopes`. `origins`, where there are
    any: the only origins, such as `https://huskies.example`, whose pages may use it.
    """

    trusted_proxies: tuple[str, ...] = ()
    user_header: str | None = None
    user_scopes: tuple[str, ...] = ("read",)
    origins: tuple[str, ...] = ()


class ProjectsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway's `projects.toml` (SPEC 4): what is known of projects, and their sled tokens, by name."""

    projects: dict[str, ProjectEntry] = {}
    sled_tokens: dict[str, str] = {}
    peers: PeersEntry = PeersEntry()
    access: AccessEntry = AccessEntry()
    containers: ContainersEntry = ContainersEntry()

    def __repr__(self) -> str:
        # The tokens are secrets, and a repr ends up in logs.
        tokens = sorted(self.sled_tokens)
        return f"ProjectsFile(projects={self.projects!r}, sled_tokens of {tokens}, peers={self.peers!r})"


class ProjectFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project's `.huskies/project.toml`; None is "not said".

    `keep_acked`: how long an acknowledged event is kept, such as `7d`; `keep_until_held_by`: and at least
    until so many gateways hold it.
    """

    name: str | None = None
    gateway_url: str | list[str] | None = None
    sled_token_file: str | None = None
    relay_rate_limits: bool = False
    keep_acked: str | None = None
    keep_until_held_by: Copies = 1
    host: str | None = None
    port: Port | None = None


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway is started with; port 0 takes any free one.

    `retain_ms`, `retain_bytes`: how old and how large the log may become; None: without end.
    `quota_bytes`: how much of it one project may take; 0: as much as there is, None: a part of the disk.
    `tls_cert` and `tls_key`, which go together, make it serve TLS; `tls_ca`: whom it trusts; None: the
    system.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_GATEWAY_PORT
    data_dir: Path
    retain_ms: int | None = None
    retain_bytes: int | None = None
    quota_bytes: int | None = None
    peers: tuple[str, ...] = ()
    peer_token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None

    def __repr__(self) -> str:
        # The token is a secret, and a repr ends up in logs.
        return f"GatewaySettings(host={self.host!r}, port={self.port}, data_dir={str(self.data_dir)!r})"


class SledSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a sled is started with.

    `name`: empty for the directory's, made valid. `gateway_url`: one, or several in order of preference; None
    or empty for no relay. `port`: 0 for any free one. An acknowledged event is kept for `keep_acked_ms`, and
    until `keep_until_held_by` gateways hold it.
    """

    project_dir: Path
    name: str = ""
    gateway_url: str | tuple[str, ...] | None = None
    sled_token: str | None = None
    host: str = DEFAULT_HOST
    port: int = DEFAULT_SLED_PORT
    relay_rate_limits: bool = False
    keep_acked_ms: int = KEEP_ACKED_MS
    keep_until_held_by: int = 1
    tls_ca: Path | None = None

    @property
    def gateway_urls(self) -> tuple[str, ...]:
        """The gateways in order of preference; none where nothing is relayed."""
        if isinstance(self.gateway_url, str):
            return (self.gateway_url,) if self.gateway_url else ()
        return self.gateway_url or ()

    def __repr__(self) -> str:
        # The token is a secret, and a repr ends up in logs.
        return f"SledSettings(name={self.name!r}, project_dir={str(self.project_dir)!r})"


def environment_name(flag: str) -> str:
    """The environment variable of a flag: `--data-dir` is `HUSKIES_DATA_DIR`, in every command."""
    return "HUSKIES_" + flag.lstrip("-").replace("-", "_").upper()


def default_data_dir() -> Path:
    """Where the platform keeps a user's data."""
    # Only the gateway's side needs it; `huskies emit` must start quickly.
    from platformdirs import user_data_path  # noqa: PLC0415 - see above

    return user_data_path("huskies", appauthor=False)


def find_project(start: Path) -> Path:
    """The directory at or above `start` that holds `.huskies`; raises `ConfigError` where there is none."""
    start = start.absolute()
    if not start.is_dir():
        raise ConfigError(str(start), "expected a directory; name the project's with -C PROJECT_DIR")
    for directory in (start, *start.parents):
        if (directory / HUSKIES_DIR).is_dir():
            return directory
    raise ConfigError(
        str(start),
        f"expected a project, but neither this directory nor one above it has {HUSKIES_DIR}/; "
        "run `huskies init` in the project, or name it with -C PROJECT_DIR",
    )


def load_project_file(project_dir: Path) -> ProjectFile:
    """The project's own file; a missing one says nothing. Raises `ConfigError`."""
    path = project_dir / HUSKIES_DIR / PROJECT_FILE
    file = read(path, ProjectFile)
    if file.name is not None and not is_project_name(file.name):
        refuse(path, "name", PROJECT_NAME_RULE)
    gateway_base_urls(file.gateway_url or (), place(path, "gateway_url"))
    if file.keep_acked is not None:
        _duration(file.keep_acked, place(path, "keep_acked"))
    if file.host is not None:
        checked_host(file.host, place(path, "host"))
    return file


def checked_host(host: str, where: str) -> str:
    """The address to listen on; an empty one would be every interface there is. Raises `ConfigError`."""
    if not host.strip():
        raise ConfigError(
            where, f"expected an address, such as {DEFAULT_HOST}, or 0.0.0.0 for every interface"
        )
    return host


def sled_config(
    project_dir: Path,
    environ: Mapping[str, str],
    *,
    name: str | None = None,
    gateway_url: str | Sequence[str] | None = None,
    keep_acked: str | None = None,
    tls_ca: Path | None = None,
    host: str | None = None,
    port: int | None = None,
) -> SledSettings:
    """A sled's settings; the keywords are its flags or their environment variables, None where not given.

    An empty `gateway_url` means "no relay", whatever the file says. Raises `ConfigError`.
    """
    if not project_dir.is_dir():
        raise ConfigError(str(project_dir), "expected the directory of a project; create it, or name another")
    if name is not None and not is_project_name(name):
        raise ConfigError("--name", f"{PROJECT_NAME_RULE}; got {name!r}")
    project_dir = project_dir.resolve()
    file = load_project_file(project_dir)
    urls = gateway_base_urls(_first(gateway_url, file.gateway_url, ()), "--gateway-url")
    kept = _first(keep_acked, file.keep_acked, None)
    return SledSettings(
        project_dir=project_dir,
        name=name or file.name or make_project_name(project_dir.name),
        gateway_url=urls if len(urls) > 1 else next(iter(urls), None),
        sled_token=_sled_token(project_dir, file, environ),
        host=checked_host(_first(host, file.host, DEFAULT_HOST), "--host"),
        port=_first(port, file.port, DEFAULT_SLED_PORT),
        relay_rate_limits=file.relay_rate_limits,
        keep_acked_ms=KEEP_ACKED_MS if kept is None else _duration(kept, "--keep-acked"),
        keep_until_held_by=file.keep_until_held_by,
        tls_ca=tls_ca,
    )


def load_projects(data_dir: Path) -> ProjectsFile:
    """The gateway's `projects.toml`; a missing one is empty. Raises `ConfigError`."""
    path = data_dir / PROJECTS_FILE
    file = read(path, ProjectsFile)
    for table, names in (("projects", file.projects), ("sled_tokens", file.sled_tokens)):
        for name in names:
            if not is_project_name(name):
                refuse(path, dotted(table, name), PROJECT_NAME_RULE)
    for name, entry in file.projects.items():
        if entry.url is not None and not is_base_url(entry.url, ("http", "https")):
            refuse(path, dotted("projects", name, "url"), _PROJECT_URL_RULE)
    owners: dict[str, str] = {}
    for name, token in file.sled_tokens.items():
        key = dotted("sled_tokens", name)
        _checked_token(token, place(path, key))
        # A join token belongs to the project whose sled token was shown: it must name one.
        if (owner := owners.setdefault(token, name)) != name:
            refuse(
                path, key, f"expected a secret of its own, got that of {owner}; give one of them a new one"
            )
    _check_peers(path, file.peers)
    _check_containers(path, file.containers)
    if file.sled_tokens or file.peers.token:
        warn_if_others_can_read(path)
    return file


def peer_token(environ: Mapping[str, str]) -> str | None:
    """The token that gateways show each other, where the environment has it. Raises `ConfigError`."""
    token = environ.get(PEER_TOKEN_VARIABLE, "").strip()
    return _checked_token(token, PEER_TOKEN_VARIABLE) if token else None


def _check_peers(path: Path, peers: PeersEntry) -> None:
    for url in peers.urls:
        gateway_base_url(url, place(path, "peers.urls"))
    for gateway_id in peers.gateways:
        if not _GATEWAY_ID.fullmatch(gateway_id):
            refuse(path, "peers.gateways", "expected gateway_ids: 64 hex digits each, in lower case")
    if peers.token is not None:
        _checked_token(peers.token, place(path, "peers.token"))


def _check_containers(path: Path, containers: ContainersEntry) -> None:
    if containers.directory is not None and not is_mountable(containers.directory):
        refuse(path, "containers.directory", f"expected {MOUNTABLE_RULE}")
    if containers.gateway_url is not None:
        gateway_base_url(containers.gateway_url, place(path, "containers.gateway_url"))
    image = containers.base_image
    if image is not None and (not image.isprintable() or " " in image or not image[:1].isalnum()):
        refuse(path, "containers.base_image", "expected an image's name, such as debian:stable-slim")
    try:
        ip_address(containers.publish)
    except ValueError:
        refuse(path, "containers.publish", f"expected an address of this machine, such as {DEFAULT_HOST}")


def is_mountable(directory: str) -> bool:
    """Whether a container engine can be told of it, also in the words of a command line."""
    return Path(directory).is_absolute() and directory.isprintable() and not any(c in directory for c in ',"')


def _duration(text: str, where: str) -> int:
    """Milliseconds; raises `ConfigError`."""
    try:
        return parse_duration(text)
    except ValueError:
        raise ConfigError(where, f"{_DURATION_RULE}; got {text!r}") from None


def _first(flag: _Shape | None, file: _Shape | None, default: _Shape) -> _Shape:
    if flag is not None:
        return flag
    return default if file is None else file


def _sled_token(project_dir: Path, file: ProjectFile, environ: Mapping[str, str]) -> str | None:
    if token := environ.get(SLED_TOKEN_VARIABLE):
        return _checked_token(token.strip(), SLED_TOKEN_VARIABLE)
    if file.sled_token_file is None:
        return None
    where = place(project_dir / HUSKIES_DIR / PROJECT_FILE, "sled_token_file")
    path = project_dir / file.sled_token_file
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            where, f"cannot read {path}: {reason(error)}; put the token there, or remove the key"
        ) from None
    return _checked_token(token, where)


def _checked_token(token: str, where: str) -> str:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(where, _CREDENTIAL_RULE)
    # A secret that this process knows is one that its log must not show.
    register_secret(token)
    return token


def warn_if_others_can_read(path: Path) -> None:
    """Say once in the log that a file with secrets is not its owner's alone."""
    if os.name != "posix" or path in _warned:
        return
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        _warned.add(path)
        _log.warning("%s holds secrets and others can read it; run `chmod 600` on it", path)
