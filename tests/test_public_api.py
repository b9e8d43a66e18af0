from __future__ import annotations

import subprocess
import sys

import pytest

import huskies


def test_the_public_names_are_these() -> None:
    assert set(huskies.__all__) == {
        "ConfigError", "HuskiesError", "InvalidEventError", "MergeFailure", "Missed", "RateLimitHardBlock",
        "RateLimitWarning", "Receipt", "Sled", "SledSettings", "StageTransition", "StatusBroadcaster",
        "StoreError", "StoryBlocked", "Subscription", "__version__",
    }  # fmt: skip


@pytest.mark.parametrize("name", huskies.__all__)
def test_each_public_name_is_there(name: str) -> None:
    assert getattr(huskies, name) is not None


def test_what_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Gateway'"):
        huskies.Gateway  # noqa: B018 - the access is the test


def test_importing_huskies_imports_no_server() -> None:
    code = "import sys, huskies; print(sorted({'aiohttp', 'asyncio', 'sqlite3'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
