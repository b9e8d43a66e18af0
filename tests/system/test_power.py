"""A power loss right after the first start takes nothing that others were already told of."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from faults.disk import power
from faults.processes import Process, gateway_url, get


@pytest.mark.parametrize("data", ["gateway", "not/yet/there"])
def test_a_gateway_is_the_same_after_a_power_loss_right_after_its_first_start(
    tmp_path: Path, data: str
) -> None:
    disk, durable = tmp_path / "disk", tmp_path / "durable"
    disk.mkdir()
    power.begin(disk, durable)
    seen = []
    for _ in range(2):
        arguments = ("gateway", "--port", "0", "--data-dir", str(disk / data))
        process = Process(*arguments, planted=("--disk", str(disk), "--durable", str(durable)))
        try:
            seen.append(get(f"{gateway_url(process)}/gateway/digests"))
        finally:
            process.kill()
        power.lose_power(disk, durable, random.Random(7), all_unsynced=True)  # noqa: S311 - a test
    assert (seen[0]["gateway_id"], seen[0]["log_id"]) == (seen[1]["gateway_id"], seen[1]["log_id"])
