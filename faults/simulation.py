"""The mix of fault 12 again, with whole fleets in simulated time: many more hours and many more faults."""

from __future__ import annotations

import itertools

from faults.setting import Setting


def run(setting: Setting) -> None:
    from huskies.testing import run as simulate  # noqa: PLC0415 - it imports everything, and no other fault needs it

    # Other seeds than those of the tests, which begin at 0.
    first = (setting.seed + 1) * 1_000_000
    report = simulate(itertools.count(first), setting.sizes.simulated_hours)
    setting.report.count("seeds", report.seeds)
    setting.report.note("simulated hours", f"{report.hours:,.0f}")
    setting.report.count("faults", sum(report.faults.values()))
    for what, number in report.events.items():
        setting.report.count(what, number)
    assert not report.failed, "\n".join(report.lines())
