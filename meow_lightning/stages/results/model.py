"""The results of ``finetune`` and ``unlearn``: a model, how it was trained, and what was selected for its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from meow_lightning.data.streams.base import Chosen
from meow_lightning.evaluation.checkpoint_selection import Epoch
from meow_lightning.stages.results.base import Result
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json, read_lines, write_lines
from meow_lightning.tracking.curve import CURVE

CONVERTED = "converted"  # the need of a provided model that is made of a GGUF file
MODEL = "model"  # folder of the weights and the tokenizer
TRAINED_ON = "trained_on.json"  # the hardware and trainer behind a trained model; not part of any key
UNDO = "undo.safetensors"  # the start model's entries that a sparse method changed
SELECTED, CHOSEN, SAME = "selected.jsonl", "chosen.jsonl", "same.json"
EPOCH = "epoch.json"


def model_folder(folder: Path) -> Path:
    """Return where a stage stores a model: its weights and its tokenizer, in the format of transformers."""
    return folder / MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult(Result):
    """A stored model.

    Attributes:
        model: The folder of its weights and tokenizer.
        trained_on: The hardware and trainer that trained it; empty for a provided model.
        curve: Points of its training curve.
    """

    files: ClassVar[tuple[str, ...]] = (f"{MODEL}/config.json", f"{MODEL}/tokenizer_config.json")
    model: Path
    trained_on: Mapping[str, Any]
    curve: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read all but the weights."""
        trained_on = read_json(folder / TRAINED_ON) if (folder / TRAINED_ON).exists() else {}
        return cls(model=model_folder(folder), trained_on=trained_on, curve=list(read_lines(folder / CURVE)))

    def write(self, folder: Path) -> None:
        """Write how the model was trained; the trainer writes the curve, and ``save`` the weights."""
        write_json(folder / TRAINED_ON, self.trained_on)


@dataclass(frozen=True, slots=True)
class Selection(Result):
    """The inverted facts that an unlearned model was trained on: candidate positions by ``Fact.id``, in order."""

    files = ()
    positions: dict[str, list[int]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the positions; none for a method without inverted facts."""
        return cls({row["fact"]: row["positions"] for row in read_lines(folder / SELECTED)})

    def write(self, folder: Path) -> None:
        """Write one line per fact."""
        write_lines(folder / SELECTED, ({"fact": fact, "positions": each} for fact, each in self.positions.items()))


@dataclass(frozen=True, slots=True)
class ChosenExamples(Result):
    """The examples that the streams of an unlearned model chose from a split, by stream; ids without texts."""

    files = ()
    by_stream: Mapping[str, Sequence[Chosen]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read them; none for a method whose streams choose none."""
        by_stream: dict[str, list[Chosen]] = {}
        for row in read_lines(folder / CHOSEN):
            by_stream.setdefault(row["stream"], []).append(Chosen(row["example"], row["question"], row["similarity"]))
        return cls(by_stream)

    def write(self, folder: Path) -> None:
        """Write one line per example."""
        lines = ({"stream": name, **each._asdict()} for name, chosen in self.by_stream.items() for each in chosen)
        write_lines(folder / CHOSEN, lines)


@dataclass(frozen=True, slots=True)
class SelectedEpoch(Result):
    """The epoch whose weights ``optim.checkpoint=best`` kept, with its metrics on the held-out rows.

    Attributes:
        number: Its number, from 1; 0 for a model that is kept as it was.
        epoch: Its metrics.
    """

    files = ()
    number: int
    epoch: Epoch

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the epoch.

        Raises:
            FileNotFoundError: The model is that of the last epoch, or an earlier version of the code trained it.
        """
        stored = read_json(folder / EPOCH)
        return cls(stored["number"], Epoch(**stored["metrics"]))

    def write(self, folder: Path) -> None:
        """Write the epoch as one JSON object."""
        write_json(folder / EPOCH, {"number": self.number, "metrics": asdict(self.epoch)})


def is_carried_over(folder: Path) -> bool:
    """Whether an unlearned model was carried over from the previous round."""
    return (folder / SAME).exists()
