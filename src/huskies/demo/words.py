"""What the made-up projects of the demonstration are called, work on, and are held up by."""

from __future__ import annotations

from typing import Final

# So that no view can be taken for one of real projects.
PREFIX: Final = "demo-"

PROJECTS: Final = (
    "web-shop", "billing", "search", "mobile-app", "docs-site", "payments", "data-lake", "auth", "mail-relay",
    "design-kit", "reports", "inventory", "chat", "scheduler", "importer", "feature-flags", "translations",
    "telemetry", "support-desk", "image-proxy",
)  # fmt: skip

# The kind and the name of a story; its slug follows from the name.
STORIES: Final = (
    ("story", "Log in with a passkey"),
    ("story", "Export invoices as PDF"),
    ("story", "Dark mode"),
    ("story", "Undo for deleted drafts"),
    ("story", "Paginate the order list"),
    ("story", "Send receipts by mail"),
    ("story", "Upload several files at once"),
    ("story", "Remember the last filter"),
    ("story", "Rate limits for each client"),
    ("story", "Weekly summary by mail"),
    ("story", "Two-factor for admins"),
    ("story", "Search as you type"),
    ("story", "Import contacts from CSV"),
    ("story", "Keyboard shortcuts"),
    ("story", "Audit trail for roles"),
    ("bug", "Totals are off by a cent"),
    ("bug", "Session ends while typing"),
    ("bug", "Umlauts break the sort order"),
    ("bug", "Retries send the mail twice"),
    ("bug", "The menu is cut off on small screens"),
    ("bug", "Time zone of reports is UTC"),
    ("bug", "Upload hangs at 99 percent"),
    ("bug", "Cache keeps a deleted user"),
    ("bug", "Webhook signature is not checked"),
    ("spike", "Could SQLite hold the queue"),
    ("spike", "What a full-text index costs"),
    ("spike", "Is the new parser fast enough"),
    ("refactor", "One home for the settings"),
    ("refactor", "Split the order service"),
    ("refactor", "Replace the date library"),
    ("refactor", "Typed rows from the database"),
    ("refactor", "Drop the old API version"),
)

BLOCKS: Final = (
    "needs the API key of the staging account",
    "the requirements contradict each other: may a guest see prices or not?",
    "retry limit exceeded: the end-to-end test fails in the same place five times",
    "the design does not say what happens with more than 100 items",
    "waits for a decision: drop support for the old browsers?",
    "the agent asks whether the migration may lock the table for a minute",
    "no permission to push to the release branch",
    "the vendor's sandbox answers 503 since this morning",
    "two acceptance criteria cannot hold at once; which one matters?",
    "the agent's budget for this story is used up",
)

MERGE_FAILURES: Final = (
    "conflict in src/main.rs",
    "conflict in package-lock.json",
    "3 tests fail on the main branch that pass on the story's",
    "clippy: 2 warnings, and warnings are errors",
    "the branch is 41 commits behind, and rebasing it fails",
    "coverage fell below 90 percent",
    "type check: expected str, got str | None in orders/views.py",
)
