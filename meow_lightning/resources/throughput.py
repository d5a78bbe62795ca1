"""Throughput estimates that wait until they are reliable: the first ones of a training or generation mislead."""

from __future__ import annotations

SETTLED = 3.0  # seconds after the first unit from which a rate counts
STEADY = 1.5  # maximum ratio between the rates of the later half and of the whole time
PATIENCE = 60.0  # seconds after which an unsteady rate counts too
HISTORY = 256  # number of remembered samples


class Throughput:
    """Estimated units per second of periodically observed work.

    The first unit is excluded: it includes one-time work such as loading, compiling and warm-up. The rate is that of
    the later half of the time, once both halves agree.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def add(self, time: float, done: int) -> None:
        """Record the units done at a time (in seconds, increasing)."""
        if not self._samples or done > self._samples[-1][1]:
            self._samples.append((time, done))
        if len(self._samples) > HISTORY:  # drop every second one except the first two and the last
            self._samples = [*self._samples[:2], *self._samples[2:-1:2], self._samples[-1]]

    def rate(self) -> float | None:
        """Return units per second; ``None`` while unknown."""
        samples = self._samples[1:]
        if len(samples) < 3:
            return None
        (start, first), (end, last) = samples[0], samples[-1]
        if end - start < SETTLED:
            return None
        half, middle = min(samples[1:-1], key=lambda sample: abs(sample[0] - (start + end) / 2))
        overall, late = (last - first) / (end - start), (last - middle) / max(end - half, 1e-9)
        steady = overall / STEADY <= late <= overall * STEADY
        return late if steady or end - start >= PATIENCE else None
