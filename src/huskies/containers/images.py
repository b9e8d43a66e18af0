"""The images of the stacks: built where one is missing, or was built of other things than run here."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from typing import IO, Final

import huskies
from huskies.containers import wheels
from huskies.containers.engine import Engine
from huskies.containers.threads import GivenUp

_FILES: Final = resources.files("huskies.containers").joinpath("images")
# What an image was built of, by its hash.
_RECIPE_LABEL: Final = "huskies.recipe"
# As Dockerfile.base has it, of what an image is put together from.
_STAGE_LABEL: Final = "huskies.stage"
_BASE: Final = "base"
_FILE_MODE: Final = 0o755
# Whoever works in a container is who owns the directory; root in there has no power over another's.
DEV_UID: Final = 1_000

Say = Callable[[str], None]


def default_base_image() -> str:
    """An image with the Python that runs here: what this installation has fits it."""
    return f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def image_tag(stack: str) -> str:
    """What a stack's image is called."""
    return f"huskies-{stack}:{huskies.__version__}"


def dev_uid() -> int:
    """The number of the user in the containers: the gateway's own, unless that is root."""
    return (os.getuid() if hasattr(os, "getuid") else 0) or DEV_UID


class Images:
    """Builds images; `ensure` one at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ensure(self, stack: str, base_image: str, *, say: Say, given_up: GivenUp) -> str:
        """The name of the stack's image, which is there and up to date. Blocks; raises `EngineError`."""
        files = image_files()
        own = wheels.own_wheel()
        recipe = _recipe(base_image, files, own)
        self._ensure_base(base_image, files, own, recipe, say, given_up)
        if stack != _BASE:
            self._ensure_overlay(stack, files, recipe, say, given_up)
        return image_tag(stack)

    def _ensure_base(  # noqa: PLR0917 - one caller
        self,
        base_image: str,
        files: Mapping[str, bytes],
        own: wheels.Wheel,
        recipe: str,
        say: Say,
        given_up: GivenUp,
    ) -> None:
        if self._is_current(_BASE, recipe):
            return
        say(f"building image {image_tag(_BASE)} of {base_image}, once")
        with tempfile.TemporaryFile() as file:
            write_context(file, files, own)
            arguments = {"BASE_IMAGE": base_image, "DEV_UID": str(dev_uid())}
            self._build(_BASE, file, arguments, recipe, say, given_up)

    def _ensure_overlay(
        self, stack: str, files: Mapping[str, bytes], recipe: str, say: Say, given_up: GivenUp
    ) -> None:
        if self._is_current(stack, recipe):
            return
        say(f"building image {image_tag(stack)}, once")
        with tempfile.TemporaryFile() as file:
            _write_tar(file, files)
            self._build(stack, file, {"BASE_IMAGE": image_tag(_BASE)}, recipe, say, given_up)

    def _is_current(self, stack: str, recipe: str) -> bool:
        labels = self._engine.image_labels(image_tag(stack))
        return labels is not None and labels.get(_RECIPE_LABEL) == recipe

    def _build(  # noqa: PLR0917 - one caller each
        self,
        stack: str,
        context: IO[bytes],
        arguments: Mapping[str, str],
        recipe: str,
        say: Say,
        given_up: GivenUp,
    ) -> None:
        context.seek(0)
        self._engine.build(
            context,
            tag=image_tag(stack),
            file=f"Dockerfile.{stack}",
            arguments=arguments,
            labels={_RECIPE_LABEL: recipe},
            say=say,
            given_up=given_up,
        )
        # Instead of what the engine said last.
        say(f"image {image_tag(stack)} is built")
        # Else each new version would leave the one before it, and what it was put together from.
        for label in (_RECIPE_LABEL, _STAGE_LABEL):
            self._engine.drop_unused_images(label)


def image_files() -> dict[str, bytes]:
    """The Dockerfiles and what goes into the images beside Huskies, by name."""
    return {file.name: file.read_bytes() for file in sorted(_FILES.iterdir(), key=lambda file: file.name)}


def write_context(file: IO[bytes], files: Mapping[str, bytes], own: wheels.Wheel) -> None:
    """The build context of the base image, as a tar: this installation goes with it."""
    listed = "".join(f"{line}\n" for line in wheels.requirements()).encode()
    extra = {f"huskies/{own.name}": own.content, "dependencies/requirements.txt": listed}
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in {**files, **extra}.items():
            _add(archive, name, content)
        for wheel in wheels.dependency_wheels():
            _add(archive, f"dependencies/{wheel.name}", wheel.content)


def _write_tar(file: IO[bytes], files: Mapping[str, bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            _add(archive, name, content)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    # Without times: what is the same as before is taken from the engine's cache.
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), _FILE_MODE
    archive.addfile(entry, io.BytesIO(content))


def _recipe(base_image: str, files: Mapping[str, bytes], own: wheels.Wheel) -> str:
    found = hashlib.sha256()
    parts = [base_image.encode(), str(dev_uid()).encode(), own.content]
    parts.extend(line.encode() for line in wheels.requirements())
    for name, content in files.items():
        parts.extend((name.encode(), content))
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()
