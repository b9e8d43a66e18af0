"""Files that people and programs write: settings, stories, a pipeline's directories; URLs and durations."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fuzz.samples import WORDS
from fuzz.target import Check, Outcome, Target, always, refused, taken
from huskies import limits, logs
from huskies.config import HUSKIES_DIR, PROJECT_FILE, PROJECTS_FILE, load_project_file
from huskies.durations import parse_duration
from huskies.errors import ConfigError
from huskies.events.model import STAGES, StoryBlocked
from huskies.gateway.policy import PolicyFile
from huskies.sled.intake import entry_of
from huskies.sled.layout import Layout
from huskies.sled.pipeline import PipelineReader
from huskies.sled.scan import SeenStory, diff
from huskies.sled.story_file import parse_story
from huskies.urls import gateway_base_urls, is_base_url, split_urls


@contextmanager
def _projects() -> Iterator[Check]:
    """A gateway's projects.toml."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        def check(data: bytes) -> Outcome:
            (directory / PROJECTS_FILE).write_bytes(data)
            (directory / PROJECTS_FILE).chmod(0o600)
            try:
                policy = PolicyFile(directory)
            except ConfigError as error:
                return _one_line(error)
            finally:
                # What is read here is nobody's secret, and would take every later line apart.
                logs._registered.clear()
            found = policy.current()
            return taken(f"{bool(found.projects)} {bool(found.sled_tokens)} {bool(found.peers.urls)}")

        yield check


@contextmanager
def _project() -> Iterator[Check]:
    """A project's project.toml."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / HUSKIES_DIR).mkdir()

        def check(data: bytes) -> Outcome:
            (directory / HUSKIES_DIR / PROJECT_FILE).write_bytes(data)
            try:
                found = load_project_file(directory)
            except ConfigError as error:
                return _one_line(error)
            return taken(f"{found.name is None} {type(found.gateway_url).__name__} {found.port is None}")

        yield check


def _one_line(error: ConfigError) -> Outcome:
    assert PROJECT_FILE in error.where or PROJECTS_FILE in error.where
    return refused(error.problem)


def story(data: bytes) -> Outcome:
    """A story's file, which is always taken; what it says can be recorded."""
    found = parse_story(data)
    assert len(found.name) <= limits.STORY_NAME_MAX
    assert "\n" not in found.name
    for reason in (found.blocked, found.merge_failure):
        if reason is not None:
            assert 0 < len(reason) <= limits.REASON_MAX
            entry_of(StoryBlocked(story_id="1", story_name=found.name, reason=reason), 1)
    if not (found.name or found.blocked or found.merge_failure):
        return refused("it says nothing")
    return taken(f"{bool(found.name)} {found.blocked is None} {found.merge_failure is None}")


@contextmanager
def _pipeline() -> Iterator[Check]:
    """Two looks at a pipeline: each line is the number of a stage, a file's name, and what stands in it."""
    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name))
        for stage in STAGES:
            layout.stage(stage).mkdir(parents=True)

        def check(data: bytes) -> Outcome:
            reader, seen = PipelineReader(layout, "shop"), dict[str, SeenStory]()
            lines = data.split(b"\n")
            kinds: set[str] = set()
            for some in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
                written = [path for line in some[:20] if (path := _write(layout, line)) is not None]
                changes = diff(seen, reader.look())
                for event in changes.events:
                    kinds.add(type(event).__name__)
                    entry_of(event, 1)
                seen.update({story.story_id: story for story in changes.seen})
                for path in written:
                    path.unlink(missing_ok=True)
            return taken(" ".join(sorted(kinds)) or "seen") if seen else refused("no story")

        yield check


def _write(layout: Layout, line: bytes) -> Path | None:
    number, _, rest = line.partition(b"/")
    name, _, text = rest.partition(b"\t")
    if not number.isdigit() or len(number) > 1 or not 0 <= int(number) < len(STAGES):
        return None
    path = layout.stage(STAGES[int(number)]) / os.fsdecode(name[:200])
    try:
        path.write_bytes(text.replace(b"\\n", b"\n"))
    except (OSError, ValueError):
        # No file system takes that name: a slash, a NUL, a directory.
        return None
    return path


def urls(data: bytes) -> Outcome:
    """Gateways' URLs, a project's, and a duration; what is taken stays as it is when it is read again."""
    text = data.decode("utf-8", "surrogateescape")
    found = []
    try:
        parse_duration(text)
        found.append("duration")
    except ValueError:
        pass
    try:
        bases = gateway_base_urls(text, "here")
    except ConfigError as error:
        return taken("duration") if found else refused(error.problem)
    assert gateway_base_urls(" ".join(bases), "here") == bases
    assert all(is_base_url(base, ("http", "https", "ws", "wss")) for base in bases)
    return taken(f"{len(split_urls(text))} {' '.join(found)}")


_TOML_WORDS: Final = (
    b"[", b"]]", b"=", b"[access]\n", b"[projects.a.b]\n", b"[sled_tokens]\n", b'"\\uD800"', b"1979-05-27",
    b"'", b'"""', b'origins = ["http://a", 1]\n', b"open = 1\n", b'[projects."a b"]\n', b"nan",
    b"a.b.c = 1\n", b"a = " + b"[" * 2_000,
)  # fmt: skip
_STORY_WORDS: Final = (
    b"---\n", b"...\n", b"blocked: ", b"merge_failure: ", b"name: ", b"# ", b"```\n", b"|\n  ", b">-\n ",
    b"!!binary ", b"&a ", b"*a", b"? ", b"- ", b'"\\ud800"', b'"\\x9b"', b"%YAML 1.1\n", b"{", b"!<tag:x> ",
)  # fmt: skip
_STORIES: Final = (
    b"---\nname: Log in\nblocked: needs: a key\n---\n# Heading\n",
    b"---\nname: 'x'\nblocked: |\n  two\n  lines\nmerge_failure: [a, b]\n---\ntext\n",
    b"\xef\xbb\xbf# A heading ##\n\ntext\n",
    b"---\nblocked: no\nmerge_failure: ~\n...\n~~~\n# no\n~~~\n## Yes\n",
)

TARGETS: Final = (
    Target(
        name="projects.toml",
        opened=_projects,
        seeds=(
            b'[projects.web-shop]\nurl = "http://web-shop:3001"\n[sled_tokens]\nweb-shop = "abcdefgh"\n',
            b"[projects]\na.open = true\n[projects.b]\nopen = false\n",
            (
                b'[peers]\nurls = ["http://b:3000"]\ntoken = "peer-token"\ngateways = []\n'
                b'[access]\ntrusted_proxies = ["10.0.0.0/8"]\nuser_header = "X-U"\nuser_scopes = ["read"]\n'
                b'origins = ["https://huskies.example"]\n'
            ),
        ),
        words=_TOML_WORDS,
        inputs=40_000,
    ),
    Target(
        name="project.toml",
        opened=_project,
        seeds=(
            b'name = "shop"\ngateway_url = ["http://a:3000", "https://b/x"]\nkeep_acked = "7d"\nport = 1\n',
            b'gateway_url = "http://a http://b"\nkeep_until_held_by = 2\nhost = "::1"\n',
            b'relay_rate_limits = true\nsled_token_file = "x"\n',
        ),
        words=_TOML_WORDS,
        inputs=40_000,
    ),
    Target(name="story", opened=always(story), seeds=_STORIES, words=_STORY_WORDS, inputs=60_000),
    Target(
        name="pipeline",
        opened=_pipeline,
        seeds=(
            b"0/1_bug_x.md\t# X\n0/2_story_y.md\t---\\nblocked: a\\n---\n3/1_bug_x.md\t# X",
            b"1/a.md\t---\\nname: a\\n---\n5/b.md\t\n1/a.md\t---\\nblocked: b\\n---\n1/.x.md\tz",
        ),
        words=(*_STORY_WORDS, b".md\t", b"\n0/", b"\xff.md\t", b"\x1b[2J.md\t"),
        inputs=10_000,
        grows=False,
    ),
    Target(
        name="urls",
        opened=always(urls),
        seeds=(b"http://gateway.example:3000", b"wss://[::1]:1/x, https://b", b" 12h ", b"4w"),
        words=(b"http://", b"@", b"#", b"[", b"]", b":0", b":65536", b"%", b"\xe2\x84\x80", b"d", *WORDS[:1]),
    ),
)
