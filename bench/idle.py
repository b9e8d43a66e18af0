"""What a connected sled that sends nothing costs."""

from __future__ import annotations

import sys
from typing import Final

from bench.driver import SledRun, connect_all
from bench.processes import Gateway, gateway
from bench.report import Row
from bench.setting import Bench, run

_LIMIT: Final = 120.0
# Files that gateway and driver have open besides the sleds' sockets.
_OTHER_FILES: Final = 200


def _room_for(sleds: int) -> int:
    """How many sleds the limit on open files allows, after raising it as far as that is allowed."""
    if sys.platform == "win32":
        return min(sleds, 400)
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sleds + _OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(sleds, soft - _OTHER_FILES)


def measure_idle(bench: Bench) -> None:
    """Resident memory of the gateway before and after so many sleds greeted it, a project each."""
    count = _room_for(bench.sizes.idle_sleds)
    if count < bench.sizes.idle_sleds:
        bench.table.remark(f"ulimit -n allows {count:,} idle sleds only")
    with gateway(bench.directory("idle")) as server:
        before = server.process.rss_kib()
        if before is None:
            bench.table.remark("no /proc here: memory was not measured")
            return
        after = run(_greet(server, count), _LIMIT)
    bench.table.add(
        Row(
            what=f"memory of an idle sled, {count:,} of them",
            value=(after - before) / count,
            unit="KiB",
            target=25,
            note=f"the gateway's VmRSS went from {before / 1024:.0f} to {after / 1024:.0f} MiB",
        )
    )


async def _greet(server: Gateway, count: int) -> int:
    sleds = await connect_all(server.url, [SledRun(project=f"idle-{number}") for number in range(count)])
    after = server.process.rss_kib()
    assert after is not None
    for sled in sleds:
        sled.close()
    return after
