"""What the dashboard's files may not do: whatever is said in a name or a reason must stay a text."""

from __future__ import annotations

import re
from importlib import resources

import pytest

FILES = sorted(
    file.name for file in resources.files("huskies.gateway").joinpath("static").iterdir() if file.is_file()
)
# Each of these makes markup, a script, a style or an address out of a text.
FORBIDDEN = (
    r"\b(?:inner|outer)HTML\b", r"\binsertAdjacentHTML\b", r"\bdocument\s*\.\s*write", r"\beval\s*\(",
    r"\bnew\s+Function\b", r"\bsrcdoc\b", r"\bDOMParser\b", r"\bcreateContextualFragment\b", r"\bsetHTML",
    r"\bparseHTMLUnsafe\b", r"javascript:", r"\bsetAttribute\((?!\"(?:href\"|aria-))",
    r"\bset(?:Timeout|Interval)\(\s*[\"'`]", r"\bimport\s*\(", r"\bcssText\b",
    r"\binsertRule\b", r"\bpostMessage\b", r"\bwindow\s*\.\s*open\b",
)  # fmt: skip


def text_of(name: str) -> str:
    return resources.files("huskies.gateway").joinpath("static", name).read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_no_script_makes_markup_of_a_text(name: str) -> None:
    found = [pattern for pattern in FORBIDDEN if re.search(pattern, text_of(name))]
    assert not found


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".html", ".svg"))])
def test_no_page_has_a_script_or_a_style_within(name: str) -> None:
    text = text_of(name)
    assert not re.search(r"\son[a-z]+\s*=", text, re.IGNORECASE)
    assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text, re.IGNORECASE)
    assert not re.search(r"\b(?:href|src)=(?!\"/static/)", text, re.IGNORECASE)


def test_an_address_from_a_file_is_a_link_only_where_it_is_one_to_a_page() -> None:
    text = text_of("view.js")
    # The one place that makes a link of what came from outside, and what it asks first.
    assert len(re.findall(r"\bhref\b\s*:", text)) == 1
    assert "/^https?:$/.test(new URL(url).protocol)" in text
