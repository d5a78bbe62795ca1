"""Keeps the weights of the best epoch according to the evaluation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from meow_lightning.evaluation.checkpoint_selection import Epoch, is_better
from meow_lightning.store.durable import checked_line, checked_lines, replace_atomically, sync_to_disk
from meow_lightning.store.integrity import digest


@dataclass(frozen=True, slots=True)
class BestCheckpoint:
    """The weights of the best epoch so far, in a folder that outlives a killed run.

    Attributes:
        folder: Folder of the weights.
    """

    folder: Path

    def epoch(self) -> Epoch | None:
        """Return the stored epoch; ``None`` if there is none."""
        rows = checked_lines(self.folder / "best.json").rows
        return Epoch(**rows[0]["epoch"]) if rows else None

    def damaged(self) -> bool:
        """Whether the stored file is damaged, so that earlier epochs can no longer be chosen."""
        weights = sorted(self.folder.glob("best-*.safetensors"))
        rows, damaged = checked_lines(self.folder / "best.json")
        if damaged or not rows:
            return bool(weights) or (self.folder / "best.json").exists()
        path = self.weights(Epoch(**rows[0]["epoch"]))
        return path not in weights or digest(path) != rows[0]["sha256"]

    def offer(self, new: Epoch, model: torch.nn.Module) -> None:
        """Store a model's trainable weights if its epoch is better than the best so far.

        Args:
            new: The epoch of the model in training.
            model: The model.
        """
        if not is_better(new, self.epoch()):
            return
        weights = {name: each.detach().cpu().contiguous() for name, each in trained_weights(model).items()}
        # The step is part of the file name, so that a kill in between leaves the previous pair intact.
        save_file(weights, self.weights(new))
        sync_to_disk([self.weights(new)])
        side = self.folder / "best.new"
        side.write_text(checked_line({"epoch": asdict(new), "sha256": digest(self.weights(new))}), encoding="utf-8")
        replace_atomically(side, self.folder / "best.json")
        for path in self.folder.glob("best-*.safetensors"):
            if path != self.weights(new):
                path.unlink()

    def put(self, model: torch.nn.Module) -> Epoch | None:
        """Load the best epoch's weights into a model and return that epoch; ``None`` if there is none.

        Args:
            model: The trained model.
        """
        chosen = self.epoch()
        if chosen is not None:
            stored = load_file(self.weights(chosen))
            with torch.no_grad():
                for name, each in trained_weights(model).items():
                    each.copy_(stored[name])
        return chosen

    def weights(self, chosen: Epoch) -> Path:
        """Return the path of an epoch's weights."""
        return self.folder / f"best-{chosen.step}.safetensors"


def trained_weights(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return a model's trainable weights by name; tied ones once.

    Args:
        model: A model.
    """
    return {name: each for name, each in model.named_parameters() if each.requires_grad}
