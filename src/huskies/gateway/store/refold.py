"""Folds a sequence again of which another branch won: what the fleet knew of it may be in quarantine now."""

from __future__ import annotations

from typing import Final

from huskies.gateway.fleet import Fleet
from huskies.gateway.store.log import Log
from huskies.protocol.vectors import Origin

# Read at a time, in the thread that also commits: so much keeps no append waiting for long.
_CHUNK_EVENTS: Final = 4_000


async def refold(fleet: Fleet, log: Log, origin: Origin) -> None:
    """Let the fleet say of a sequence what the log retains and shows of it.

    What comes live meanwhile is folded as ever: by their seqs the two are brought together. What all branches
    share and the log does not retain any more stays known. To be called after the cut is told of, and not
    twice at once: the second of two would not undo what the first has just read.
    """
    live = log.sequences.live(origin)
    cuts = [each.cut_seq for each in log.sequences.known(origin) if each.cut_seq is not None]
    if live is None or not cuts:
        return
    fleet.forget_branch(live, min(cuts))
    # Whatever comes from now on is folded when it is published; what came before has no higher seq than this.
    last = live.last_seq
    begin = min((first for _, first, _ in log.sequences.parts(origin, 1, last)), default=last + 1)
    # The newest first: that is what most stories are shown by.
    while last >= begin:
        first = max(begin, last + 1 - _CHUNK_EVENTS)
        for run in await log.held_runs(origin, first, last):
            fleet.fold_late(live, run.events, run.first_seq, run.received_ms)
        last = first - 1
    fleet.prune(live.project)


async def refold_cut(fleet: Fleet, log: Log) -> None:
    """Do so for all sequences that were cut, and forget what is: a fleet that was kept may be older."""
    for live in log.sequences.all_live():
        forgotten = log.sequences.forgotten(live.origin)
        if forgotten is not None:
            fleet.forget(live.project, {live.origin: forgotten})
        await refold(fleet, log, live.origin)
