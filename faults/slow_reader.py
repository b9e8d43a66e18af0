"""Fault 10: subscribers that read one byte a second.

The gateway's memory stays bounded, others read and publish as before, and whoever was cut off for slowness
resumes without a gap.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from urllib.parse import urlsplit

from faults.checker import check_reader
from faults.fleet import Fleet, running_fleet
from faults.processes import until
from faults.proxy import Seen
from faults.readers import StreamReader
from faults.setting import Setting
from huskies import limits

_CUT_OFF = "a slow reader was disconnected"
# What a reader may cost the gateway: the blocks it holds, what of them is written, and the transport's copy.
_KIB_PER_READER = 3 * limits.READER_BYTES_MAX >> 10
_KIB_NOISE = 64 << 10
# So many of them then read on; reading everything takes a while.
_RESUMING = 5


class Trickle(threading.Thread):
    """Takes one byte a second of an event stream, with next to no room for what it has not taken."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        address = urlsplit(url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect((address.hostname, address.port))
        self._socket.sendall(
            b"GET /gateway/events?after=0 HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        )
        self.enough = threading.Event()
        self._taken = b""

    def run(self) -> None:
        while not self.enough.wait(1):
            if not (byte := self._socket.recv(1)):
                return
            self._taken += byte

    def rest(self) -> list[str]:
        """After `enough`: what was sent before it was cut off, as cursors of whole events."""
        self.join(5)
        self._socket.settimeout(30)
        try:
            while data := self._socket.recv(1 << 16):
                self._taken += data
        except ConnectionResetError:
            pass
        self._socket.close()
        blocks = self._taken.partition(b"\r\n\r\n")[2].split(b"\n\n")[:-1]
        status = [block.split(b"\n") for block in blocks if b"\nevent: status\n" in block]
        return [lines[0].removeprefix(b"id: ").decode() for lines in status]


class Stopwatch:
    """How long the gateway took from a frame of events to the ack that covers it, as the proxy sees it."""

    def __init__(self, fleet: Fleet) -> None:
        self._due: dict[int, list[tuple[int, float]]] = {}
        self.seconds: list[float] = []
        fleet.proxy.watch = self._on_frame

    def _on_frame(self, seen: Seen) -> bool:
        due = self._due.setdefault(id(seen.line), [])
        if seen.kind == "events":
            due.append((seen.frame["last_seq"], time.perf_counter()))
        elif seen.kind == "ack":
            while due and due[0][0] <= seen.frame["seq"]:
                self.seconds.append(time.perf_counter() - due.pop(0)[1])
        return True

    def p99(self) -> float:
        return statistics.quantiles(self.seconds, n=100)[98]


def run(setting: Setting) -> None:
    with running_fleet(setting) as fleet:
        # More than what sockets hold for a reader that takes nothing.
        for sled in fleet.sleds:
            sled.padding = 1_000
        fleet.start_gateway()
        fleet.start_sleds()
        fleet.follow()
        part = setting.sizes.slow_reader_events // setting.sizes.sleds // 3
        _publish(fleet, part)
        alone = _publish(fleet, 2 * part)
        before = fleet.running.memory_kib()
        trickles = [Trickle(fleet.url) for _ in range(setting.sizes.slow_readers)]
        for trickle in trickles:
            trickle.start()
        # Until each has got what sockets hold: how it hangs afterwards is what matters.
        _publish(fleet, 2 * part + part // 4)
        beside = _publish(fleet, 3 * part)
        grown = _peak_until_cut_off(fleet, len(trickles)) - before
        fleet.judge()
        for trickle in trickles:
            trickle.enough.set()
        for trickle in trickles[:_RESUMING]:
            _resumes(fleet, trickle)
        for trickle in trickles[_RESUMING:]:
            trickle.rest()
    report = setting.report
    report.count("slow readers cut off", len(trickles))
    report.note("gateway's memory meanwhile", f"{grown / 1024:+.1f} MiB")
    report.note("ingest p99", f"{alone * 1e3:.1f} ms without them, {beside * 1e3:.1f} ms with them")
    assert grown < _KIB_NOISE + _KIB_PER_READER * len(trickles), f"the gateway grew by {grown} KiB"
    # A machine that others use as well is not quieter than that; and a quick run has no time to measure.
    assert not setting.sizes.judge_times or beside < 3 * alone + 0.05, (
        f"ingest p99 went from {alone:.4f} to {beside:.4f} s"
    )


def _peak_until_cut_off(fleet: Fleet, count: int) -> int:
    """The most memory that the gateway took while slow readers hung on to it, in KiB."""
    peaks: list[int] = []

    def cut_off() -> bool:
        peaks.append(fleet.running.memory_kib())
        return fleet.running.output.count(_CUT_OFF) >= count

    until(cut_off, "all slow readers are cut off", fleet.setting.sizes.long + 60)
    return max(peaks)


def _publish(fleet: Fleet, goal: int) -> float:
    """Publish up to the goal; the ingest's p99."""
    stopwatch = Stopwatch(fleet)
    fleet.aim(goal)
    fleet.settle()
    fleet.proxy.watch = None
    return stopwatch.p99()


def _resumes(fleet: Fleet, trickle: Trickle) -> None:
    cursors = trickle.rest()
    reader = StreamReader(fleet.url, keep=False)
    reader.last_id = cursors[-1] if cursors else None
    reader.start()
    end = fleet.log[-1]["cursor"]
    until(lambda: reader.cursors[-1:] == [end], "a slow reader catches up once it reads", 60)
    # It ends with the fleet.
    fleet.readers.append(reader)
    problem = check_reader([event["cursor"] for event in fleet.log], "-0-", cursors + reader.cursors)
    assert not problem, problem
