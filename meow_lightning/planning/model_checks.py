"""Checks that the models of a run are usable and can read all of its texts, before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from meow_lightning.stages.results.model import CONVERTED, model_folder
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.types import Segments


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
        teachers = {
            teacher.key
            for each in artifacts
            if (teacher := each.needs.get("teacher")) is not None and teacher.label == "teacher"  # not the base model
        }
        candidates = []
        for key, root in roots.items():
            seen = f"{key} {content_digest(rows.get(key, []))}"
            if seen in examined or not (root in missing or key in rows):
                continue
            examined.add(seen)
            if "given" not in root.settings:
                check_tiny_context(rows.get(key, []), self.dataset, root=root, prompt=self.config.model.prompt.plain())
            elif (candidate := self._candidate(root, rows.get(key, []), teacher=key in teachers)) is not None:
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
        group = "inversion" if "teacher" in artifact.needs else "model"
        if group == "model" and "model" not in artifact.settings:
            return
        attention = self._attention(teacher=group == "inversion")
        dtype = (
            self.config.inversion.arguments["dtype"]
            if group == "inversion"
            else weights_dtype(self.config.model.precision)
        )
        check_attention(f"{group}.attention", attention, dtype=dtype, gpu=self.gpu)

    def _attention(self, *, teacher: bool) -> str:
        return str(self.config.inversion.arguments["attention"]) if teacher else self.config.model.attention

    def _candidate(self, root: Artifact, rows: Sequence[Segments], *, teacher: bool) -> Candidate | None:
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
        attention = self._attention(teacher=teacher)
        return Candidate(
            name=f"{provided['option']}={provided['weights']}", weights=paths[0], tokenizer=paths[1],
            prompt=root.settings["prompt"], attention=None if attention == FLASH else attention, rows=rows,
            chats=teacher,
        )  # fmt: skip
