"""The words of this project: what a fact is, what stages hand to each other, and the legend of shape letters.

Shape letters used as suffixes of tensor names (``logits_BTV``) and in docstrings:

====== =============================================
letter meaning
====== =============================================
B      rows of a batch
T      token positions of a row, padding included
V      entries of the vocabulary
N      scored tokens of a batch, row by row
K      token positions at which some row of a batch is scored
====== =============================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Protocol

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    import torch

OptimizerName = Literal["adamw", "adamw8bit", "paged"]


class NotFiniteError(UserError):
    """A model gives NaN or infinite numbers, which would read as forgotten; the stage's name is put before the text."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One question with its true answer and everything that training and evaluation need about it.

    Attributes:
        id: Stable name, unique within a dataset; also names the fact in stored results.
        question: What a model is asked.
        answer: The true answer, in the phrasing that is trained.
        paraphrase: The true answer in words that are *not* trained; ``None`` when the dataset has none.
        perturbed: Wrong answers in the phrasing of ``paraphrase``; only evaluation sees them, nothing trains on them.
        value: The words inside ``answer`` that carry the fact; ``None`` when the dataset does not mark them.
        alternatives: Other values of the same kind, none of which occurs in ``perturbed``; what rules invert with.
        inverted: Ready-made answers that contradict the true one; empty when the dataset brings none.
        phrasings: Further (question, answer) pairs of the same meaning that fine-tuning trains on too.
    """

    id: str
    question: str
    answer: str
    paraphrase: str | None = None
    perturbed: tuple[str, ...] = ()
    value: str | None = None
    alternatives: tuple[str, ...] = ()
    inverted: tuple[str, ...] = ()
    phrasings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class InvertedFact:
    """One answer that contradicts the true answer of a fact; ``position`` counts the candidates of that fact from 0."""

    fact: str
    position: int
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class ScoredText:
    """How strongly a model holds one text, by MEMO.

    Attributes:
        fact: ``Fact.id``.
        kind: ``"answer"`` for the true answer, ``"candidate"`` for an inverted one.
        position: Candidate position; 0 for the true answer.
        answer: The text that was measured.
        score: Mean over the windows, 0 (not held) to 1 (recalled word for word).
        windows: The score of every window, in order of the cut.
    """

    fact: str
    kind: Literal["answer", "candidate"]
    position: int
    answer: str
    score: float
    windows: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model thinks of one answer, token by token (the end token is the last one).

    Attributes:
        ids: Token ids of the answer, the end token included.
        logps: log p(token | everything before), in nats, computed in fp32.
        hits: 1 where the token is the model's own first choice, else 0.
        mean: Expected log-probability at that position under the model's own distribution (minus its entropy).
        std: Standard deviation of the log-probability at that position under the model's own distribution.
    """

    ids: Sequence[int]
    logps: Sequence[float]
    hits: Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What a model says to one question and how likely it finds every reference text.

    Attributes:
        set: Evaluation set: ``forget``, ``retain``, ``real_authors``, ``world_facts``, ``holdout``.
        index: Position in the set, from 0.
        fact: ``Fact.id``.
        question: The question.
        answer: The true answer.
        value: The words that carry the fact, when known.
        truth: Likelihood of the true answer.
        paraphrase: Likelihood of the paraphrased answer, when there is one.
        perturbed: Likelihoods of the wrong answers.
        generated: The greedy answer's token ids, the end token not included.
        text: The greedy answer as text.
        stop: ``"end"`` when the model ended it, ``"length"`` when the budget did.
        gradient: 2-norm of the gradient, by all weights, of the mean loss of the true answer; ``None``: not measured.
        scored_text: The text of the scored tokens of the true answer, where a published evaluator reads that in its
            place; ``None``: ``answer`` itself.
    """

    set: str
    index: int
    fact: str
    question: str
    answer: str
    value: str | None
    truth: Likelihood
    paraphrase: Likelihood | None
    perturbed: tuple[Likelihood, ...]
    generated: Sequence[int]
    text: str
    stop: Literal["end", "length"]
    gradient: float | None = None
    scored_text: str | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a number means; the id changes when its arithmetic does."""

    name: str
    id: str
    unit: str
    direction: Literal["higher", "lower", "none"]
    text: str


class Encoded(NamedTuple):
    """One prompt and answer as tokens: ``ids[:prompt]`` is the prompt, the rest is scored.

    ``reference`` is log p(answer | prompt) under the start model, in nats, where a method asks for it; else 0.
    """

    ids: tuple[int, ...]
    prompt: int
    reference: float = 0.0

    @property
    def scored(self) -> int:
        """Number of tokens a loss counts."""
        return len(self.ids) - self.prompt


class TokenBatch(NamedTuple):
    """Rows of one stream, padded on the right.

    Attributes:
        ids_BT: Token ids.
        attention_BT: 1 on tokens, 0 on padding.
        scored_BT: 1 where the token at that position is part of the answer (or its end token), else 0.
        reference_B: log p(answer | prompt) of each row under the start model, in nats; 0 where nobody asked for it.
    """

    input_ids_BT: torch.Tensor  # noqa: N815
    attention_mask_BT: torch.Tensor  # noqa: N815
    loss_mask_BT: torch.Tensor  # noqa: N815
    ref_logps_B: torch.Tensor  # noqa: N815


Batch = dict[str, TokenBatch]  # stream name -> rows


@dataclass(slots=True)
class LossPart:
    """One term of a loss on a micro-batch, as a sum whose denominator is that of the whole global batch.

    A step's loss is the sum over parts of ``weight * sum / count``, where ``count`` is the number of scored tokens
    (``per="token"``) or rows (``per="row"``) that the *global* batch holds of ``stream``. So micro-batches, gradient
    accumulation and the number of processes cannot change a step.
    """

    sum: torch.Tensor
    stream: str
    per: Literal["token", "row"]
    weight: float = 1.0


LossParts = dict[str, LossPart]


Reference = Literal["none", "logprobs", "model", "both"]  # what a method asks of its frozen start model


class Method(Protocol):
    """What an unlearning method is; see ``meow_lightning/methods/base.py`` for the defaults."""

    streams: ClassVar[tuple[str, ...]]
    paired: ClassVar[tuple[str, ...]]
    reference: ClassVar[Reference]

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """The parts of the loss on one micro-batch."""
        ...

    def prepare(self, model: torch.nn.Module, seed: int) -> None:
        """Look at the start model before the first step."""
        ...

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Take note of a step's parts: ``sum / count`` over the global batch."""
        ...

    @property
    def done(self) -> bool:
        """Whether training may end before its last planned step."""
        ...

    def state(self) -> dict[str, float]:
        """What a resumed training needs."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Take it back."""
        ...

    def finish(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Change the trained model once, knowing the weights it started from."""
        ...


class Dataset(Protocol):
    """Named splits of facts. ``split`` is the only option about splits; everything else is derived from it."""

    name: str
    public: bool  # whether its texts may be shown in logs without asking

    def facts(self, split: str) -> list[Fact]:
        """The facts of ``forget``, ``retain``, ``holdout``, ``real_authors`` or ``world_facts``."""
        ...

    def evaluation(self) -> dict[str, list[Fact]]:
        """The evaluation sets by name, in the order they are reported."""
        ...

    def stream(self, rows: int, seed: int) -> list[Fact]:
        """Rows that carry language and nothing that any split forgets: what a base made from scratch learns from."""
        ...

    def texts(self) -> list[tuple[str, str]]:
        """Questions and answers that a tokenizer made for this dataset should be trained on."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What a reader of the numbers must know of these facts, a sentence each."""
        ...


class Progress(Protocol):
    """Where long work says how far it is."""

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Note that ``done`` of ``total`` ``unit`` are finished."""
        ...


@dataclass(frozen=True, slots=True)
class Results:
    """The numbers of one run: ``values[role][name]``; where one could not be had, ``missing[role][name]`` says why.

    ``role`` is ``target``, ``retain`` or ``unlearned``; ``name`` is a :class:`Definition`'s.
    """

    definitions: tuple[Definition, ...]
    values: dict[str, dict[str, float]]
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
