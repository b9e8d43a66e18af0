"""Simulation: sleds, gateways and their readers in one process, with virtual time, under one seed.

What runs is what production runs: `Sled`, `Gateway`, aiohttp and SQLite. Below them, sockets, clocks,
chance, threads and the disk's errors are simulated, and every decision is drawn from one seed, so that what
failed once fails again. An idle hour costs a fraction of a second.

    python -m huskies.testing --seed 7 --hours 2 --trace     one seed, and everything that happens in it
    python -m huskies.testing --hours 1000                   so many hours, over as many seeds as that takes

    from huskies.testing import run, run_seed
    report = run(range(100), hours=200)                      report.failed, report.lines()

While a simulation runs, `time`, `secrets`, `random`, `os.urandom` and `sqlite3.connect` are replaced in the
whole Python process: run nothing else beside it, and no two at once. On the same version of everything, the
same seed gives the same `trace_hash`.

| module | what it stands for |
| --- | --- |
| `loop` | the event loop, time, processes that can be killed and paused |
| `network`, `connection` | TCP: delay, pieces, partitions, resets, half-open connections |
| `disk` | commits that take time, EIO and ENOSPC |
| `place`, `fleet` | machines with clocks of their own, and what runs there |
| `surroundings`, `knobs` | clocks and chance; limits drawn so small that they are met |
| `faults` | what goes wrong, and what may be lost by it |
| `judge` | what must hold once everything healed |
| `simulation` | puts one seed together |
"""

from __future__ import annotations

from huskies.testing.simulation import Outcome, Report, run, run_seed

__all__ = ["Outcome", "Report", "run", "run_seed"]
