from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest

from huskies import config
from huskies.errors import ConfigError

NAME_RULE = "expected a project name: 1 to 64 of A-Z a-z 0-9 . _ -"
URL_RULE = (
    "expected a URL of http, https, ws or wss with a host, without user name, query or fragment, "
    "such as http://gateway.example:3000"
)
PROJECT_URL_RULE = "expected an http or https URL with a host, such as http://web-shop:3001"
PROJECT_KEYS = (
    "name, gateway_url, sled_token_file, relay_rate_limits, keep_acked, keep_until_held_by, host, port"
)
DURATION_RULE = "expected a duration such as 12h, 7d or 4w"
ONCE = "expected each gateway once; leave out the repetition"
NO_TOKEN_FILE = (
    "cannot read {project}/none: No such file or directory; put the token there, or remove the key"
)
SHARED = "expected a secret of its own, got that of a; give one of them a new one"
TOKEN_RULE = "expected a token: printable ASCII without spaces, as `huskies token make` gives it"


def say(project: Path, text: str) -> None:
    (project / ".huskies" / "project.toml").write_text(text)


# --- where a value comes from ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "file", "setting", "expected"),
    [
        ({}, "", "name", "web-shop"),
        ({}, 'name = "shop"', "name", "shop"),
        ({"name": "flag"}, 'name = "shop"', "name", "flag"),
        ({}, "", "gateway_url", None),
        ({}, 'gateway_url = ""', "gateway_url", None),
        ({}, 'gateway_url = "http://file:1"', "gateway_url", "http://file:1"),
        (
            {"gateway_url": "ws://flag:2/base/"},
            'gateway_url = "http://file:1"',
            "gateway_url",
            "ws://flag:2/base",
        ),
        ({"gateway_url": ""}, 'gateway_url = "http://file:1"', "gateway_url", None),
        ({}, "gateway_url = []", "gateway_url", None),
        ({}, 'gateway_url = ["http://file:1/"]', "gateway_url", "http://file:1"),
        ({}, 'gateway_url = ["http://b/", "http://a"]', "gateway_url", ("http://b", "http://a")),
        (
            {"gateway_url": ("http://c, http://b", "http://a")},
            'gateway_url = "http://file:1"',
            "gateway_url",
            ("http://c", "http://b", "http://a"),
        ),
        ({"gateway_url": ("",)}, 'gateway_url = ["http://b", "http://a"]', "gateway_url", None),
        ({}, "", "keep_acked_ms", 7 * 86_400_000),
        ({}, 'keep_acked = "2w"', "keep_acked_ms", 14 * 86_400_000),
        ({"keep_acked": "0s"}, 'keep_acked = "2w"', "keep_acked_ms", 0),
        ({}, "", "keep_until_held_by", 1),
        ({}, "keep_until_held_by = 3", "keep_until_held_by", 3),
        ({}, "", "host", "127.0.0.1"),
        ({}, 'host = "::1"', "host", "::1"),
        ({"host": "192.0.2.1"}, 'host = "::1"', "host", "192.0.2.1"),
        ({}, "", "port", 3001),
        ({}, "port = 4001", "port", 4001),
        ({"port": 0}, "port = 4001", "port", 0),
        ({}, "", "relay_rate_limits", False),
        ({}, "relay_rate_limits = true", "relay_rate_limits", True),
    ],
)
def test_a_flag_wins_over_the_file_and_the_file_over_the_default(
    project: Path, given: dict[str, Any], file: str, setting: str, expected: object
) -> None:
    say(project, file)
    assert getattr(config.sled_config(project, {}, **given), setting) == expected


def test_the_directorys_name_is_made_valid(tmp_path: Path) -> None:
    directory = tmp_path / "my shop (old)"
    directory.mkdir()
    assert config.sled_config(directory, {}).name == "my-shop-old"


def test_the_gateways_of_a_sled_in_their_order(project: Path) -> None:
    for given, urls in (
        (None, ()),
        ("", ()),
        ("http://a", ("http://a",)),
        (("http://b", "http://a"), ("http://b", "http://a")),
    ):
        assert config.SledSettings(project_dir=project, gateway_url=given).gateway_urls == urls


@pytest.mark.parametrize(
    "again", ["http://gateway:80", "http://GATEWAY/", "ws://gateway", "http://gateway,http://other"]
)
def test_a_gateway_named_twice_is_refused(project: Path, again: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--gateway-url: {ONCE}")):
        config.sled_config(project, {}, gateway_url=["http://gateway", again])
    urls = ("http://gateway", "https://gateway:80", "http://gateway:81", "http://gateway/base")
    assert config.sled_config(project, {}, gateway_url=urls).gateway_url == urls


@pytest.mark.parametrize(
    ("flag", "variable"),
    [
        ("--data-dir", "HUSKIES_DATA_DIR"),
        ("--port", "HUSKIES_PORT"),
        ("--gateway-url", "HUSKIES_GATEWAY_URL"),
    ],
)
def test_a_flag_names_its_variable(flag: str, variable: str) -> None:
    assert config.environment_name(flag) == variable


def test_the_sled_token_comes_from_the_variable_before_the_file(project: Path) -> None:
    say(project, 'sled_token_file = "secret"')
    (project / "secret").write_text(" from-file \n")
    assert config.sled_config(project, {}).sled_token == "from-file"
    assert config.sled_config(project, {"HUSKIES_SLED_TOKEN": ""}).sled_token == "from-file"
    assert (
        config.sled_config(project, {"HUSKIES_SLED_TOKEN": "from-variable\n"}).sled_token == "from-variable"
    )


def test_a_repr_shows_no_secret(project: Path, tmp_path: Path) -> None:
    sled = config.sled_config(project, {"HUSKIES_SLED_TOKEN": "do-not-show"})
    (tmp_path / "projects.toml").write_text('[sled_tokens]\nweb-shop = "do-not-show"\n')
    shown = f"{sled!r} {config.load_projects(tmp_path)!r}"
    assert "do-not-show" not in shown
    assert "web-shop" in shown


# --- project.toml ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gateway = 'x'", f"gateway: unknown key; expected one of {PROJECT_KEYS}"),
        ("name = 3", "name: expected a text, got a whole number"),
        ("name = 'a b'", f"name: {NAME_RULE}"),
        ("port = '3'", "port: expected a whole number, got a text"),
        ("port = 65536", "port: expected a whole number <= 65535"),
        ("port = -1", "port: expected a whole number >= 0"),
        ("relay_rate_limits = 1", "relay_rate_limits: expected true or false, got a whole number"),
        ("gateway_url = 'gateway:3000'", f"gateway_url: {URL_RULE}"),
        ("gateway_url = 'ftp://gateway'", f"gateway_url: {URL_RULE}"),
        ("gateway_url = 'http://'", f"gateway_url: {URL_RULE}"),
        ("gateway_url = 'http://gateway:x'", f"gateway_url: {URL_RULE}"),
        ("gateway_url = 'http://me:password@gateway'", f"gateway_url: {URL_RULE}"),
        ("gateway_url = 'http://gateway/?token=x'", f"gateway_url: {URL_RULE}"),
        ("gateway_url = 3", "gateway_url: expected a text or a list, got a whole number"),
        ("gateway_url = ['http://a', 3]", "gateway_url: expected a text, got a whole number"),
        ("gateway_url = ['http://a', 'gateway']", f"gateway_url: {URL_RULE}"),
        ("gateway_url = ['http://a', 'http://a/']", f"gateway_url: {ONCE}"),
        ("keep_acked = '7'", f"keep_acked: {DURATION_RULE}; got '7'"),
        ("keep_acked = 7", "keep_acked: expected a text, got a whole number"),
        ("keep_until_held_by = 0", "keep_until_held_by: expected a whole number >= 1"),
        ("keep_until_held_by = 101", "keep_until_held_by: expected a whole number <= 100"),
        ("sled_token_file = 'none'", f"sled_token_file: {NO_TOKEN_FILE}"),
    ],
)
def test_a_bad_project_file_is_refused(project: Path, text: str, message: str) -> None:
    say(project, text)
    with pytest.raises(ConfigError) as refused:
        config.sled_config(project, {})
    assert str(refused.value) == f"{project}/.huskies/project.toml: {message.format(project=project)}"


def test_a_file_that_is_no_toml_is_refused_with_the_place(project: Path) -> None:
    say(project, "name = 'web-shop'\nport = = 3\n")
    with pytest.raises(
        ConfigError, match=r"project\.toml: expected TOML: .*at line 2, column 8.*; correct the file"
    ):
        config.sled_config(project, {})


def test_a_file_that_is_nested_without_end_is_refused(project: Path) -> None:
    say(project, f"name = {'[' * 5_000}")
    with pytest.raises(ConfigError, match="nested"):
        config.load_project_file(project)


def test_a_file_that_cannot_be_read_is_refused(project: Path) -> None:
    (project / ".huskies" / "project.toml").mkdir()
    with pytest.raises(
        ConfigError, match=r"project\.toml: cannot be read: Is a directory; make it a readable file"
    ):
        config.sled_config(project, {})


@pytest.mark.parametrize("token", ["", "  \n", "two words", "tøken", "a\x07b"])
def test_a_bad_token_is_refused_and_not_shown(project: Path, token: str) -> None:
    say(project, 'sled_token_file = "secret"')
    (project / "secret").write_text(token, "utf-8")
    with pytest.raises(ConfigError) as refused:
        config.sled_config(project, {})
    assert str(refused.value) == f"{project}/.huskies/project.toml: sled_token_file: {TOKEN_RULE}"


def test_a_bad_token_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape(f"HUSKIES_SLED_TOKEN: {TOKEN_RULE}")):
        config.sled_config(Path(), {"HUSKIES_SLED_TOKEN": "two words"})


def test_bad_flags_are_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--name: {NAME_RULE}; got 'a b'")):
        config.sled_config(project, {}, name="a b")
    with pytest.raises(ConfigError, match=re.escape(f"--gateway-url: {URL_RULE}")):
        config.sled_config(project, {}, gateway_url="me:password@gateway")
    with pytest.raises(ConfigError, match=re.escape(f"--keep-acked: {DURATION_RULE}; got 'for ever'")):
        config.sled_config(project, {}, keep_acked="for ever")
    with pytest.raises(ConfigError, match="missing: expected the directory of a project; create it"):
        config.sled_config(project / "missing", {})


# --- finding the project ---------------------------------------------------------------------------


def test_the_project_is_found_from_a_directory_within(project: Path) -> None:
    deep = project / "src" / "deep"
    deep.mkdir(parents=True)
    assert config.find_project(deep) == project


def test_a_directory_outside_any_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has \.huskies/; run `huskies init` in the project, or name it with -C"
    ):
        config.find_project(tmp_path)


# --- projects.toml ---------------------------------------------------------------------------------

GOOD = """\
[projects.web-shop]
url = "http://web-shop:3001"

[projects."billing.v2"]
open = true

[sled_tokens]
web-shop = "secret"
"""


def test_projects_are_read(tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text(GOOD)
    assert config.load_projects(tmp_path) == config.ProjectsFile(
        projects={
            "web-shop": config.ProjectEntry(url="http://web-shop:3001"),
            "billing.v2": config.ProjectEntry(open=True),
        },
        sled_tokens={"web-shop": "secret"},
    )


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert config.load_projects(tmp_path) == config.ProjectsFile()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[project.a]",
            "project: unknown key; expected one of projects, sled_tokens, peers, access, containers",
        ),
        ("[peers]\nurl = 'x'", "peers.url: unknown key; expected one of urls, token, gateways"),
        ("projects = 3", "projects: expected a table, got a whole number"),
        ("projects = { a = 3 }", "projects.a: expected a table, got a whole number"),
        ("[projects.a]\n[projects.b]\nopen = 'y'", "projects.b.open: expected true or false, got a text"),
        (
            "[projects.a.b]",
            "projects.a.b: unknown key; expected one of url, open, container, directory",
        ),
        ("[projects.'a.b']\nurl = 3", 'projects."a.b".url: expected a text, got a whole number'),
        ("[projects.'a b']", f'projects."a b": {NAME_RULE}'),
        ("[projects.a]\nurl = 'javascript:x'", f"projects.a.url: {PROJECT_URL_RULE}"),
        ("[sled_tokens]\na = 3", "sled_tokens.a: expected a text, got a whole number"),
        ("[sled_tokens]\na = ''", f"sled_tokens.a: {TOKEN_RULE}"),
        ("[sled_tokens]\n'' = 'x'", f'sled_tokens."": {NAME_RULE}'),
        ("[sled_tokens]\na = 'x'\nb = 'x'", f"sled_tokens.b: {SHARED}"),
    ],
)
def test_a_bad_projects_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "projects.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        config.load_projects(tmp_path)
    assert str(refused.value) == f"{tmp_path}/projects.toml: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('directory = "projects"', "directory: expected an absolute path"),
        ('directory = "/a,readonly"', "directory: expected an absolute path"),
        ('base_image = "--privileged"', "base_image: expected an image's name"),
        ('publish = "everywhere"', "publish: expected an address of this machine"),
        ('gateway_url = "here"', "gateway_url: expected a URL"),
        ("privileged = true", "privileged: unknown key; expected one of directory"),
    ],
)
def test_bad_settings_of_containers_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "projects.toml").write_text(f"[containers]\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        config.load_projects(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path}/projects.toml: containers.{message}")


def test_a_projects_file_of_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(
        ConfigError, match=r"projects\.toml: expected TOML: .*utf-8.*; correct the file there"
    ):
        config.load_projects(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o640, 1), (0o604, 1)])
def test_secrets_that_others_can_read_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warnings: int
) -> None:
    (tmp_path / "projects.toml").write_text(GOOD)
    (tmp_path / "projects.toml").chmod(mode)
    with caplog.at_level(logging.WARNING):
        config.load_projects(tmp_path)
    assert len(caplog.records) == warnings
