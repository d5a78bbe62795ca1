"""convert: write the model of a GGUF file as a plain folder, once for all roles that use it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.models import gguf_file
from meow_lightning.models.sources import identity, parse
from meow_lightning.resources.requirements import TOKENIZER_BYTES, Planner, Requirements
from meow_lightning.resources.training_memory import Memory
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.loading import check_unchanged
from meow_lightning.stages.results.model import ModelResult, model_folder
from meow_lightning.store.artifact import Artifact

DTYPE = "float32"  # holds decoded weights exactly
COPIES = 2  # of the weights in memory: as decoded, and in the model
PROGRAM = 600_000_000  # bytes; torch, transformers and the vocabulary, 510 MB measured with SmolLM2


class Convert(Stage):
    """Write the model of a GGUF file as a plain folder."""

    name = "convert"
    version = 1
    after = ()
    outputs = ModelResult.files
    quotes = False
    absent = "goal=convert converts nothing: no model of the run is a GGUF file; set model.target=FILE.gguf"

    def requirements(self, artifact: Artifact, planner: Planner) -> Requirements:
        """Compute memory and disk from the file's header."""
        path = Path(artifact.inputs["source"]["weights"])
        weights = gguf_file.parameters(path)
        size = weights * DTYPE_BYTES[DTYPE]
        nothing = dict.fromkeys((each.name for each in fields(Memory)), 0)
        # It computes on the CPU: where the other stages use a GPU, its memory is not theirs.
        taken = {"host": COPIES * size + PROGRAM} if planner.gpu else {"weights": COPIES * size, "program": PROGRAM}
        return Requirements(
            memory=Memory(**nothing | taken), disk=size + gguf_file.tokens(path) * TOKENIZER_BYTES, passing=0,
            flops=0.0, parameters=weights, items=weights,
        )  # fmt: skip

    def run(self, work: StageContext) -> None:
        """Write ``model/``: decoded weights, tokenizer with chat template, and all end tokens.

        Raises:
            UserError: The file changed since planning, or it does not hold all tensors of its architecture.
        """
        from meow_lightning.models.load import load_checkpoint, load_tokenizer

        source = parse(work.inputs["source"]["option"], work.inputs["source"]["weights"], words=())
        memory = work.folder.parent.parent / ".digests.json"
        check_unchanged(str(source), identity(source, memory=memory), work.settings["gguf"])
        path, folder = Path(str(source)), model_folder(work.folder)
        model = load_checkpoint(path, dtype=DTYPE, attention="eager")
        model.save_pretrained(folder)
        load_tokenizer(path).save_pretrained(folder)
        if (note := gguf_file.rounding_note(path)) is not None:
            work.warn(f"{source.option}: {note}")
