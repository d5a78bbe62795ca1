from __future__ import annotations

import pytest
import torch

from meow_lightning.training import meter as meter_module
from meow_lightning.training.meter import MEMORY, TOKENS_PER_SECOND, Meter


def test_tokens_without_padding_per_second_within_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first step takes 2 s, the probe after it 100 s, the second step 3 s.
    times = iter([0.0, 2.0, 102.0, 105.0, 110.0, 114.0])
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: next(times))
    meter = Meter()
    meter.begin(7)
    meter.end()
    meter.begin(8)
    meter.end()
    assert float(meter.tokens) == 15
    first = meter.read(float(meter.tokens), torch.device("cpu"))
    assert first[TOKENS_PER_SECOND] == pytest.approx(3.0)
    assert 10 < first[MEMORY] < 1e6
    meter.begin(8)
    meter.end()
    # Two processes with as many tokens are twice as fast.
    assert meter.read(2 * float(meter.tokens), torch.device("cpu"))[TOKENS_PER_SECOND] == pytest.approx(4.0)
