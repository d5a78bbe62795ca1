"""The result of ``evaluate``: the metrics, their intervals and their bootstrap samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meow_lightning.evaluation.sequence import SequenceScores, scores_from_json
from meow_lightning.evaluation.suite.suite import results_from_json, results_to_json
from meow_lightning.stages.results.base import Result
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json
from meow_lightning.types import Results

RESULTS, INTERVALS, DRAWS = "results.json", "intervals.json", "draws.npz"
SEQUENCE = "sequence.json"


@dataclass(frozen=True, slots=True)
class EvaluateResult(Result):
    """The metrics of a run.

    Attributes:
        results: Definitions, values by role, and the reasons for missing values.
        intervals: Confidence intervals over questions.
        draws: The unlearned model's headline numbers in every bootstrap sample, for intervals over several seeds, by
            name.
        sequence: Matrices of every score over the requests to forget; empty for a run that forgets all facts at once.
    """

    files = (RESULTS, INTERVALS, DRAWS)
    results: Results
    intervals: dict[str, Any]
    draws: Mapping[str, NDArray[Any]]
    sequence: Sequence[SequenceScores] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the metrics, their intervals, samples and matrices."""
        results = results_from_json(read_json(folder / RESULTS))
        sequence = scores_from_json(read_json(folder / SEQUENCE)) if (folder / SEQUENCE).exists() else ()
        return cls(results, read_json(folder / INTERVALS), cls.read_draws(folder), sequence)

    @classmethod
    def read_draws(cls, folder: Path) -> dict[str, NDArray[np.float64]]:
        """Read the bootstrap samples alone; none if an earlier version computed the metrics."""
        if not (folder / DRAWS).exists():
            return {}
        with np.load(folder / DRAWS, allow_pickle=False) as stored:
            return {name.replace("|", "/"): stored[name].astype(np.float64) for name in stored.files}

    def write(self, folder: Path) -> None:
        """Write the intervals and samples, in single precision, and last the metrics."""
        write_json(folder / INTERVALS, self.intervals)
        samples = {name.replace("/", "|"): each.astype(np.float32) for name, each in self.draws.items()}
        np.savez_compressed(folder / DRAWS, **samples)  # type: ignore[arg-type]
        if self.sequence:
            write_json(folder / SEQUENCE, [asdict(each) for each in self.sequence])
        write_json(folder / RESULTS, results_to_json(self.results))
