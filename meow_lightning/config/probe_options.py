"""Options of the SlimPLM probe: a pruned proxy, the judge of its answers, and retrieval."""

from __future__ import annotations

from typing import Annotated, Literal

from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.options import Options, consistency
from meow_lightning.config.ranges import Number, Positive, Probability, Range, Seed
from meow_lightning.errors import invalid_option


class Judge(Options):
    """``probe.judge``: how answers become a probability that a question is known."""

    samples: Annotated[int, Range(1, 100)]
    """Sampled answers per question."""
    temperature: Positive
    """Temperature of the samples."""
    top_k: Annotated[int, Range(1, 1024)]
    """Number of most likely tokens to sample from."""
    top_p: Probability
    """Probability mass to sample from."""
    set_aside: Annotated[Number, Range(0, 1, above=True, below=True)]
    """Share of the questions of every set that the judge is trained on."""
    c: Positive
    """Inverse strength of the L2 penalty."""
    threshold: Probability
    """Probability from which on a question is judged known."""
    seed: Seed
    """Seed of the samples and of the split."""


class Gate(Options):
    """``probe.gate``: retrieval for questions that are judged unknown."""

    corpus: str | None
    """Text file of passages, one per line; null for the facts of the dataset."""
    passages: Annotated[int, Range(1, 100)]
    """Passages per question."""
    prompt: str
    """Text with ``{passages}`` and ``{question}`` in the place of the question."""

    @consistency
    def _check_prompt(self) -> None:
        if any(self.prompt.count(part) != 1 for part in ("{passages}", "{question}")):
            expected = "a text with {passages} and {question}, once each"
            raise invalid_option("probe.gate.prompt", repr(self.prompt), expected)


class Probe(Options):
    """``probe``: an independent estimate of what the models know."""

    name: Literal["none", "slim"]
    """Name of the choice."""
    pruning: AttackConfig | None = None
    """How a proxy is made from each model."""
    proxy: str | None = None
    """Folder of the unlearned model's proxy; null to prune it here."""
    judge: Judge | None = None
    """How answers become a probability; null for ``none``."""
    gate: Gate | None = None
    """Options of the retrieval; null for ``none``."""

    @consistency
    def _check_slim(self) -> None:
        if self.name == "slim":
            for name in ("pruning", "judge", "gate"):
                if getattr(self, name) is None:
                    raise invalid_option(
                        f"probe.{name}", "null", "its options for probe=slim, as in conf/probe/slim.yaml"
                    )
