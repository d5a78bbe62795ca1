"""Whether the models of a run can be used, and can read what is ahead of them, before any stage runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meow_lightning.config.precision import weights_dtype
from meow_lightning.data.encoding import content_digest
from meow_lightning.models.checkpoint import FLASH, check_attention
from meow_lightning.models.inspection import Candidate, inspect_models
from meow_lightning.models.sources import locate, parse
from meow_lightning.pipeline.nodes.model_roles import Roles
from meow_lightning.planning.model_inputs import Row, check_tiny_context, root_of, training_rows
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.types import Dataset


class ModelChecks:
    """Looks through the models of a run.

    Args:
        options: Resolved options of the run.
        dataset: Its facts.
        streams: What its method trains on.
        store: What is there already.
        gpu: Whether stages compute on a GPU.
    """

    def __init__(
        self, options: Mapping[str, Any], *, dataset: Dataset, streams: Sequence[str], store: Store, gpu: bool
    ) -> None:
        self.options, self.dataset, self.streams, self.store, self.gpu = options, dataset, streams, store, gpu

    def notes(self, artifacts: Sequence[Artifact], *, examined: set[str]) -> list[str]:
        """What a reader of the numbers must know of the models, a sentence each.

        A model is looked through before it is first used, and again where other rows are ahead of it. Models of the hub
        that are not here yet are left out of a plan.

        Args:
            artifacts: All that the run asks for.
            examined: What this process has looked through already; added to.

        Raises:
            UserError: An attention cannot be used here, a model is not whole or cannot be asked, or a row holds a
                special token or is too long for its model.
        """
        lacking = [each for each in artifacts if self.store.find(each) is None]
        for artifact in lacking:
            self._check_attention(artifact)
        rows = training_rows(lacking, self.dataset, streams=self.streams)
        roots = {root.key: root for each in artifacts if (root := root_of(each)) is not None}
        candidates = []
        for key, root in roots.items():
            seen = f"{key} {content_digest(rows.get(key, []))}"
            if seen in examined or not (root in lacking or key in rows):
                continue
            examined.add(seen)
            if "given" not in root.settings:
                check_tiny_context(rows.get(key, []), self.dataset, root=root, prompt=self.options["model"]["prompt"])
            elif (candidate := self._candidate(root, rows.get(key, []))) is not None:
                candidates.append(candidate)
        if any("@" in each.name for each in candidates):
            Roles(self.options)  # what has come from the hub since may be the same weights under two roles
        return inspect_models(candidates) if candidates else []

    def _check_attention(self, artifact: Artifact) -> None:
        group = "inversion" if "teacher" in artifact.needs else "model"
        if group == "model" and "model" not in artifact.settings:
            return
        node = self.options[group]
        dtype = node["dtype"] if group == "inversion" else weights_dtype(node["precision"])
        check_attention(f"{group}.attention", node["attention"], dtype=dtype, gpu=self.gpu)

    def _candidate(self, root: Artifact, rows: Sequence[Row]) -> Candidate | None:
        places, teacher = root.inputs["given"], root.label == "teacher"
        weights = parse(places["option"], places["weights"], words=())
        if self.store.find(root) is not None:
            here = [str(self.store.path(root) / "model")] * 2
        elif self.options["plan"] and weights.folder is None:
            return None
        else:
            tokenizer = parse("model.tokenizer", places["tokenizer"], words=())
            here = [str(locate(each, weights=each is weights, fetch=False)) for each in (weights, tokenizer)]
        attention = self.options["inversion" if teacher else "model"]["attention"]
        return Candidate(
            name=f"{places['option']}={places['weights']}", weights=here[0], tokenizer=here[1],
            prompt=root.settings["prompt"], attention=None if attention == FLASH else attention, rows=rows,
            chats=teacher,
        )  # fmt: skip
