"""Whether what is known is all that there is to know: nobody is woken by what is over since. Pure.

After a start, and each time the stream was lost, what fell due meanwhile waits until the stream was read to
its end and the board was asked; before an escalation the board is asked in any case. A gateway that does not
answer holds this up for a while only: what stands as it was last known is told then.
"""

from __future__ import annotations

from typing import Final

# So long without an event a stream has nothing more of before (seconds). What comes live says so sooner.
REST: Final = 1.0
# The board says for so long whether an escalation is needed.
FRESH: Final = 10.0
# So long the gateway is waited for.
LONGEST: Final = 60.0


class Footing:
    """Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._lost_at = now
        # Since when nothing came of the stream that is there; and when it had been read to its end.
        self._quiet_since: float | None = None
        self._read_at: float | None = None
        # Whether the board was asked since then, and when it was at all.
        self._has_asked = False
        self._asked_at = float("-inf")
        self._due_since: float | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the stream is there."""
        return self._quiet_since is not None

    def connected(self, now: float) -> None:
        """The stream is there (again)."""
        self._quiet_since = now

    def disconnected(self, now: float) -> None:
        """The stream is lost."""
        self.begins_again(now)
        self._quiet_since = None

    def begins_again(self, now: float) -> None:
        """What comes next is of before."""
        if self._has_asked:
            self._lost_at = now
        self._has_asked, self._read_at = False, None
        self.took(now, is_live=False)

    def took(self, now: float, *, is_live: bool) -> None:
        """Events were read; `is_live`: what happens now is among them."""
        if self.is_connected:
            self._quiet_since = now
        if is_live and self._read_at is None:
            self._read_at = now

    def asked(self, asked_at: float) -> None:
        """The board, asked for then, was compared with what is known."""
        self._asked_at = asked_at
        self._has_asked = self._has_asked or (self._read_at is not None and asked_at >= self._read_at)

    def wants_board(self, now: float, *, is_due: bool) -> bool:
        """Whether the board is to be asked now; `is_due`: it may call off what is about to happen."""
        has_waited = now - self._lost_at >= LONGEST
        # Clocks that differ hide what is live: a stream that never rests is not waited for longer either.
        has_come = self._quiet_since is not None and (has_waited or now - self._quiet_since >= REST)
        if has_come and self._read_at is None:
            self._read_at = now
        if not is_due:
            self._due_since = None
        elif self._due_since is None:
            self._due_since = now
        has_read = self._read_at is not None
        return (has_read and not self._has_asked) or (
            is_due and (has_read or has_waited) and not self._is_fresh(now)
        )

    def is_caught_up(self, now: float) -> bool:
        """Whether what is due may be told."""
        return self._has_asked or now - self._lost_at >= LONGEST

    def may_escalate(self, now: float) -> bool:
        """Whether the next ones may be told of what is held up still."""
        waited = self._due_since is not None and now - self._due_since >= LONGEST
        return self.is_caught_up(now) and (self._is_fresh(now) or waited)

    def _is_fresh(self, now: float) -> bool:
        return now - self._asked_at <= FRESH
