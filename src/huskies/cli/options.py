"""The flags that commands share, and the rule that gives every flag its environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from huskies.config import environment_name

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Directory(click.Path):
    """A path; an empty text is none, although `Path` takes it for the current directory."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Check that there is something to convert: `--data-dir "$UNSET"` must not mean "here"."""
        if value == "":
            self.fail("expected a directory, got an empty text; name one, or leave it out", param, ctx)
        return super().convert(value, param, ctx)


DIRECTORY: Final = _Directory(path_type=Path)
PORT: Final = click.IntRange(0, 65_535)


def examples(*lines: str) -> str:
    """Command lines that show what a command is for, as the end of its help text."""
    # Click leaves the line breaks of a paragraph alone that begins with a backspace.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


class Setting(click.Option):
    """A flag with the environment variable that its long name stands for.

    `empty_counts`: a variable that is set but empty is a value too, not "not given".
    """

    def __init__(self, names: Sequence[str], *, empty_counts: bool = False, **attributes: Any) -> None:  # noqa: ANN401 - click's own
        flag = next(name for name in names if name.startswith("--"))
        attributes.setdefault("envvar", environment_name(flag))
        super().__init__(names, show_envvar=True, **attributes)
        self._empty_counts = empty_counts

    def value_from_envvar(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """What the variable says; where an empty one counts, several values stay one text."""
        if self._empty_counts and self.multiple:
            text = self.resolve_envvar_value(ctx)
            return None if text is None else (text,)
        return super().value_from_envvar(ctx)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Look the variable up."""
        if self._empty_counts and isinstance(self.envvar, str):
            return os.environ.get(self.envvar)
        return super().resolve_envvar_value(ctx)


def setting(*names: str, **attributes: Any) -> Callable[[_Command], _Command]:  # noqa: ANN401 - click's own
    """`click.option`, with an environment variable."""
    return click.option(*names, cls=Setting, **attributes)


def project_dir_argument(command: _Command) -> _Command:
    """PROJECT_DIR, the current directory where it is not given."""
    return click.argument("project_dir", type=DIRECTORY, default=Path())(command)


def host_option(command: _Command) -> _Command:
    """`--host`, None where not given."""
    return setting("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")(command)


def data_dir_option(command: _Command) -> _Command:
    """`--data-dir`, by default where the platform keeps a user's data."""
    return setting(
        "--data-dir",
        type=DIRECTORY,
        default=_default_data_dir,
        show_default="the platform's place for a user's data",
        help="Where the gateway keeps its log and projects.toml.",
    )(command)


def _default_data_dir() -> Path:
    from huskies.config import default_data_dir

    return default_data_dir()


if TYPE_CHECKING:
    _ParamType = click.ParamType[int]
else:
    _ParamType = click.ParamType


class _Measure(_ParamType):
    """A whole number with a unit, such as 90d or 10GB, in the smallest unit; `none`: what means none."""

    def __init__(self, name: str, units: Mapping[str, int], example: str, *, none: str | None = None) -> None:
        self.name = name
        self._units = units
        self._example = example
        self._none = none

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's own
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Milliseconds or bytes."""
        if isinstance(value, int):
            return value
        if value == self._none:
            return 0
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*([a-zA-Z]+)\s*", str(value))
        unit = self._units.get(match[2].lower()) if match else None
        if match is None or unit is None or int(match[1]) == 0:
            names = ", ".join(self._units)
            or_none = "" if self._none is None else f", or {self._none}"
            self.fail(
                f"expected a number and a unit ({names}), such as {self._example}{or_none}; got {value!r}",
                param,
                ctx,
            )
        return int(match[1]) * unit


_AGE: Final = _Measure("age", {"h": 3_600_000, "d": 86_400_000, "w": 604_800_000}, "90d")
_BYTES: Final = {"mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZE: Final = _Measure("size", _BYTES, "10GB")
_QUOTA: Final = _Measure("quota", _BYTES, "10GB", none="none")


def retain_options(command: _Command) -> _Command:
    """`--retain`, `--retain-size` and `--project-quota`, as `retain` (ms) and in bytes; 0: no quota."""
    command = setting(
        "--project-quota",
        type=_QUOTA,
        metavar="SIZE",
        help="Take no more events of a project that takes so much of the log, such as 10GB; or `none`.  "
        "[default: a tenth of the disk]",
    )(command)
    command = setting(
        "--retain-size",
        type=_SIZE,
        metavar="SIZE",
        help="Drop the oldest events so that the log takes no more room, such as 10GB.  [default: keep all]",
    )(command)
    return setting(
        "--retain",
        type=_AGE,
        metavar="AGE",
        help="Drop events that were received longer ago than this, such as 90d.  [default: keep all]",
    )(command)


def log_options(command: _Command) -> _Command:
    """`--log-level` and `--log-json`, as `log_level` and `log_json`."""
    from huskies.logs import LEVELS

    command = setting("--log-json", is_flag=True, help="Log JSON, one object a line.")(command)
    return setting(
        "--log-level",
        type=click.Choice(LEVELS, case_sensitive=False),
        default="info",
        show_default=True,
        help="Log this and what is worse, on stderr.",
    )(command)


def tls_ca_option(command: _Command) -> _Command:
    """`--tls-ca`, None where not given."""
    return setting(
        "--tls-ca",
        type=DIRECTORY,
        help="Trust the authorities in this file (PEM), not the system's, that gateways are who they are.",
    )(command)


def reader_url_option(command: _Command) -> _Command:
    """`--gateway-url` of a command that reads, as the http(s) base URL to use."""
    return setting(
        "--gateway-url",
        metavar="URL",
        callback=_reader_url,
        help="The gateway to ask.  [default: http://127.0.0.1:3000]",
    )(command)


def _reader_url(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    from huskies.config import DEFAULT_GATEWAY_URL
    from huskies.urls import gateway_base_url, split_urls

    # Empty means "no relay" to a sled; to someone who reads it means nothing. Of several, which the variable
    # may name for a sled, the preferred one is asked.
    [url, *_] = split_urls(value or "") or [DEFAULT_GATEWAY_URL]
    url = gateway_base_url(url, "--gateway-url")
    return "http" + url.removeprefix("ws") if url.startswith("ws") else url
