"""Where a gateway's time goes while it ingests: py-spy, which samples it from outside."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Final

from bench.driver import connect_all, run_all
from bench.ingest import batches
from bench.processes import find_program, gateway
from bench.setting import Bench, run

_LIMIT: Final = 180.0
_SHOWN: Final = 15


def profile_ingest(bench: Bench, output: Path) -> None:
    """Write the stacks that held the interpreter's lock, and print in which functions most were."""
    program = find_program("py-spy")
    if program is None:
        bench.table.remark("py-spy is not installed: no profile (pip install py-spy)")
        return
    with gateway(bench.directory("profile")) as server:
        command = [program, "record", "--gil", "--format", "raw", "--output", str(output)]
        sampler = subprocess.Popen(
            [*command, "--pid", str(server.process.popen.pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        async def drive() -> None:
            sleds = await connect_all(server.url, batches(bench, bench.sizes.batch_frames))
            await run_all(sleds)
            for sled in sleds:
                sled.close()

        try:
            run(drive(), _LIMIT)
        finally:
            # It writes what it has when it is interrupted.
            sampler.send_signal(signal.SIGINT)
            sampler.wait(20)
    _show(output)


def _show(output: Path) -> None:
    own: Counter[str] = Counter()
    with_callees: Counter[str] = Counter()
    for line in output.read_text("utf-8").splitlines():
        stack, _, samples = line.rpartition(" ")
        # Without line numbers: one entry a function.
        functions = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        own[functions[-1]] += int(samples)
        with_callees.update(dict.fromkeys(functions, int(samples)))
    total = sum(own.values()) or 1
    print(f"\nprofile of the gateway during ingest, {total} samples; stacks in {output}")
    print("  own  with callees")
    for function, count in own.most_common(_SHOWN):
        print(f"{count / total:5.1%}  {with_callees[function] / total:6.1%}  {function}")
