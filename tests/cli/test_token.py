from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from huskies.cli.token_file import make_token
from huskies.config import load_projects
from huskies.errors import HuskiesError

if TYPE_CHECKING:
    from tests.cli.conftest import Run

WRITTEN_BY_HAND = """\
# our projects
[projects.web-shop]
url = "http://web-shop:3001"   # behind the proxy

[sled_tokens]
billing = 'kept'  # since March
"""


def tokens(data_dir: Path) -> dict[str, str]:
    return load_projects(data_dir).sled_tokens


def test_a_token_is_printed_once_and_stored(huskies: Run, tmp_path: Path) -> None:
    made = huskies("token", "make", "web-shop", "--data-dir", tmp_path / "new")
    assert made.status == 0
    assert tokens(tmp_path / "new") == {"web-shop": made.stdout.strip()}
    assert len(made.stdout.strip()) >= 43
    assert "HUSKIES_SLED_TOKEN" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_what_someone_wrote_stays(huskies: Run, tmp_path: Path) -> None:
    path = tmp_path / "projects.toml"
    path.write_text(WRITTEN_BY_HAND)
    made = huskies("token", "make", "web-shop", "--data-dir", tmp_path)
    assert path.read_text() == f'{WRITTEN_BY_HAND}web-shop = "{made.stdout.strip()}"\n'
    assert (
        huskies("token", "revoke", "web-shop", "--data-dir", tmp_path).stdout
        == "revoked the sled token of web-shop\n"
    )
    assert path.read_text() == WRITTEN_BY_HAND


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_only_the_owner_can_read_the_secrets(huskies: Run, tmp_path: Path) -> None:
    data_dir = tmp_path / "new"
    huskies("token", "make", "web-shop", "--data-dir", data_dir)
    assert stat.S_IMODE((data_dir / "projects.toml").stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_token_is_replaced_only_when_asked(huskies: Run, tmp_path: Path) -> None:
    first = huskies("token", "make", "web-shop", "--data-dir", tmp_path).stdout.strip()
    again = huskies("token", "make", "web-shop", "--data-dir", tmp_path)
    assert again.status == 1
    assert again.stderr == (
        "huskies: web-shop has a sled token already; use --replace to put a new one in its place\n"
    )
    assert tokens(tmp_path) == {"web-shop": first}
    second = huskies("token", "make", "web-shop", "--replace", "--data-dir", tmp_path).stdout.strip()
    assert tokens(tmp_path) == {"web-shop": second}
    assert second != first


def test_tokens_are_listed_without_the_secrets(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text("[sled_tokens]\nweb-shop = 'x1'\nbilling = 'x2'\n")
    assert huskies("token", "list", "--data-dir", tmp_path).stdout == "billing\nweb-shop\n"


def test_an_empty_list_says_what_to_do(huskies: Run, tmp_path: Path) -> None:
    listed = huskies("token", "list", "--data-dir", tmp_path)
    assert listed == (0, "", "No project has a sled token; make one with `huskies token make PROJECT`.\n")


def test_revoking_what_is_not_there_fails(huskies: Run, tmp_path: Path) -> None:
    revoked = huskies("token", "revoke", "web-shop", "--data-dir", tmp_path)
    assert revoked.status == 1
    assert "web-shop has no sled token; `huskies token list` shows" in revoked.stderr


@pytest.mark.parametrize("arguments", [("list",), ("revoke", "web-shop")], ids=lambda words: words[0])
def test_a_directory_that_is_not_there_is_named_and_not_made(
    huskies: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    outcome = huskies("token", *arguments, "--data-dir", tmp_path / "nope")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        f"huskies: --data-dir {tmp_path}/nope: expected a gateway's directory, but there is none; "
        "name another, or make a first token with `huskies token make PROJECT`\n"
    )
    assert not (tmp_path / "nope").exists()


def test_a_bad_name_is_refused(huskies: Run, tmp_path: Path) -> None:
    made = huskies("token", "make", "web shop", "--data-dir", tmp_path)
    assert (made.status, made.stdout) == (2, "")
    assert "expected a project name" in made.stderr


def test_a_bad_file_is_not_touched(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text("[sled_tokens]\na = 3\n")
    made = huskies("token", "make", "web-shop", "--data-dir", tmp_path)
    assert made.status == 2
    assert made.stderr.endswith("projects.toml: sled_tokens.a: expected a text, got a whole number\n")
    assert (tmp_path / "projects.toml").read_text() == "[sled_tokens]\na = 3\n"


def test_a_directory_that_cannot_be_made_is_named(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = huskies("token", "make", "web-shop", "--data-dir", tmp_path / "file" / "data")
    assert made.status == 2
    assert "file/data: cannot be written: Not a directory" in made.stderr


def test_a_linked_file_is_changed_where_it_lies(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "projects.toml").write_text(WRITTEN_BY_HAND)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "projects.toml").symlink_to(tmp_path / "repository" / "projects.toml")
    huskies("token", "make", "web-shop", "--data-dir", tmp_path / "data")
    assert set(tokens(tmp_path / "repository")) == {"billing", "web-shop"}


def test_tokens_made_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"project-{number}" for number in range(20)]
    with ThreadPoolExecutor() as pool:
        made = dict(
            zip(names, pool.map(lambda name: make_token(tmp_path, name, replace=False), names), strict=True)
        )
    assert tokens(tmp_path) == made


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_token(tmp_path, "web-shop", replace=False)
    before = (tmp_path / "projects.toml").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HuskiesError, match="cannot be written: No space left on device"):
        make_token(tmp_path, "billing", replace=False)
    assert (tmp_path / "projects.toml").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} <= {"projects.toml", ".projects.toml.lock"}
