"""Makes inputs out of valid ones: changes their bytes, their lines, and what their JSON says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

SIZE_MAX: Final = 64 << 10
_CHANGES: Final = (0, 1, 1, 1, 1, 1, 1, 2, 2, 4)
_OF_REFUSED: Final = 0.15
_TEXTS: Final = (
    "", "a", "0", "null", "x" * 300, "y" * 20_000, "\x1b[2J", "\x9b31m", "\u202e", "\x00", "\n", "\ud800",
    "\udcff", "é", "\U0001d518", "..", "/", "<script>", "{}", "12345678-1-12345678", "ab" * 32, "0" * 16,
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2026-01-01T00:00:00",
)  # fmt: skip
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, -1, 0, 1, 2, 255, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**400, 0.5, 1e308,
    float("nan"), float("inf"), [], {},
)  # fmt: skip
_WORDS: Final = (
    b"\x00", b"\n", b"\r\n", b"\xff", b"\xc2\x9b", b"\x1b[31m", b"\xed\xa0\x80", b"\xe2\x80\xae", b" ",
    b'"', b"\\", b"'", b"[", b"{", b"-", b":", b"%ff", b"%00", b"9" * 30, b"[" * 2_000, b'{"a":' * 2_000,
)  # fmt: skip


class Mutator:
    """Begins with `corpus`; `learn` adds what led somewhere new."""

    def __init__(self, corpus: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        self.corpus = list(corpus)
        self._refused: list[bytes] = []
        self._words = (*_WORDS, *words, *words)

    def make(self, draw: Random) -> bytes:
        """One input; the same for the same `draw` and corpus."""
        # What was refused once leads to other refusals, most of the time.
        data = draw.choice(self._refused if self._refused and draw.random() < _OF_REFUSED else self.corpus)
        for _ in range(draw.choice(_CHANGES)):
            change = draw.choice(
                (self._in_json, self._in_json, self._in_json, self._in_bytes, self._in_lines)
            )
            data = change(data, draw)[:SIZE_MAX]
        return data

    def learn(self, data: bytes, *, taken: bool) -> None:
        """Make further inputs of this one, too."""
        (self.corpus if taken else self._refused).append(data)

    # --- what stands in JSON -----------------------------------------------------------------------

    def _in_json(self, data: bytes, draw: Random) -> bytes:
        lines = data.split(b"\n")
        at = draw.randrange(len(lines))
        begin = lines[at].find(b"{")
        try:
            tree = [json.loads(lines[at][begin:])] if begin >= 0 else []
            if not tree:
                return self._in_bytes(data, draw)
            self._change_one(tree, draw)
            spelt = json.dumps(tree[0], ensure_ascii=draw.random() < 0.5, separators=(",", ":"))
        except (ValueError, RecursionError):
            return self._in_bytes(data, draw)
        lines[at] = lines[at][:begin] + spelt.encode("utf-8", "surrogatepass")
        return b"\n".join(lines)

    def _change_one(self, tree: list[Any], draw: Random) -> None:
        places = list(_places(tree))
        holder, key = draw.choice(places)
        match draw.randrange(10):
            case 0:
                holder[key] = draw.choice(_VALUES)
            case 1:
                holder[key] = draw.choice(_TEXTS)
            case 2 | 3 | 4 if isinstance(holder[key], str):
                holder[key] = _spliced(holder[key], draw)
            case 2 | 3 | 4 if isinstance(holder[key], int):
                holder[key] += draw.choice((-1, 1, 2, 1_000))
            case 5 | 6:
                other, there = draw.choice([place for place in places if _is_like(place, holder[key])])
                holder[key] = json.loads(json.dumps(other[there]))
            case 7:
                other, there = draw.choice(places)
                holder[key] = json.loads(json.dumps(other[there]))
            case _ if holder is not tree:
                _remove_or_repeat(holder, key, draw)

    # --- lines, and bytes --------------------------------------------------------------------------

    def _in_lines(self, data: bytes, draw: Random) -> bytes:
        lines = data.split(b"\n")
        at = draw.randrange(len(lines))
        match draw.randrange(4):
            case 0:
                del lines[at]
            case 1:
                lines.insert(draw.randrange(len(lines) + 1), lines[at])
            case 2:
                lines.insert(at, draw.choice(draw.choice(self.corpus).split(b"\n")))
            case _:
                other = draw.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
        return b"\n".join(lines)

    def _in_bytes(self, data: bytes, draw: Random) -> bytes:
        begin = draw.randrange(len(data) + 1)
        end = min(len(data), begin + draw.choice((0, 1, 1, 2, 4, 16, 64)))
        match draw.randrange(5):
            case 0:
                middle = draw.choice(self._words)
            case 1:
                middle = draw.randbytes(draw.choice((1, 1, 2, 4, 8)))
            case 2:
                middle = b""
            case 3:
                middle = data[begin:end] * draw.choice((2, 3, 50))
            case _:
                other = draw.choice(self.corpus)
                cut = draw.randrange(len(other) + 1)
                middle = other[cut : cut + draw.choice((1, 4, 16, 64))]
        return data[:begin] + middle + data[end:]


def _places(tree: Any) -> Any:  # noqa: ANN401 - JSON
    """Each place in the tree, as what holds it and its key or index there."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def _is_like(place: tuple[Any, Any], value: object) -> bool:
    holder, key = place
    return type(holder[key]) is type(value)


def _spliced(text: str, draw: Random) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(_TEXTS) + text[at + draw.randrange(3) :]


def _remove_or_repeat(holder: Any, key: Any, draw: Random) -> None:  # noqa: ANN401 - JSON
    if isinstance(holder, list) and draw.random() < 0.5:
        holder.extend([holder[key]] * draw.choice((1, 10, 300)))
    elif isinstance(holder, dict) and draw.random() < 0.5:
        holder[draw.choice(_TEXTS)] = holder[key]
    else:
        del holder[key]
