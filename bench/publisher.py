"""`python -m bench.publisher PROJECT_DIR GATEWAY_URL RATE COUNT`: a real sled that publishes on a schedule.

Prints `connected` once the gateway has a first event; a line on stdin lets it begin. Prints, as JSON, when
each event was published (`perf_counter`, which all processes of a machine share on Linux).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import uvloop

from bench.setting import pace
from huskies.config import SledSettings
from huskies.events.model import StageTransition
from huskies.sled.service import Sled


def _event(number: int) -> StageTransition:
    return StageTransition(
        story_id=f"{number % 200:04d}_story_pub", story_name="Login", from_stage="2_current", to_stage="3_qa"
    )


async def main() -> None:
    project_dir, url, rate, count = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    sled = Sled(SledSettings(project_dir=project_dir, name="published", gateway_url=url, port=0))
    await sled.start()
    await sled.broadcaster.publish(_event(0))
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    loop = asyncio.get_running_loop()
    published: list[float] = []
    under_way: set[asyncio.Task[object]] = set()

    def publish(number: int) -> None:
        published.append(time.perf_counter())
        task: asyncio.Task[object] = loop.create_task(sled.broadcaster.publish(_event(number)))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    await asyncio.to_thread(
        pace, rate, count, lambda number, _due: loop.call_soon_threadsafe(publish, number)
    )
    # The last was handed to the loop before this; let it begin, and wait for all.
    await asyncio.sleep(0.01)
    await asyncio.gather(*under_way)
    print(json.dumps(published), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await sled.stop()


if __name__ == "__main__":
    uvloop.run(main())
