"""Sleds and their clones, which must lie in the same places: one at a time, the other is put away."""

from __future__ import annotations

import shutil

from faults.sleds import SledProcess


class Clone:
    """Copies what the sleds of an ended process left; `swap` puts the others in their places."""

    def __init__(self, original: SledProcess) -> None:
        self._places = [(place, place.with_name(f"{place.name}.away")) for place in original.projects]
        for place, away in self._places:
            place.rename(away)
            shutil.copytree(away, place)

    def swap(self) -> None:
        for place, away in self._places:
            between = place.with_name(f"{place.name}.between")
            place.rename(between)
            away.rename(place)
            between.rename(away)

    def discard(self) -> None:
        """Remove those that are put away."""
        for _, away in self._places:
            shutil.rmtree(away)
