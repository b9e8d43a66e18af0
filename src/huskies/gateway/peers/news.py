"""Which sequences were closed or contested since another gateway was told how they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from huskies.gateway.store.blocks import Stream
from huskies.gateway.store.streams import Streams
from huskies.protocol.vectors import Origin

_NOTHING_SAID: Final = (None, False)


class News:
    """What one other gateway was told of `sequences`."""

    def __init__(self, sequences: Streams) -> None:
        self._sequences = sequences
        self._said: dict[Origin, tuple[int | None, bool]] = {}
        self._said_news = 0

    @property
    def is_any(self) -> bool:
        """Whether something changed since."""
        return self._said_news != self._sequences.news

    def take(self) -> list[Stream]:
        """Those that did; they count as told."""
        count = self._sequences.news
        news = [
            stream
            for stream in self._sequences.all_live()
            if self._said.get(stream.origin, _NOTHING_SAID) != (stream.closed_seq, stream.contested)
        ]
        self.said(news, count)
        return news

    def said(self, streams: Sequence[Stream], news: int) -> None:
        """It was told how these stand, as of when so much had changed."""
        self._said_news = news
        self._said.update({stream.origin: (stream.closed_seq, stream.contested) for stream in streams})
