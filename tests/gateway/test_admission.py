"""SPEC 4: who gets a join token, and whom it admits."""

from __future__ import annotations

import pytest

from huskies import limits
from huskies.config import ProjectEntry, ProjectsFile
from huskies.errors import ConfigError
from huskies.gateway.access.guard import Caller
from huskies.gateway.access.pushing import PushPolicy
from huskies.gateway.access.scopes import parse
from huskies.gateway.admission import Admission, RefusedError

SHOP_TOKEN, BLOG_TOKEN = "secret-of-shop", "secret-of-blog"


class Granted:
    """What tokens and enrolments beside projects.toml say."""

    def __init__(self, tokens: dict[str, Caller] | None = None, enrolled: str = "") -> None:
        self.tokens = tokens or {}
        self.enrolled = enrolled
        self.revoked: set[str] = set()

    def by_token(self, secret: str) -> Caller | None:
        return self.tokens.get(secret)

    def is_valid(self, token_id: str) -> bool:
        return token_id not in self.revoked

    def takes_tokens(self, project: str) -> bool:
        return any(project in caller.scopes.pushes for caller in self.tokens.values())

    def is_enrolled(self, project: str) -> bool:
        return project == self.enrolled

    @property
    def lets_anyone_in(self) -> bool:
        return bool(self.tokens or self.enrolled)


NOTHING = Granted()


def says(file: ProjectsFile, granted: Granted = NOTHING) -> PushPolicy:
    return PushPolicy(file, granted)


FILE = ProjectsFile(
    projects={"web": ProjectEntry(open=True), "listed": ProjectEntry(url="http://x")},
    sled_tokens={"shop": SHOP_TOKEN, "blog": BLOG_TOKEN},
)
POLICY = says(FILE)


def status(
    project: str,
    sled_token: str | None,
    *,
    loopback: bool = True,
    direct: bool = True,
    first: PushPolicy = POLICY,
    later: PushPolicy = POLICY,
    at: float = 1,
) -> int:
    """What a sled gets: 101 for the upgrade, else the refusal's status."""
    admission = Admission(loopback=loopback)
    try:
        admission.issue(first, sled_token, "join", 0)
        admission.redeem(later, "join", project, at, direct=direct)
    except RefusedError as error:
        return error.status
    return 101


@pytest.mark.parametrize(
    ("project", "sled_token", "on_loopback", "elsewhere"),
    [
        ("shop", SHOP_TOKEN, 101, 101),
        ("shop", None, 403, 403),
        ("shop", BLOG_TOKEN, 403, 403),
        ("shop", "wrong", 401, 401),
        ("blog", SHOP_TOKEN, 403, 403),
        ("web", None, 101, 101),
        ("web", SHOP_TOKEN, 403, 403),
        ("listed", None, 101, 403),
        ("unlisted", None, 101, 403),
        ("unlisted", SHOP_TOKEN, 403, 403),
        ("unlisted", "wrong", 401, 401),
    ],
)
def test_who_is_admitted(project: str, sled_token: str | None, on_loopback: int, elsewhere: int) -> None:
    assert status(project, sled_token) == on_loopback
    assert status(project, sled_token, loopback=False) == elsewhere
    # Who comes through a proxy on this machine comes from elsewhere.
    assert status(project, sled_token, direct=False) == elsewhere


@pytest.mark.parametrize(("at", "expected"), [(0, 101), (59.9, 101), (60, 401), (1_000, 401)])
def test_a_join_token_expires_after_a_minute(at: float, expected: int) -> None:
    assert status("web", None, at=at) == expected


def test_a_join_token_is_good_once() -> None:
    admission = Admission(loopback=True)
    admission.issue(POLICY, None, "join", 0)
    admission.redeem(POLICY, "join", "web", 1, direct=True)
    with pytest.raises(RefusedError, match="unknown, used or expired"):
        admission.redeem(POLICY, "join", "web", 1, direct=True)


def test_a_refused_attempt_uses_the_token_up() -> None:
    admission = Admission(loopback=True)
    admission.issue(POLICY, SHOP_TOKEN, "join", 0)
    for expected in (403, 401):
        with pytest.raises(RefusedError) as caught:
            admission.redeem(POLICY, "join", "blog", 1, direct=True)
        assert caught.value.status == expected


@pytest.mark.parametrize("secret", [None, "", "never given out"])
def test_no_token_and_an_unknown_one_are_401(secret: str | None) -> None:
    with pytest.raises(RefusedError) as caught:
        Admission(loopback=True).redeem(POLICY, secret, "web", 0, direct=True)
    assert caught.value.status == 401


def test_a_revoked_sled_token_takes_its_join_tokens_with_it() -> None:
    revoked = says(ProjectsFile(sled_tokens={"blog": BLOG_TOKEN}))
    assert status("shop", SHOP_TOKEN, later=revoked) == 403


def test_a_rotated_sled_token_takes_its_join_tokens_with_it() -> None:
    rotated = says(ProjectsFile(sled_tokens={"shop": "secret-anew", "blog": BLOG_TOKEN}))
    assert status("shop", SHOP_TOKEN, later=rotated) == 403


def test_a_project_that_got_a_sled_token_meanwhile_admits_no_unbound_token() -> None:
    assert status("web", None, later=says(ProjectsFile(sled_tokens={"web": "secret-of-web"}))) == 403


def test_a_project_that_is_no_longer_open_admits_no_one_from_elsewhere() -> None:
    closed = says(ProjectsFile(projects={"web": ProjectEntry()}, sled_tokens=FILE.sled_tokens))
    assert status("web", None, loopback=False, later=closed) == 403


def test_join_tokens_are_kept_only_as_hashes() -> None:
    admission = Admission(loopback=True)
    admission.issue(POLICY, SHOP_TOKEN, "join-secret", 0)
    kept = repr(vars(admission))
    assert "join-secret" not in kept
    assert SHOP_TOKEN not in kept


def test_a_flood_of_join_tokens_is_bounded_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOIN_TOKENS_MAX", 3)
    admission = Admission(loopback=True)
    for number in range(3):
        admission.issue(POLICY, None, f"join{number}", number)
    with pytest.raises(RefusedError) as caught:
        admission.issue(POLICY, None, "one more", 59.9)
    assert caught.value.status == 503
    admission.issue(POLICY, None, "one more", 60)
    admission.redeem(POLICY, "one more", "web", 60, direct=True)


def test_a_redeemed_token_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "JOIN_TOKENS_MAX", 1)
    admission = Admission(loopback=True)
    for number in range(3):
        admission.issue(POLICY, None, f"join{number}", 0)
        admission.redeem(POLICY, f"join{number}", "web", 0, direct=True)


@pytest.mark.parametrize(
    ("policy", "loopback", "starts"),
    [
        (ProjectsFile(), True, True),
        (ProjectsFile(), False, False),
        (ProjectsFile(projects={"listed": ProjectEntry()}), False, False),
        (ProjectsFile(projects={"web": ProjectEntry(open=True)}), False, True),
        (ProjectsFile(sled_tokens={"shop": SHOP_TOKEN}), False, True),
    ],
)
def test_a_gateway_that_could_admit_no_one_does_not_start(
    policy: ProjectsFile,
    loopback: bool,  # noqa: FBT001 - a case
    starts: bool,  # noqa: FBT001 - a case
) -> None:
    admission = Admission(loopback=loopback)
    if starts:
        admission.check_start(says(policy), "10.0.0.1")
        return
    with pytest.raises(ConfigError, match=r"--host 10\.0\.0\.1: .* needs a sled token or an open project"):
        admission.check_start(says(policy), "10.0.0.1")


@pytest.mark.parametrize("shown", [BLOG_TOKEN, "made-up", None])
def test_a_refusal_names_no_secret(shown: str | None) -> None:
    admission = Admission(loopback=True)
    with pytest.raises(RefusedError) as caught:  # noqa: PT012 - either step may refuse
        admission.issue(POLICY, shown, "join-secret", 0)
        admission.redeem(POLICY, "join-secret", "shop", 0, direct=True)
    for secret in (SHOP_TOKEN, BLOG_TOKEN, "made-up", "join-secret"):
        assert secret not in str(caught.value)


# --- tokens made beside projects.toml, and enrolled sleds --------------------------------------------


def granted(*scopes: str) -> Granted:
    return Granted({"husky_ci": Caller("ci (t1)", parse(scopes), "t1")})


@pytest.mark.parametrize(
    ("scopes", "project", "expected"),
    [
        (["push:a"], "a", 101),
        (["push:a", "push:b"], "b", 101),
        (["push:a"], "b", 403),
        (["read", "peer"], "a", 403),
        (["admin"], "a", 403),
    ],
)
def test_a_token_lets_push_for_the_projects_of_its_scopes(
    scopes: list[str], project: str, expected: int
) -> None:
    policy = says(ProjectsFile(), granted(*scopes))
    assert status(project, "husky_ci", loopback=False, first=policy, later=policy) == expected


def test_a_token_that_is_revoked_takes_its_join_tokens_with_it() -> None:
    tokens = granted("push:a")
    admission, policy = Admission(loopback=True), says(ProjectsFile(), tokens)
    admission.issue(policy, "husky_ci", "join", 0)
    tokens.revoked.add("t1")
    with pytest.raises(RefusedError, match="the sled token of project a was revoked or has changed"):
        admission.redeem(policy, "join", "a", 1, direct=True)


def test_a_project_with_a_token_takes_nobody_without() -> None:
    admission, policy = Admission(loopback=True), says(ProjectsFile(), granted("push:a"))
    admission.issue(policy, None, "join", 0)
    with pytest.raises(RefusedError, match="project a needs its sled token"):
        admission.redeem(policy, "join", "a", 1, direct=True)


def test_sleds_of_a_project_that_enrols_them_need_no_token() -> None:
    admission, policy = Admission(loopback=False), says(ProjectsFile(), Granted(enrolled="a"))
    admission.issue(policy, None, "join", 0)
    assert admission.redeem(policy, "join", "a", 1, direct=True) is None
    admission.issue(policy, None, "join", 0)
    with pytest.raises(RefusedError, match="neither open"):
        admission.redeem(policy, "join", "b", 1, direct=True)


def test_a_sled_token_of_the_file_that_changes_is_another() -> None:
    shown = POLICY.credential(SHOP_TOKEN)
    assert shown is not None
    assert POLICY.holds(shown, "shop")
    assert SHOP_TOKEN not in shown.name
    assert not says(ProjectsFile(sled_tokens={"shop": "another"})).holds(shown, "shop")
    assert not says(ProjectsFile()).holds(shown, "shop")
