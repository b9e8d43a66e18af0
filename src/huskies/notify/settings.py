"""notify.toml in the gateway's directory: channels and the rule table, read strictly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from huskies.durations import parse_duration
from huskies.errors import ConfigError
from huskies.events.model import EVENT_TYPES
from huskies.logs import register_secret
from huskies.notify.quiet import Quiet, parse_quiet
from huskies.notify.rules import DEFAULT_EVERY_MS, Doubtful, Escalation, Rule, default_rules
from huskies.toml_file import dotted, place, read, reason, refuse

NOTIFY_FILE: Final = "notify.toml"
MATRIX: Final = "matrix"
_DAY_MS: Final = 86_400_000
_DURATION_RULE: Final = "expected a duration such as 30s, 10m or 2h"
_DOUBTFUL: Final[Mapping[str, Doubtful]] = {"resend": "resend", "leave": "leave"}
_HELD_UP: Final = ("story_blocked", "merge_failure")


class ChannelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[channels.NAME]`: a webhook with the file of its secrets, or where an Apprise URL is."""

    webhook: str | None = None
    secret_file: str | None = None
    apprise_file: str | None = None
    apprise_env: str | None = None
    doubtful: str | None = None

    def __repr__(self) -> str:
        # The URL of a webhook may be secret, and a repr ends up in logs.
        return "ChannelEntry(…)"


class EscalateEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of `escalate`."""

    after: str
    to: str


class RuleEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[rules]]`; None is "not said"."""

    events: tuple[str, ...] = _HELD_UP
    projects: tuple[str, ...] = ("*",)
    channels: tuple[str, ...] | None = None
    quiet: str | None = None
    every: str | None = None
    digest: str | None = None
    escalate: tuple[EscalateEntry, ...] = ()
    urgent: bool = False
    resolved: bool = True
    doubtful: str | None = None


class NotifyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. `quiet` is for the rules that name none; `time_zone` is whose clock quiet hours are of."""

    time_zone: str | None = None
    quiet: str | None = None
    channels: dict[str, ChannelEntry] = {}
    rules: tuple[RuleEntry, ...] = ()


class ChannelSettings(msgspec.Struct, frozen=True):
    """A channel: a webhook's URL and its secrets, each of which signs; or an Apprise URL."""

    name: str
    webhook: str | None = None
    secrets: tuple[bytes, ...] = ()
    apprise: str | None = None
    doubtful: Doubtful | None = None

    def __repr__(self) -> str:
        # All of it may be secret, and a repr ends up in logs.
        return f"ChannelSettings({self.name!r})"


class NotifySettings(msgspec.Struct, frozen=True):
    """What people are told, and where: see `Rules` and the channels of these."""

    rules: tuple[Rule, ...]
    channels: tuple[ChannelSettings, ...]
    zone: ZoneInfo | None = None


def load_settings(
    data_dir: Path, environ: Mapping[str, str], *, default_channels: tuple[str, ...] = ()
) -> NotifySettings:
    """What the file says; a missing one says nothing. Raises `ConfigError`.

    `default_channels` exist beside those of the file; the first is told where no rule names others.
    """
    path = data_dir / NOTIFY_FILE
    file = read(path, NotifyFile)
    channels = tuple(_channel(path, name, entry, environ) for name, entry in file.channels.items())
    for name in file.channels:
        if name in default_channels:
            refuse(path, dotted("channels", name), f"expected another name: {name} is the bot's own channel")
    known = (*default_channels, *file.channels)
    usual = default_channels[:1] or tuple(file.channels)
    zone = _zone(path, file)
    quiet = _quiet(path, "quiet", file.quiet, zone)
    rules = tuple(
        _rule(path, f"rules[{number}]", entry, known=known, usual=usual, quiet=quiet, zone=zone)
        for number, entry in enumerate(file.rules, 1)
    )
    return NotifySettings(rules or default_rules(usual, quiet), channels, zone)


def _zone(path: Path, file: NotifyFile) -> ZoneInfo | None:
    if file.time_zone is None:
        return None
    try:
        return ZoneInfo(file.time_zone)
    except (KeyError, ValueError, OSError):
        refuse(path, "time_zone", f"expected a time zone such as Europe/Berlin; got {file.time_zone!r}")


def _quiet(path: Path, key: str, text: str | None, zone: ZoneInfo | None) -> Quiet | None:
    if not text:
        return None
    if zone is None:
        refuse(path, "time_zone", "expected a time zone such as Europe/Berlin beside quiet hours")
    try:
        return parse_quiet(text, zone)
    except ValueError as error:
        refuse(path, key, str(error))


def _rule(
    path: Path,
    key: str,
    entry: RuleEntry,
    *,
    known: tuple[str, ...],
    usual: tuple[str, ...],
    quiet: Quiet | None,
    zone: ZoneInfo | None,
) -> Rule:
    for kind in entry.events:
        if kind not in EVENT_TYPES:
            refuse(path, f"{key}.events", f"expected some of {', '.join(EVENT_TYPES)}; got {kind!r}")
    channels = usual if entry.channels is None else entry.channels
    steps = []
    for step in entry.escalate:
        after_ms = _duration(path, f"{key}.escalate.after", step.after)
        steps.append(Escalation(after_ms, step.to))
    if steps and not set(entry.events) & set(_HELD_UP):
        problem = f"goes with {' and '.join(_HELD_UP)} alone: nothing else is over some time"
        refuse(path, f"{key}.escalate", problem)
    for name in (*channels, *(step.channel for step in steps)):
        if name not in known:
            defined = ", ".join(known) or "none; define one as [channels.NAME]"
            refuse(path, f"{key}.channels", f"expected channels that are defined ({defined}); got {name!r}")
    # What holds stories up may flap; the rest is told as it comes.
    usual_ms = DEFAULT_EVERY_MS if set(entry.events) & set(_HELD_UP) else 0
    return Rule(
        events=frozenset(entry.events),
        projects=entry.projects,
        channels=channels,
        quiet=quiet if entry.quiet is None else _quiet(path, f"{key}.quiet", entry.quiet, zone),
        every_ms=usual_ms if entry.every is None else _duration(path, f"{key}.every", entry.every),
        digest_ms=None if entry.digest is None else _duration(path, f"{key}.digest", entry.digest),
        escalate=tuple(steps),
        urgent=entry.urgent,
        resolved=entry.resolved,
        doubtful=_doubtful(path, f"{key}.doubtful", entry.doubtful),
    )


def _doubtful(path: Path, key: str, text: str | None) -> Doubtful | None:
    if text is None:
        return None
    if text not in _DOUBTFUL:
        refuse(path, key, f"expected {' or '.join(_DOUBTFUL)}; got {text!r}")
    return _DOUBTFUL[text]


def _duration(path: Path, key: str, text: str) -> int:
    try:
        found = parse_duration(text)
    except ValueError:
        refuse(path, key, f"{_DURATION_RULE}; got {text!r}")
    if found > _DAY_MS:
        refuse(path, key, f"expected a day at most; got {text!r}")
    return found


# --- channels ----------------------------------------------------------------------------------------


def _channel(path: Path, name: str, entry: ChannelEntry, environ: Mapping[str, str]) -> ChannelSettings:
    key = dotted("channels", name)
    if not name or not name.isprintable() or "/" in name or " " in name:
        refuse(path, key, "expected a name without spaces and slashes")
    ways = [way for way in (entry.webhook, entry.apprise_file, entry.apprise_env) if way is not None]
    if len(ways) != 1:
        refuse(path, key, "expected one of webhook, apprise_file, apprise_env")
    if entry.webhook is not None:
        return _webhook(path, name, entry)
    if entry.secret_file is not None:
        refuse(path, f"{key}.secret_file", "goes with webhook alone")
    url = _apprise_url(path, key, entry, environ)
    from huskies.notify.channels.apprise import check_url  # noqa: PLC0415 - takes a while to import

    check_url(url, place(path, key))
    doubtful = _doubtful(path, f"{key}.doubtful", entry.doubtful)
    return ChannelSettings(name, apprise=url, doubtful=doubtful)


def _webhook(path: Path, name: str, entry: ChannelEntry) -> ChannelSettings:
    from huskies.notify.channels.webhook import check_url, parse_secret  # noqa: PLC0415 - brings aiohttp

    key = dotted("channels", name)
    url = entry.webhook or ""
    register_secret(url)
    check_url(url, place(path, f"{key}.webhook"))
    if entry.secret_file is None:
        refuse(path, f"{key}.secret_file", "is missing: the file with the secret, whsec_ and base64")
    where = place(path, f"{key}.secret_file")
    lines = _read_private(path, where, entry.secret_file).split()
    if not lines:
        raise ConfigError(where, "the file is empty; expected a secret, whsec_ and base64, on a line")
    secrets = tuple(parse_secret(line, where) for line in lines)
    doubtful = _doubtful(path, f"{key}.doubtful", entry.doubtful)
    return ChannelSettings(name, webhook=url, secrets=secrets, doubtful=doubtful)


def _apprise_url(path: Path, key: str, entry: ChannelEntry, environ: Mapping[str, str]) -> str:
    if entry.apprise_env is not None:
        url = environ.get(entry.apprise_env, "").strip()
        if not url:
            refuse(path, f"{key}.apprise_env", f"the environment variable {entry.apprise_env} is not set")
    else:
        where = place(path, f"{key}.apprise_file")
        url = _read_private(path, where, entry.apprise_file or "").strip()
    register_secret(url)
    return url


def _read_private(path: Path, where: str, name: str) -> str:
    try:
        text = (path.parent / name).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(where, f"cannot read {path.parent / name}: {reason(error)}") from None
    for line in text.split():
        register_secret(line)
    return text


def environment() -> Mapping[str, str]:
    """Where secrets may be found that stand in no file."""
    return os.environ
