"""The real nginx and the real Caddy, with the very files of docs/proxy: names, ports and paths apart."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.certificates import Authority
from tests.support.ports import reserved

from huskies.tls import client_context

DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "proxy"
KINDS: Final = ("nginx", "caddy")
USER, PASSWORD = "ann", "correct horse"
# Of the password, as `htpasswd -s` makes it, and as `caddy hash-password` does, in a hundredth of its time.
_NGINX_HASH: Final = "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="
_CADDY_HASH: Final = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
_PATIENCE: Final = 20.0
# Debian has nginx where only root's PATH looks.
_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"


def installed(kind: str) -> str | None:
    """The program, if this machine has it."""
    return shutil.which(kind, path=_PATH)


class ReverseProxy(NamedTuple):
    """A proxy that runs; a gateway that is started on port `upstream` is behind it.

    `log` is what nginx wrote of each request; by the example Caddy writes nothing of the kind.
    """

    kind: str
    url: str
    plain_url: str
    upstream: int
    ca: Path
    log: Path

    @property
    def port(self) -> int:
        """Where it serves TLS."""
        return int(self.url.rpartition(":")[2])

    @property
    def tls(self) -> ssl.SSLContext:
        """What trusts its certificate."""
        return client_context(self.ca)


@contextmanager
def running(kind: str, directory: Path, **changes: str) -> Iterator[ReverseProxy]:
    """A proxy of this kind; `changes` are made to its file, by what stands in it."""
    with reserved() as tls_port, reserved() as plain_port, reserved() as upstream:
        authority = Authority(directory)
        proxy = ReverseProxy(
            kind,
            f"https://127.0.0.1:{tls_port}",
            f"http://127.0.0.1:{plain_port}",
            upstream,
            authority.path,
            directory / "proxy.log",
        )
        chain, key = authority.certificate()
        write = _nginx if kind == "nginx" else _caddy
        command = write(proxy, directory, (chain, key, plain_port), changes)
        environment = {"PATH": _PATH, "HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        with (directory / "stderr").open("wb") as errors:
            process = subprocess.Popen(command, env=environment, stdout=errors, stderr=errors)
            try:
                _wait(process, proxy, directory / "stderr")
                yield proxy
            finally:
                process.terminate()
                try:
                    process.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait(process: subprocess.Popen[bytes], proxy: ReverseProxy, errors: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
        except OSError:
            said = errors.read_text("utf-8", "replace")
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.01)
        else:
            return


_Served = tuple[Path, Path, int]


def _nginx(proxy: ReverseProxy, directory: Path, served: _Served, changes: dict[str, str]) -> list[str]:
    chain, key, plain_port = served
    users = directory / "users"
    users.write_text(f"{USER}:{_NGINX_HASH}\n")
    text = _changed(
        "nginx.conf",
        {
            "listen 80;": f"listen 127.0.0.1:{plain_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{proxy.port} ssl http2;",
            # A port of its own needs more than the name of the host.
            "https://$http_host$request_uri": f"{proxy.url}$request_uri",
            "server_name huskies.example;": "server_name 127.0.0.1;",
            "/etc/letsencrypt/live/huskies.example/fullchain.pem": str(chain),
            "/etc/letsencrypt/live/huskies.example/privkey.pem": str(key),
            "/var/log/nginx/huskies.log": str(proxy.log),
            "/etc/nginx/huskies.htpasswd": str(users),
            "127.0.0.1:3000": f"127.0.0.1:{proxy.upstream}",
            **changes,
        },
    )
    (directory / "huskies.conf").write_text(text)
    places = "".join(
        f"{name}_temp_path {directory / name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Where the tests run as root, its workers are to read files of root's.
    user = "user root;\n" if os.geteuid() == 0 else ""
    (directory / "main.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {directory / 'pid'};\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{places}include {directory / 'huskies.conf'};\n}}\n"
    )
    program = installed("nginx")
    assert program is not None
    return [program, "-e", "stderr", "-p", str(directory), "-c", str(directory / "main.conf")]


def _caddy(proxy: ReverseProxy, directory: Path, served: _Served, changes: dict[str, str]) -> list[str]:
    chain, key, plain_port = served
    text = _changed(
        "Caddyfile",
        {
            "\n{\n\tservers": f"\n{{\n\tadmin off\n\tskip_install_trust\n\thttp_port {plain_port}\n"
            f"\thttps_port {proxy.port}\n\tdefault_bind 127.0.0.1\n\tservers",
            # HTTP/3 would take a port of UDP.
            "servers {": "servers {\n\t\tprotocols h1 h2",
            "huskies.example {": f"127.0.0.1 {{\n\ttls {chain} {key}",
            "$2a$14$REPLACE.THIS.BY.WHAT.caddy.hash-password.PRINTS": _CADDY_HASH,
            "reverse_proxy 127.0.0.1:3000": f"reverse_proxy 127.0.0.1:{proxy.upstream}",
            **changes,
        },
    )
    path = directory / "Caddyfile"
    path.write_text(text)
    program = installed("caddy")
    assert program is not None
    return [program, "run", "--config", str(path), "--adapter", "caddyfile"]


def _changed(name: str, changes: dict[str, str]) -> str:
    text = (DOCS / name).read_text("utf-8")
    for before, after in changes.items():
        assert before in text, f"{before!r} stands no more in {name}"
        text = text.replace(before, after)
    return text
