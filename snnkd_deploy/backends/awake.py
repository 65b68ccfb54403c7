"""Time that counts for a watchdog: a process that was paused itself has not waited for anybody."""

from __future__ import annotations

import time

# Longer than any poll of a watchdog takes on a busy machine.
_LONGEST_S = 5.0


class AwakeClock:
    """Seconds between ticks. Of a longer gap (Ctrl-Z, a frozen container) only `longest_s` count."""

    def __init__(self, longest_s: float = _LONGEST_S) -> None:
        self.longest_s = longest_s
        self.now = 0.0
        self._last = time.monotonic()

    def tick(self) -> float:
        last, self._last = self._last, time.monotonic()
        self.now += min(self._last - last, self.longest_s)
        return self.now
