"""Checks that the models of a run are usable and can read all of its texts, before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from meow_lightning.config.precision import PRECISIONS, weights_dtype
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.encoding import content_digest
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.models.checkpoint import FLASH, check_attention
from meow_lightning.models.inspection import Candidate, inspect_models
from meow_lightning.models.sources import locate, parse
from meow_lightning.pipeline.nodes.model_roles import Roles
from meow_lightning.planning.model_inputs import check_tiny_context, root_of, training_rows
from meow_lightning.resources.hardware import BF16_INSTRUCTIONS, bf16_instructions
from meow_lightning.stages.common.proposer import PROPOSER
from meow_lightning.stages.judge import READER
from meow_lightning.stages.results.model import CONVERTED, model_folder
from meow_lightning.stages.translate import TRANSLATOR
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.types import Segments


class _Writer(NamedTuple):
    """How a model that writes texts is run: the option that names it, its attention implementation and its dtype."""

    option: str
    attention: str
    dtype: str

    @classmethod
    def of(cls, option: str, arguments: Mapping[str, Any]) -> _Writer:
        return cls(option, str(arguments["attention"]), str(arguments["dtype"]))


class ModelChecks:
    """Checks of the models of a run.

    Args:
        config: The options of the run.
        dataset: Its dataset.
        streams: The builders of the streams that its method trains on.
        store: The store of its results.
        gpu: Whether stages compute on a GPU.
    """

    def __init__(
        self, config: RunConfig, *, dataset: Dataset, streams: Mapping[str, StreamBuilder], store: Store, gpu: bool
    ) -> None:
        self.config, self.dataset, self.streams, self.store, self.gpu = config, dataset, streams, store, gpu

    def notes(self, artifacts: Sequence[Artifact], *, examined: set[str]) -> list[str]:
        """Check the models; returns notes for readers of the metrics, one sentence each.

        A model is checked before its first use, and again if it has to read other rows. A plan skips models of the hub
        that are not downloaded yet.

        Args:
            artifacts: All artifacts of the run's goal.
            examined: Models and rows that this process has already checked; extended in place.

        Raises:
            UserError: An attention implementation is not available, a model is incomplete or unusable, or a row
                contains a special token or is too long for its model.
        """
        missing = [artifact for artifact in artifacts if self.store.find(artifact) is None]
        for artifact in missing:
            self._check_attention(artifact)
        rows = training_rows(missing, self.dataset, streams=self.streams)
        roots = {root.key: root for each in artifacts if (root := root_of(each)) is not None}
        writers = {
            model.key: writer
            for each in artifacts
            for model, writer in self._writers(each)
            if model.label in ("teacher", PROPOSER, TRANSLATOR, READER)  # not the base model
        }
        candidates = []
        for key, root in roots.items():
            seen = f"{key} {content_digest(rows.get(key, []))}"
            if seen in examined or not (root in missing or key in rows):
                continue
            examined.add(seen)
            if "given" not in root.settings:
                check_tiny_context(rows.get(key, []), self.dataset, root=root, prompt=self.config.model.prompt.plain())
            elif (candidate := self._candidate(root, rows.get(key, []), writers.get(key))) is not None:
                candidates.append(candidate)
        if any("@" in each.name for each in candidates):
            Roles(self.config)  # downloaded weights may turn out to be the same for two roles
        notes = inspect_models(candidates) if candidates else []
        return notes + self._slow_formats(missing)

    def _slow_formats(self, missing: Sequence[Artifact]) -> list[str]:
        """Describe the cost of a format that this CPU computes without instructions of its own."""
        precision = self.config.model.precision
        computed = any("model" in artifact.settings for artifact in missing)
        if self.gpu or not computed or PRECISIONS[precision].compute != "bfloat16" or bf16_instructions() != []:
            return []
        return [
            f"model.precision={precision} is slow on this CPU, which has none of {', '.join(BF16_INSTRUCTIONS)}; "
            "model.precision=32-true is faster and takes more memory"
        ]

    def _check_attention(self, artifact: Artifact) -> None:
        for _, writer in self._writers(artifact):
            check_attention(f"{writer.option}.attention", writer.attention, dtype=writer.dtype, gpu=self.gpu)
        if "teacher" not in artifact.needs and "model" in artifact.settings:
            model = self.config.model
            check_attention("model.attention", model.attention, dtype=weights_dtype(model.precision), gpu=self.gpu)

    def _writers(self, artifact: Artifact) -> list[tuple[Artifact, _Writer]]:
        """List the models that write texts for an artifact, each with how it is run."""
        found = []
        if (model := artifact.needs.get("teacher")) is not None:
            found.append((model, _Writer.of("inversion", self.config.inversion.arguments)))
        for name in (PROPOSER, TRANSLATOR, READER):
            if (model := artifact.needs.get(name)) is not None:
                chosen = artifact.inputs[name]
                found.append((model, _Writer.of(chosen["option"], chosen["node"])))
        return found

    def _candidate(self, root: Artifact, rows: Sequence[Segments], writer: _Writer | None) -> Candidate | None:
        provided = root.inputs["given"]
        weights = parse(provided["option"], provided["weights"], words=())
        if self.store.find(root) is not None:
            paths = [str(model_folder(self.store.path(root)))] * 2
        elif (converted := root.needs.get(CONVERTED)) is not None and self.store.find(converted) is not None:
            paths = [str(model_folder(self.store.path(converted)))] * 2
        elif self.config.plan and weights.path is None:
            return None
        else:
            tokenizer = parse("model.tokenizer", provided["tokenizer"], words=())
            paths = [str(locate(source, weights=source is weights, fetch=False)) for source in (weights, tokenizer)]
        attention = self.config.model.attention if writer is None else writer.attention
        first = next(iter(self.dataset.facts("forget")), None) if self.config.plan and writer is None else None
        return Candidate(
            name=f"{provided['option']}={provided['weights']}", weights=paths[0], tokenizer=paths[1],
            prompt=root.settings["prompt"], attention=None if attention == FLASH else attention, rows=rows,
            chats=writer is not None, shown=None if first is None else first.segments,
            budget=self.config.evaluation.max_new_tokens if writer is None else None,
        )  # fmt: skip
