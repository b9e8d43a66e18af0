"""Who fails too often has to wait, and nobody else."""

from __future__ import annotations

from huskies.gateway.access.attempts import Attempts


def test_after_so_many_failures_an_address_waits() -> None:
    attempts = Attempts(most=3, seconds=60)
    for _ in range(2):
        attempts.failed("a", 10.0)
    assert attempts.wait("a", 10.0) == 0
    attempts.failed("a", 20.5)
    assert attempts.wait("a", 20.5) == 50
    assert attempts.wait("a", 69.9) == 1
    assert attempts.wait("a", 70.0) == 0
    assert attempts.wait("b", 20.5) == 0


def test_old_failures_do_not_count() -> None:
    attempts = Attempts(most=2, seconds=60)
    attempts.failed("a", 0.0)
    attempts.failed("a", 60.0)
    assert attempts.wait("a", 60.0) == 0
    attempts.failed("a", 61.0)
    assert attempts.wait("a", 61.0) == 59


def test_addresses_beyond_memory_push_the_oldest_out() -> None:
    attempts = Attempts(most=1, seconds=60, addresses=2)
    for address in "abc":
        attempts.failed(address, 1.0)
    assert [attempts.wait(address, 1.0) > 0 for address in "abc"] == [False, True, True]
