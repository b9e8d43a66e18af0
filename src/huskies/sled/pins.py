"""The gateways that a sled was enrolled with: for each URL the gateway_id that has to show there."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from huskies.errors import ConfigError
from huskies.protocol.wire import KeyHex
from huskies.sled.layout import Layout
from huskies.storage.files import sync_directory

_decoder = msgspec.json.Decoder(dict[str, KeyHex])


def load_pins(layout: Layout) -> dict[str, str]:
    """By URL; raises `ConfigError` where the file cannot be read: without it anyone could be the gateway."""
    try:
        return _decoder.decode(layout.gateways.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(str(layout.gateways), f"cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeError):
        problem = "is damaged; remove it and join the gateway again (huskies sled --join)"
        raise ConfigError(str(layout.gateways), problem) from None


def pin(layout: Layout, url: str, gateway_id: str) -> None:
    """From now on this gateway answers at that URL, durably. Raises `ConfigError`."""
    pins = {**load_pins(layout), url: gateway_id}
    draft = Path(f"{layout.gateways}.new")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(pins))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(layout.gateways)
        sync_directory(layout.state)
    except OSError as error:
        raise ConfigError(str(layout.gateways), f"cannot be written: {error.strerror}") from None
