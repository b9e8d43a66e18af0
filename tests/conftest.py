"""On CI nothing is skipped (SPEC 9): what would be skipped elsewhere fails there, saying what is missing."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run; how long one takes on a busy machine decides nothing.
settings.register_profile(
    "huskies", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("huskies")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # A test that is expected to fail counts as skipped too.
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
    return report
