"""What the dashboard's files may not do: whatever is said in a name or a reason must stay a text."""

from __future__ import annotations

import re
from importlib import resources

import pytest

FILES = sorted(
    file.name for file in resources.files("huskies.gateway").joinpath("static").iterdir() if file.is_file()
)
SCRIPTS = [name for name in FILES if name.endswith(".js")]
# Each of these makes markup, a script, a style or an address out of a text.
FORBIDDEN = (
    r"\b(?:inner|outer)HTML\b", r"\binsertAdjacentHTML\b", r"\bdocument\s*\.\s*write", r"\beval\s*\(",
    r"\bnew\s+Function\b", r"\bsrcdoc\b", r"\bDOMParser\b", r"\bcreateContextualFragment\b", r"\bsetHTML",
    r"\bparseHTMLUnsafe\b", r"javascript:", r"\bsetAttribute\((?!\"(?:href\"|aria-)|name, value\))",
    r"\bset(?:Timeout|Interval)\(\s*[\"'`]", r"\bimport\s*\(", r"\bcssText\b",
    r"\binsertRule\b", r"\bpostMessage\b", r"\bwindow\s*\.\s*open\b",
)  # fmt: skip


def text_of(name: str) -> str:
    return resources.files("huskies.gateway").joinpath("static", name).read_text("utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_a_text(name: str) -> None:
    found = [pattern for pattern in FORBIDDEN if re.search(pattern, text_of(name))]
    assert not found


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".html", ".svg"))])
def test_no_page_has_a_script_or_a_style_within(name: str) -> None:
    text = text_of(name)
    assert not re.search(r"\son[a-z]+\s*=", text, re.IGNORECASE)
    assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text, re.IGNORECASE)
    assert not re.search(r"\b(?:href|src)=(?!\"(?:/static/|#/))", text, re.IGNORECASE)


def test_an_address_from_a_file_is_a_link_only_where_it_is_one_to_a_page() -> None:
    found = [(name, text) for name in SCRIPTS for text in re.findall(r"\bhref\s*[:=](?!=).*", text_of(name))]
    # The two that make links: to a view of the page itself, and to what came from outside if it is a page.
    assert [name for name, _ in found] == ["dom.js", "dom.js"]
    assert "href: format(route)" in found[0][1]
    assert found[1][1].startswith("href: url")
    assert "return safe ?" in text_of("dom.js")
    assert "/^https?:$/.test(new URL(url).protocol)" in text_of("dom.js")
    # `format` always begins so, whatever the parts are.
    assert re.search(r"return `#/\$\{parts\.map\(encodeURIComponent\)", text_of("routes.js"))


def test_a_picture_is_drawn_with_attributes_that_run_nothing() -> None:
    # The one place that sets attributes by a name that it is given, and the names that it takes.
    assert len(re.findall(r"setAttribute\(name", "".join(map(text_of, SCRIPTS)))) == 1
    [names] = re.findall(r"const DRAWN = new Set\(\[(.*)\]\)", text_of("dom.js"))
    allowed = set(re.findall(r'"([^"]+)"', names))
    assert not {name for name in allowed if name.startswith("on") or name in {"style", "href", "src"}}
    assert "if (!DRAWN.has(name)) throw" in text_of("dom.js")


def test_every_script_is_fetched_at_once() -> None:
    # Else each would be found only when what imports it has come.
    found = re.findall(r'<link rel="modulepreload" href="/static/([^"]+)">', text_of("index.html"))
    assert found == [name for name in SCRIPTS if name not in {"app.js", "login.js"}]


def test_the_scripts_are_small() -> None:
    assert sum(len(text_of(name).encode()) for name in SCRIPTS) < 150_000
