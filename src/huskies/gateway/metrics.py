"""What the gateway tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One gateway's metrics; counting is a few dictionary look-ups, so it happens a batch at a time."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        received = Counter(
            "huskies_events_received_total",
            "Events received from sleds, repeats included.",
            ["protocol"],
            registry=self._registry,
        )
        self._received = {version: received.labels(version) for version in ("v1", "v2")}
        self._appended = Counter(
            "huskies_events_appended_total", "Events committed to the log.", registry=self._registry
        )
        self._commits = Counter("huskies_commits_total", "Commits to the log.", registry=self._registry)
        sleds = Gauge("huskies_connections", "Connected sleds.", ["protocol"], registry=self._registry)
        self._connections = {version: sleds.labels(version) for version in ("v1", "v2")}
        self._readers = Gauge("huskies_readers", "Open event streams.", registry=self._registry)
        self._refused = Counter(
            "huskies_refused_total", "What was refused, by kind.", ["kind"], registry=self._registry
        )
        self._position = Gauge(
            "huskies_log_position", "The newest event's position.", registry=self._registry
        )
        self._index_position = Gauge(
            "huskies_index_position", "How far the log is indexed.", registry=self._registry
        )
        self._first_position = Gauge(
            "huskies_log_first_position", "The oldest event that is retained.", registry=self._registry
        )
        self._bytes = Gauge("huskies_log_bytes", "How much of log.db is in use.", registry=self._registry)
        self._over_quota = Gauge(
            "huskies_projects_over_quota", "Projects of which nothing more is taken.", registry=self._registry
        )
        self._damaged = Gauge(
            "huskies_log_damaged",
            "Damaged blocks, whose events are shown to no one.",
            registry=self._registry,
        )
        self._batch = Histogram(
            "huskies_commit_events",
            "Events in one commit.",
            buckets=(1, 10, 100, 1_000, 10_000),
            registry=self._registry,
        )

    def received(self, version: str, events: int) -> None:
        """Events came from a sled."""
        self._received[version].inc(events)

    def opened(self, position: int, indexed: int) -> None:
        """The log ends at `position`, and is indexed up to `indexed`."""
        self._position.set(position)
        self._index_position.set(indexed)

    def appended(self, events: int, position: int) -> None:
        """A commit put so many events into the log, which now ends at `position`."""
        self._appended.inc(events)
        self._commits.inc()
        self._batch.observe(events)
        self._position.set(position)

    def indexed(self, position: int) -> None:
        """The log is indexed up to `position`."""
        self._index_position.set(position)

    def retained(self, first_position: int, size: int) -> None:
        """The log begins at this position and takes so many bytes."""
        self._first_position.set(first_position)
        self._bytes.set(size)

    def over_quota(self, projects: int) -> None:
        """So many projects are over their quota."""
        self._over_quota.set(projects)

    def damaged(self, blocks: int) -> None:
        """So many blocks are known to be damaged."""
        self._damaged.set(blocks)

    def connections(self, version: str, change: int) -> None:
        """A sled connected (1) or disconnected (-1)."""
        self._connections[version].inc(change)

    def readers(self, change: int) -> None:
        """An event stream was opened (1) or closed (-1)."""
        self._readers.inc(change)

    def refused(self, kind: str) -> None:
        """Something was refused."""
        self._refused.labels(kind).inc()

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)
