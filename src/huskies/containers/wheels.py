"""This installation as wheels: what an image gets is what its gateway runs, without asking anyone for it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.metadata import Distribution
from pathlib import Path
from typing import Final, NamedTuple

import huskies
from huskies.containers.errors import ProjectError

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_TAG: Final = re.compile(r"^Tag: (\S+)$", re.MULTILINE)
# What an installer writes beside what the wheel held.
_OF_THE_INSTALLER: Final = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
# The same files give the same bytes: by them an image is known to be up to date.
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644


class Wheel(NamedTuple):
    """A wheel's file name and content."""

    name: str
    content: bytes


def own_wheel() -> Wheel:
    """Huskies itself, from its package's directory: it may be installed to be edited."""
    package = Path(huskies.__file__).parent
    code = {
        f"huskies/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return _wheel({**code, **dict(_metadata_files(_found("huskies")))})


def requirements() -> list[str]:
    """What Huskies needs, each as `NAME==VERSION`, as it is installed here."""
    return [f"{each.name}=={each.version}" for each in _dependencies()]


def dependency_wheels() -> Iterator[Wheel]:
    """What Huskies needs, one after the other: together they are large."""
    for distribution in _dependencies():
        files = {
            str(file): Path(str(distribution.locate_file(file))).read_bytes()
            for file in distribution.files or ()
            # Scripts stand outside, and are made anew where the wheel is installed.
            if ".." not in file.parts and "__pycache__" not in file.parts and not _is_installers(file.parts)
        }
        # What a system's own packages installed says less; it is for an index then.
        if any(name.endswith(".dist-info/WHEEL") for name in files):
            yield _wheel(files)


def _dependencies() -> list[Distribution]:
    """Whatever Huskies needs and is installed, by name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [("huskies", "")]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            # Of another system, or of another Python.
            continue
        if key != "huskies":
            found[key] = distribution
        waiting.extend(_required(distribution.requires or (), extras.split(",")))
    return [found[key] for key in sorted(found)]


def _required(requires: Iterable[str], extras: list[str]) -> Iterator[tuple[str, str]]:
    for text in requires:
        match, extra = _REQUIREMENT.match(text), _EXTRA.search(text)
        if match is not None and (extra is None or extra[1] in extras):
            yield match[1], (match[2] or "").replace(" ", "")


def _found(name: str) -> Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ProjectError(
            "images can be built by an installed huskies alone: install it with pip, or name an image"
        ) from None


def _metadata_files(distribution: Distribution) -> Iterator[tuple[str, bytes]]:
    for file in distribution.files or ():
        if file.parts[0].endswith(".dist-info") and not _is_installers(file.parts):
            yield str(file), Path(str(distribution.locate_file(file))).read_bytes()


def _is_installers(parts: tuple[str, ...]) -> bool:
    return parts[0].endswith(".dist-info") and parts[-1] in _OF_THE_INSTALLER


def _wheel(files: dict[str, bytes]) -> Wheel:
    [info] = {name.partition("/")[0] for name in files if name.partition("/")[0].endswith(".dist-info")}
    tags = [tag.split("-") for tag in _TAG.findall(files[f"{info}/WHEEL"].decode())]
    # One for each combination; the name says each part once.
    parts = [".".join(sorted({tag[index] for tag in tags})) for index in range(3)]
    rows = [f"{_quoted(name)},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    record = f"{info}/RECORD"
    files = {**files, record: "\n".join([*rows, f"{record},,", ""]).encode()}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = _MODE << 16
            archive.writestr(entry, content)
    return Wheel(f"{info.removesuffix('.dist-info')}-{'-'.join(parts)}.whl", written.getvalue())


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _quoted(name: str) -> str:
    return f'"{name}"' if "," in name else name
