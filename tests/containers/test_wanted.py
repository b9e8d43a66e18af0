from __future__ import annotations

import json
from typing import Any

import pytest

from huskies.containers.errors import InvalidProjectError
from huskies.containers.wanted import (
    STACKS,
    Wanted,
    check,
    is_git_url,
    is_memory,
    is_new_name,
    is_ssh_key,
    memory_bytes,
    parse,
)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHSoOu1mnKl4FqVYIbxfOvzDqRIFLsUyDFtsqWmVgCXF"


@pytest.mark.parametrize("name", ["web-shop", "a", "Web.Shop_2", "9", "x" * 64])
def test_names_that_a_project_can_have(name: str) -> None:
    assert is_new_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "--privileged", "-v", "a;b", "../x", "a/b", "a b", "a\n", "$(id)", "`id`", "a:b",
        "a,b", ".git", "_x", "é", "x" * 65, "a\0", "²", "-",
    ],
)  # fmt: skip
def test_names_that_it_cannot(name: str) -> None:
    assert not is_new_name(name)
    with pytest.raises(InvalidProjectError, match="name: expected a name for a project"):
        check(Wanted(name=name))


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/team/shop.git", "http://127.0.0.1:8080/shop.git", "ssh://git@git.example:22/shop",
        "git@git.example:team/shop.git", "git.example:shop", "git://git.example/shop", "https://ann@git.example/x",
        "https://[2001:db8::1]/x.git",
    ],
)  # fmt: skip
def test_repositories_that_are_cloned(url: str) -> None:
    assert is_git_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c id", "ext::sh", "fd::17", "file:///etc", "/etc", ".", "../x", "-u", "--upload-pack=id",
        "https://ann:secret@git.example/x", "ssh://-oProxyCommand=id/x", "-oProxyCommand=id:x", "git@-x:y",
        "ssh://git.example:0/x", "https://", "https:///x", "ftp://git.example/x", "https://git.example/a b",
        "https://git.example/\n", "git@git.example:", "git@git.example:-x", "C:\\x", "https://git.example:99999/x",
        "transport::https://git.example/x", "https://\u202egit.example/x", "", "ssh://-x@git.example/y",
    ],
)  # fmt: skip
def test_what_git_is_never_given(url: str) -> None:
    assert not is_git_url(url)
    with pytest.raises(InvalidProjectError, match="git: expected a repository's URL") as refused:
        check(Wanted(name="a", git=url))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 << 20), ("4g", 4 << 30), ("1T", 1 << 40), ("268435456", 1 << 28), ("2GB", 2 << 30)],
)
def test_memory(text: str, size: int) -> None:
    assert is_memory(text)
    assert memory_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "4", "64m", "-1g", "0g", "4x", "4 g", "1e9", "99999999999999999999", "9999999t", "4g --privileged"],
)
def test_no_memory(text: str) -> None:
    assert not is_memory(text)
    with pytest.raises(InvalidProjectError, match="memory: expected how much"):
        check(Wanted(name="a", memory=text))


@pytest.mark.parametrize(
    "text", [KEY, f"{KEY} ann@laptop", f"{KEY}\n", KEY.replace("ssh-ed25519", "sk-ssh-ed25519@openssh.com")]
)
def test_keys_that_may_log_in(text: str) -> None:
    assert is_ssh_key(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "ssh-ed25519", f'command="id" {KEY}', f"{KEY}\n{KEY}", f"restrict {KEY}", f"{KEY} a\rb",
        f"{KEY} \u202e",        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA", "ssh-ed25519 !!!!",
    ],
)  # fmt: skip
def test_what_is_no_key(text: str) -> None:
    assert not is_ssh_key(text)
    with pytest.raises(
        InvalidProjectError, match="ssh_key: expected one line of an OpenSSH public key"
    ) as refused:
        check(Wanted(name="a", ssh_key=text))
    assert "BEGIN" not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"stack": "perl"}, "stack: expected a stack: one of base, python, node, rust, go; got 'perl'"),
        ({"image": "--privileged"}, "image: expected an image's name"),
        ({"image": "a b"}, "image: expected an image's name"),
        ({"cpus": 0}, "cpus: expected a decimal number >= 0.1"),
        ({"cpus": "2"}, "cpus: expected a decimal number or null, got a text"),
        ({"git_name": "a\nb"}, "git_name: expected one line"),
        ({"git_email": "x" * 257}, "git_email: expected one line"),
        ({"gateway_url": "ftp://x"}, "gateway_url: expected a URL of http"),
        ({"gateway_url": "http://ann:secret@x"}, "gateway_url: expected a URL of http"),
        ({"privileged": True}, "unknown field privileged"),
        ({"name": 3}, "name: expected a text, got a whole number"),
    ],
)
def test_what_a_body_cannot_ask_for(body: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidProjectError) as refused:
        parse(json.dumps({"name": "web-shop", **body}).encode())
    assert problem in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"name": "a"', b"[" * 100_000])
def test_what_is_no_body(body: bytes) -> None:
    with pytest.raises(InvalidProjectError, match="the body is no project: "):
        parse(body)


def test_what_a_body_can_ask_for() -> None:
    wanted = parse(b'{"name": "web-shop", "git": null, "stack": "python", "cpus": 2, "ssh_key": null}')
    assert wanted == Wanted(name="web-shop", stack="python", cpus=2.0)
    for stack in STACKS:
        check(Wanted(name="a", stack=stack))
