from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from huskies.cli.access import Access
from huskies.cli.token_file import revoke_token
from huskies.config import load_projects
from huskies.errors import HuskiesError
from huskies.gateway.access import tokens
from huskies.gateway.access.file import AccessFile, hashed
from huskies.gateway.access.tokens import Token
from huskies.protocol.enrolment import parse_code

if TYPE_CHECKING:
    from tests.cli.conftest import Run

WRITTEN_BY_HAND = """\
# our projects
[projects.web-shop]
url = "http://web-shop:3001"   # behind the proxy

[sled_tokens]
billing = 'kept'  # since March
"""


def kept(data_dir: Path) -> dict[bytes, Token]:
    """The valid tokens, by the hash of the secret."""
    file = AccessFile(data_dir)
    found = {digest: token for digest, token in tokens.hashes(file).items() if token.is_valid(0)}
    file.close()
    return found


def test_a_token_is_printed_once_and_kept_as_a_hash(huskies: Run, tmp_path: Path) -> None:
    made = huskies("token", "make", "web-shop", "--data-dir", tmp_path / "new")
    assert made.status == 0
    secret = made.stdout.strip()
    [(digest, token)] = kept(tmp_path / "new").items()
    assert digest == hashed(secret)
    assert (token.name, token.scopes) == ("web-shop", ("push:web-shop",))
    assert len(secret) >= 43
    assert "HUSKIES_SLED_TOKEN" in made.stderr
    assert secret not in made.stderr
    assert all(secret.encode() not in path.read_bytes() for path in (tmp_path / "new").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_only_the_owner_can_read_what_is_kept(huskies: Run, tmp_path: Path) -> None:
    data_dir = tmp_path / "new"
    huskies("token", "make", "web-shop", "--data-dir", data_dir)
    assert stat.S_IMODE((data_dir / "access.db").stat().st_mode) == 0o600
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_token_is_replaced_only_when_asked(huskies: Run, tmp_path: Path) -> None:
    first = huskies("token", "make", "web-shop", "--data-dir", tmp_path).stdout.strip()
    again = huskies("token", "make", "web-shop", "--data-dir", tmp_path)
    assert again.status == 1
    assert again.stderr == (
        "huskies: web-shop has a sled token already; use --replace to put a new one in its place\n"
    )
    assert list(kept(tmp_path)) == [hashed(first)]
    second = huskies("token", "make", "web-shop", "--replace", "--data-dir", tmp_path).stdout.strip()
    assert list(kept(tmp_path)) == [hashed(second)]
    assert second != first


def test_one_in_projects_toml_is_replaced_too(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text(WRITTEN_BY_HAND)
    again = huskies("token", "make", "billing", "--data-dir", tmp_path)
    assert again.status == 1
    made = huskies("token", "make", "billing", "--replace", "--data-dir", tmp_path)
    assert list(kept(tmp_path)) == [hashed(made.stdout.strip())]
    assert load_projects(tmp_path).sled_tokens == {}


def test_a_token_may_have_scopes_and_an_end(huskies: Run, tmp_path: Path) -> None:
    scopes = ("--scope", "read:a", "--scope", "push:a")
    made = huskies("token", "create", "ci", *scopes, "--expires", "90d", "--data-dir", tmp_path)
    assert made.status == 0
    assert "ci may read:a, push:a" in made.stderr
    listed = huskies("token", "list", "--data-dir", tmp_path).stdout
    assert listed.startswith("ci  ")
    assert "  read:a push:a  by " in listed
    assert listed.endswith("  never used  ends in 89 d\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("create", "x", "--scope", "write"), "--scope: expected push:PROJECT, read, read:PROJECT, admin or"),
        (("create", "a b", "--scope", "read"), "NAME: expected 1 to 64 characters without spaces"),
        (("create", "", "--scope", "read"), "NAME: expected 1 to 64 characters without spaces"),
        (("create", "x", "--scope", "read", "--expires", "soon"), "--expires: expected a duration such as"),
        (("create", "x"), "Missing option '--scope'"),
        (("make", "web shop"), "expected a project name"),
        (("invite", "web shop"), "expected a project name"),
        (("invite", "web-shop", "--expires", "0x"), "--expires: expected a duration such as"),
    ],
)
def test_bad_input_is_named(huskies: Run, tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    outcome = huskies("token", *arguments, "--data-dir", tmp_path)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert problem in outcome.stderr


def test_tokens_are_listed_without_the_secrets(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text(WRITTEN_BY_HAND)
    secret = huskies("token", "make", "web-shop", "--data-dir", tmp_path).stdout.strip()
    listed = huskies("token", "list", "--data-dir", tmp_path).stdout
    assert "billing  (sled_tokens of projects.toml)  push:billing\n" in listed
    assert secret not in listed
    assert "kept" not in listed
    [line] = huskies("token", "list", "--json", "--data-dir", tmp_path).stdout.splitlines()
    assert json.loads(line)["scopes"] == ["push:web-shop"]
    assert "hash" not in json.loads(line)


def test_an_empty_list_says_what_to_do(huskies: Run, tmp_path: Path) -> None:
    listed = huskies("token", "list", "--data-dir", tmp_path)
    assert listed == (0, "", "There is no token; make one with `huskies token make PROJECT`.\n")


def test_rotated_both_hold_for_a_while(huskies: Run, tmp_path: Path) -> None:
    first = huskies("token", "create", "ci", "--scope", "read", "--data-dir", tmp_path).stdout.strip()
    rotated = huskies("token", "rotate", "ci", "--overlap", "2h", "--data-dir", tmp_path)
    assert "ends in 2h" in rotated.stderr
    assert set(kept(tmp_path)) == {hashed(first), hashed(rotated.stdout.strip())}
    assert "ends in 1 h" in huskies("token", "list", "--data-dir", tmp_path).stdout


def test_what_is_revoked_is_said_and_gone(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "projects.toml").write_text(WRITTEN_BY_HAND)
    huskies("token", "create", "ci", "--scope", "read", "--data-dir", tmp_path)
    revoked = huskies("token", "revoke", "ci", "--data-dir", tmp_path)
    assert revoked.stdout.startswith("revoked ci (")
    assert kept(tmp_path) == {}
    revoked = huskies("token", "revoke", "billing", "--data-dir", tmp_path)
    assert revoked.stdout == "revoked the sled token of billing in projects.toml\n"
    assert (tmp_path / "projects.toml").read_text() == WRITTEN_BY_HAND.replace(
        "billing = 'kept'  # since March\n", ""
    )


def test_revoking_what_is_not_there_fails(huskies: Run, tmp_path: Path) -> None:
    revoked = huskies("token", "revoke", "web-shop", "--data-dir", tmp_path)
    assert revoked.status == 1
    assert "no valid token has the id or name web-shop; `huskies token list` shows" in revoked.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "list"),
        ("token", "revoke", "web-shop"),
        ("token", "rotate", "ci"),
        ("sleds", "list"),
        ("audit",),
    ],
    ids=" ".join,
)
def test_a_directory_that_is_not_there_is_named_and_not_made(
    huskies: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    outcome = huskies(*arguments, "--data-dir", tmp_path / "nope")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        f"huskies: --data-dir {tmp_path}/nope: expected a gateway's directory, but there is none; "
        "name another, or make a first token with `huskies token make PROJECT`\n"
    )
    assert not (tmp_path / "nope").exists()


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
    assert "file/data/access.db: cannot be made: Not a directory" in made.stderr


def test_a_linked_file_is_changed_where_it_lies(huskies: Run, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "projects.toml").write_text(WRITTEN_BY_HAND)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "projects.toml").symlink_to(tmp_path / "repository" / "projects.toml")
    huskies("token", "revoke", "billing", "--data-dir", tmp_path / "data")
    assert load_projects(tmp_path / "repository").sled_tokens == {}
    assert (tmp_path / "data" / "projects.toml").is_symlink()


def test_tokens_made_at_once_are_all_kept(tmp_path: Path) -> None:
    def make(name: str) -> str:
        with Access(tmp_path, creates=True) as access:
            return access.make_sled_token(name, replace=False)

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(make, [f"project-{number}" for number in range(20)]))
    assert set(kept(tmp_path)) == {hashed(secret) for secret in made}


def test_projects_toml_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "projects.toml"
    path.write_text(WRITTEN_BY_HAND)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HuskiesError, match="cannot be written: No space left on device"):
        revoke_token(tmp_path, "billing")
    assert path.read_text() == WRITTEN_BY_HAND
    assert {path.name for path in tmp_path.iterdir()} <= {"projects.toml", ".projects.toml.lock"}


# --- sleds and the audit -----------------------------------------------------------------------------


def test_an_invitation_is_printed_alone(huskies: Run, tmp_path: Path) -> None:
    invited = huskies("token", "invite", "web-shop", "--data-dir", tmp_path)
    assert parse_code(invited.stdout) is not None
    assert "huskies sled --join GATEWAY_URL" in invited.stderr


def test_without_sleds_it_says_how_one_is_invited(huskies: Run, tmp_path: Path) -> None:
    listed = huskies("sleds", "list", "--data-dir", tmp_path)
    assert listed.stderr == "No sled is enrolled; invite one with `huskies token invite PROJECT`.\n"
    approved = huskies("sleds", "approve", "3f2a", "--data-dir", tmp_path)
    assert approved.status == 1
    assert "no sled has an id that begins with 3f2a" in approved.stderr


def test_the_audit_says_who_did_what_and_no_secret(huskies: Run, tmp_path: Path) -> None:
    secret = huskies("token", "create", "ci", "--scope", "read", "--data-dir", tmp_path).stdout.strip()
    huskies("token", "revoke", "ci", "--data-dir", tmp_path)
    lines = huskies("audit", "--data-dir", tmp_path).stdout.splitlines()
    assert ["token create" in lines[0], "token revoke" in lines[1], len(lines)] == [True, True, 2]
    entries = [
        json.loads(line) for line in huskies("audit", "--json", "--data-dir", tmp_path).stdout.splitlines()
    ]
    assert [entry["action"] for entry in entries] == ["token create", "token revoke"]
    assert secret not in "".join(lines)
    assert huskies("audit", "--last", "1", "--data-dir", tmp_path).stdout.count("\n") == 1


def test_an_empty_audit_says_so(huskies: Run, tmp_path: Path) -> None:
    assert huskies("audit", "--data-dir", tmp_path).stderr == "Nothing happened yet.\n"
