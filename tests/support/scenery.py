"""Projects with a month behind them, made up: what a person would see on a working day. Pure, by its seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

_FIRST: Final = (
    "web-shop", "billing", "search", "mobile-app", "warehouse", "auth", "docs-site", "data-pipeline",
    "notifications", "admin-console", "pricing", "checkout-api",
)  # fmt: skip
_AREAS: Final = (
    "claims", "orders", "fleet", "ledger", "media", "maps", "support", "loyalty", "payroll", "catalog",
)  # fmt: skip
_PARTS: Final = ("api", "web", "worker", "sync", "reports", "gateway", "jobs", "cli", "mobile", "schema")
_WORK: Final = (
    ("story", "Let customers pay with a saved card"), ("bug", "Totals are off by a cent with two discounts"),
    ("story", "Export invoices as PDF"), ("refactor", "Move retries into one place"),
    ("spike", "Can full-text search live in SQLite?"), ("bug", "Login loops when the cookie has expired"),
    ("story", "Show delivery times on the product page"), ("story", "Add two-factor authentication"),
    ("bug", "Crash when the upload is empty"), ("refactor", "Split the order service"),
    ("story", "Import price lists from spreadsheets"), ("story", "Send a reminder before a trial ends"),
    ("bug", "Dates are shown in the wrong time zone"), ("story", "Remember filters between visits"),
    ("spike", "How much would brotli save us?"), ("story", "Bulk edit of product tags"),
    ("bug", "Search ignores accents"), ("refactor", "Typed settings instead of a dictionary"),
    ("story", "Dark theme"), ("story", "Audit log of what administrators change"),
    ("bug", "Duplicate mails after a restart"), ("story", "Keyboard shortcuts for the editor"),
    ("story", "Rate limits for each API key"), ("bug", "Memory grows while exporting"),
    ("story", "Offline mode for the stock count"), ("refactor", "Delete the old template engine"),
)  # fmt: skip
_BLOCKED: Final = (
    "needs the API key of the payment sandbox",
    "the acceptance criteria contradict each other: guests may pay, and the test says that they may not",
    "retry limit exceeded: three runs ended with\n\ntest_two_discounts: expected 17.98, got 17.99",
    "waiting for the schema change of billing",
)
_FAILED: Final = (
    "conflict in src/orders/total.py, src/orders/tax.py",
    "the tests failed after the merge: 3 of 412 (test_refund_after_partial_shipment and two more)",
    "main has moved on; rebasing gave a conflict in migrations/0042_discounts.sql",
)
_STAGES: Final = ("1_backlog", "2_current", "3_qa", "4_merge", "5_done", "6_archived")
# Hours in each stage, in the middle; how long stories take differs by a lot.
_HOURS: Final = (20.0, 16.0, 6.0, 2.0, 60.0)


class Told(NamedTuple):
    """An event of a project."""

    project: str
    event: dict[str, Any]

    @property
    def at(self) -> int:
        """Unix ms."""
        return int(self.event["timestamp_ms"])


def project_names(count: int) -> list[str]:
    """So many names, each once."""
    more = (f"{area}-{part}" for part in _PARTS for area in _AREAS)
    numbered = (f"service-{number:04d}" for number in range(count))
    names = (name for some in (_FIRST, more, numbered) for name in some)
    return [name for name, _ in zip(names, range(count), strict=False)]


def month(seed: int, now_ms: int, projects: int = 12, stories: int = 26, days: int = 30) -> list[Told]:
    """Everything that happened, oldest first; the newest a few seconds before `now_ms`."""
    rng = random.Random(seed)  # noqa: S311 - a picture must be repeatable
    told: list[Told] = []
    for name in project_names(projects):
        for number in range(stories):
            told += _life(rng, name, number, now_ms, days)
    told.sort(key=lambda one: one.at)
    return told


def snapshot_of(
    told: list[Told], project: str, stories: int, seed: int, before_ms: int
) -> list[dict[str, Any]]:
    """Where all stories of a project stand after that.

    Those of which no event tells yet are among them; they came in the day before `before_ms`.
    """
    rng = random.Random(f"{seed} {project}")  # noqa: S311 - see above
    stands: dict[str, dict[str, Any]] = {}
    for _, event in (one for one in told if one.project == project):
        story = stands.setdefault(event["story_id"], _standing(event["story_id"], event["story_name"]))
        if event["type"] == "stage_transition":
            story.update(stage=event["to_stage"], blocked=None, merge_failure=None)
        else:
            story["blocked" if event["type"] == "story_blocked" else "merge_failure"] = event["reason"]
    for number in range(rng.randrange(1, 9)):
        kind, name = rng.choice(_WORK)
        story = _standing(f"{100 + stories + number}_{kind}_later", name)
        stands[story["story_id"]] = {**story, "since_ms": before_ms - rng.randrange(DAY)}
    return list(stands.values())


def _standing(story_id: str, name: str) -> dict[str, Any]:
    return {
        "story_id": story_id, "story_name": name, "stage": "1_backlog",
        "blocked": None, "merge_failure": None,
    }  # fmt: skip


def _life(rng: random.Random, project: str, number: int, now_ms: int, days: int) -> Iterator[Told]:
    kind, name = _WORK[(number * 7 + rng.randrange(5)) % len(_WORK)]
    slug = "_".join(word for word in name.lower().split() if word.isalnum())[:40]
    story_id = f"{100 + number}_{kind}_{slug}"
    newest = now_ms - 4_000
    at = now_ms - int(rng.random() * (2 if number % 5 < 2 else days) * DAY)
    for stage, following, hours in zip(_STAGES, _STAGES[1:], _HOURS, strict=False):
        leaves = at + int(hours * HOUR * rng.lognormvariate(0, 0.9))
        if stage in {"2_current", "3_qa"}:
            # Who is held up stays longer, and is more often seen there.
            stuck = min(leaves, newest) - int(rng.uniform(0.05, 0.9) * (min(leaves, newest) - at))
            if at < stuck and rng.random() < (0.06 if leaves < newest else 0.14):
                yield Told(project, _held("story_blocked", story_id, name, rng.choice(_BLOCKED), stuck))
        elif stage == "4_merge" and rng.random() < 0.15:
            failed = at + int(rng.uniform(0.1, 0.9) * (leaves - at))
            if failed < newest:
                yield Told(project, _held("merge_failure", story_id, name, rng.choice(_FAILED), failed))
        if leaves > newest:
            return
        at = leaves
        yield Told(project, _moved(story_id, name, stage, following, at))


def _moved(story_id: str, name: str, before: str, after: str, at: int) -> dict[str, Any]:
    return {
        "type": "stage_transition", "story_id": story_id, "story_name": name,
        "from_stage": before, "to_stage": after, "timestamp_ms": at,
    }  # fmt: skip


def _held(kind: str, story_id: str, name: str, reason: str, at: int) -> dict[str, Any]:
    return {
        "type": kind, "story_id": story_id, "story_name": name, "reason": reason, "timestamp_ms": at,
    }  # fmt: skip
