"""The pure core touches nothing: no event loop, no socket, no store, no clock, no chance."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "huskies"
NOTIFY = (
    "collecting", "core", "footing", "holding", "ids", "model", "quiet", "rules", "seen", "state", "texts",
)  # fmt: skip
PURE = [
    SOURCE / "sse.py",
    *sorted((SOURCE / "events").glob("*.py")),
    *sorted((SOURCE / "protocol").glob("*.py")),
    *(SOURCE / "containers" / f"{name}.py" for name in ("errors", "plan", "wanted")),
    SOURCE / "gateway" / "admission.py",
    SOURCE / "gateway" / "store" / "blocks.py",
    SOURCE / "gateway" / "store" / "cursors.py",
    SOURCE / "gateway" / "bins.py",
    SOURCE / "gateway" / "fairness.py",
    SOURCE / "gateway" / "fleet.py",
    SOURCE / "gateway" / "pace.py",
    SOURCE / "gateway" / "quota.py",
    SOURCE / "gateway" / "standing.py",
    SOURCE / "gateway" / "stats.py",
    SOURCE / "gateway" / "stats_view.py",
    SOURCE / "gateway" / "peers" / "holders.py",
    SOURCE / "gateway" / "peers" / "outgoing.py",
    SOURCE / "gateway" / "store" / "repair.py",
    SOURCE / "gateway" / "store" / "selection.py",
    SOURCE / "cli" / "picture.py",
    *(SOURCE / "readers" / f"{name}.py" for name in ("finding", "fleet", "life", "life_lines")),
    *(SOURCE / "chat" / f"{name}.py" for name in ("commands", "content", "formatted", "replies")),
    *(SOURCE / "demo" / f"{name}.py" for name in ("day", "words")),
    *(SOURCE / "notify" / f"{name}.py" for name in NOTIFY),
    SOURCE / "sled" / "order.py",
    SOURCE / "sled" / "scan.py",
    SOURCE / "sled" / "story_file.py",
]
WORLDLY = {
    "aiohttp", "asyncio", "concurrent", "datetime.datetime.now", "io", "multiprocessing", "os", "pathlib",
    "random", "secrets", "select", "signal", "socket", "sqlite3", "subprocess", "threading", "time", "uuid",
    "watchfiles",
}  # fmt: skip
# What Python has on POSIX alone.
POSIX_ALONE = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
# The path of an event: what stands later may know what stands earlier, never the other way round.
ORDER = [
    "events", "protocol", "storage", "sled", "containers", "gateway", "readers", "notify", "chat", "demo",
    "cli", "testing",
]  # fmt: skip


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_pure_core_imports_nothing_of_the_world(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & WORLDLY


@pytest.mark.parametrize("path", sorted((SOURCE / "protocol").glob("*.py")), ids=lambda path: path.name)
def test_the_pure_core_imports_only_the_pure_core(path: Path) -> None:
    allowed = ("huskies.events", "huskies.protocol", "huskies.errors", "huskies.limits")
    ours = {name for name in imports(path) if name.startswith("huskies.")}
    assert all(name.startswith(allowed) for name in ours)


@pytest.mark.parametrize("package", ORDER)
def test_no_package_knows_what_stands_later_on_the_path(package: str) -> None:
    later = {f"huskies.{name}" for name in ORDER[ORDER.index(package) + 1 :]}
    if package == "sled":
        later.add("huskies.gateway")
    if package == "gateway":
        later.add("huskies.sled")
    for path in (SOURCE / package).rglob("*.py"):
        known = {".".join(name.split(".")[:2]) for name in imports(path)}
        assert not known & later, f"{path.name} imports {known & later}"


def test_the_log_knows_nothing_of_other_gateways() -> None:
    for path in (SOURCE / "gateway" / "store").glob("*.py"):
        assert not {name for name in imports(path) if name.startswith("huskies.gateway.peers")}, path.name


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_full_screen_needs_textual(path: Path) -> None:
    known = {name.partition(".")[0] for name in imports(path)}
    assert "textual" not in known or path.parent == SOURCE / "cli" / "full_screen"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_bot_needs_a_matrix_client(path: Path) -> None:
    known = {name.partition(".")[0] for name in imports(path)}
    assert "nio" not in known or path.parent == SOURCE / "chat"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_bars_windows_at_once(path: Path) -> None:
    known = {name.partition(".")[0] for name in imports(path)}
    assert not known & POSIX_ALONE
    # Its use elsewhere would make it more than an option.
    assert "uvloop" not in known or path == SOURCE / "cli" / "runtime.py"
