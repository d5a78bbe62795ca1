"""How fast something goes, once that can be known: the first estimates of a training or a generation mislead."""

from __future__ import annotations

SETTLED = 3.0  # seconds behind the first unit, from which on a rate counts
STEADY = 1.5  # how many times faster or slower than all of it the later half of the time may be
PATIENCE = 60.0  # seconds after which an unsteady rate counts too
KEPT = 256  # looks that are remembered


class Pace:
    """Units per second of something that is looked at now and then.

    Its first unit is left out: it holds what is done once, such as loading, compiling and warming up. Then the rate is
    that of the later half of the time, as soon as both halves agree.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def add(self, time: float, done: int) -> None:
        """Note how much is done at a time (seconds, rising)."""
        if not self._seen or done > self._seen[-1][1]:
            self._seen.append((time, done))
        if len(self._seen) > KEPT:  # every second one, but the first two and the last
            self._seen = [*self._seen[:2], *self._seen[2:-1:2], self._seen[-1]]

    def rate(self) -> float | None:
        """Units per second; ``None`` while they are not known."""
        known = self._seen[1:]
        if len(known) < 3:
            return None
        (start, first), (end, last) = known[0], known[-1]
        if end - start < SETTLED:
            return None
        half, middle = min(known[1:-1], key=lambda look: abs(look[0] - (start + end) / 2))
        whole, late = (last - first) / (end - start), (last - middle) / max(end - half, 1e-9)
        steady = whole / STEADY <= late <= whole * STEADY
        return late if steady or end - start >= PATIENCE else None
