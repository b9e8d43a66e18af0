"""TLS: a server's certificate, read again when it is renewed, and whom a client trusts."""

from __future__ import annotations

import hashlib
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from huskies.errors import ConfigError

if TYPE_CHECKING:
    from aiohttp import Fingerprint

_log = logging.getLogger("huskies.tls")

# Names the file of the certificate by which a process knows the gateway that started it, whatever its names.
PIN_VARIABLE: Final = "HUSKIES_TLS_PIN"

# What aiohttp takes: whom to trust, the one certificate that there may be, or True: nobody else than usual.
Trust: TypeAlias = "ssl.SSLContext | Fingerprint | bool"


_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


def trusted(url: str, ca: Path | None) -> Trust:
    """What aiohttp is to check a server at `url` with; raises `ConfigError`.

    Where `ca` is given it is read in any case, so that a wrong one is noticed at once.
    """
    is_tls = url.partition(":")[0].lower() in ("https", "wss")
    return client_context(ca) if is_tls or ca is not None else True


def client_context(ca: Path | None) -> ssl.SSLContext:
    """Whom to trust: the system's authorities, or those in the file `ca` alone. Raises `ConfigError`."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        problem = f"cannot be used: {_reason(error)}; expected a file of certificates in PEM"
        raise ConfigError(f"--tls-ca {ca}", problem) from None


def pinned(chain: Path) -> bytes:
    """The SHA-256 of the first certificate in a file (PEM); raises `ConfigError`."""
    try:
        text = chain.read_text("ascii")
        end = text.index(_END) + len(_END)
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[text.index(_BEGIN) : end])).digest()
    except (OSError, ValueError) as error:
        raise ConfigError(str(chain), f"expected a certificate in PEM: {error}") from None


class Certificate:
    """A server's certificate chain and key, both PEM; raises `ConfigError` where they cannot be used."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._stamp = self._read_stamp()
        try:
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            problem = f"cannot be used with --tls-key {key}: {_reason(error)}; expected both in PEM"
            raise ConfigError(f"--tls-cert {chain}", problem) from None

    def refresh(self) -> bool:
        """Use what was renewed, for connections from now on; whether there was anything.

        What cannot be used is reported once, and what was used before holds.
        """
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            # Tried aside: a context that got half of it would serve nobody.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except (OSError, ssl.SSLError) as error:
            extra = {"file": str(self._chain)}
            _log.error("the renewed certificate is not used: %s", _reason(error), extra=extra)
            return False
        _log.info("the certificate was renewed", extra={"file": str(self._chain)})
        return True

    def _load(self, context: ssl.SSLContext) -> None:
        # Without a password to ask for: a server starts without anyone.
        context.load_cert_chain(self._chain, self._key, password=lambda: "")

    def _read_stamp(self) -> list[tuple[int, int, int]]:
        stamps = []
        for path in (self._chain, self._key):
            try:
                found = path.stat()
            except OSError:
                continue
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return stamps


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no certificate").lower().replace("_", " ")
    return error.strerror or type(error).__name__
