"""A language model that writes texts for an attack: a writer of `inversion`, named by an option of the attack."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.distributed import device
from meow_lightning.errors import renaming
from meow_lightning.inversion.base import DatasetFacts, Writer
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size
from meow_lightning.stages.results.model import model_folder

WRITERS = r"\binversion\.(?=\w)"  # how a writer names its options


def attack_writer(work: StageContext, name: str) -> Writer:
    """Build the writer of a stage, its model loaded.

    Args:
        work: The stage's context.
        name: Name of its settings, of its inputs, and of its model among the needs.

    Raises:
        UserError: An option is invalid, or the model cannot be loaded.
    """
    chosen, arguments = work.inputs[name], {}
    if name in work.needs:
        arguments = {
            "folder": model_folder(work.needs[name]), "device": str(device(work.runtime.accelerator)),
            "adaptive_batch_size": partial(adaptive_batch_size, work, shared=False),
        }  # fmt: skip
    with named_as(chosen["option"]):
        writer: Writer = instantiate(chosen["node"], allow=work.inputs["allow"], **arguments)
        writer.load()
    return writer


def check_writer(inputs: Mapping[str, Any], needs: Mapping[str, Any], name: str) -> None:
    """Check that the server of a writer answers; a model of one's own is checked as all models are.

    Args:
        inputs: The runtime inputs of an artifact.
        needs: The artifacts that it needs, by name.
        name: Name of the writer.

    Raises:
        UserError: It does not.
    """
    if name in inputs and name not in needs:
        with named_as(inputs[name]["option"]):
            instantiate(inputs[name]["node"], allow=inputs["allow"]).check()


def named_as(option: str) -> AbstractContextManager[None]:
    """Name the options of a writer in errors as in the run: it speaks of ``inversion``.

    Args:
        option: The dotted option that configures it.
    """
    return renaming(WRITERS, f"{option}.")


def writer_notes(writer: Writer, option: str) -> list[str]:
    """List the caveats of a writer, with its options named as in the run.

    Args:
        writer: The writer.
        option: The dotted option that configures it.
    """
    return [re.sub(WRITERS, f"{option}.", note) for note in writer.notes()]


def no_facts() -> DatasetFacts:
    """Return no facts: what such a writer knows of a fact is in the request."""
    return DatasetFacts((), ())
