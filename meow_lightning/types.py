"""Records shared by all packages: facts, scores, predictions, token batches, losses; and the tensor shape legend.

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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

if TYPE_CHECKING:
    import torch

OptimizerName = Literal["adamw", "adamw8bit", "paged"]
Role = Literal["target", "unlearned", "retain"]
ROLES: tuple[Role, ...] = get_args(Role)  # the evaluated models of a run, in reporting order

Direction = Literal["higher", "lower", "none"]
Purpose = Literal["forget", "retain", "utility", "holdout", "near"]
Scoring = Literal["free", "options", "few_shot"]


class Segments(NamedTuple):
    """A text in two segments: what the model is shown, and what it is trained and scored on.

    Attributes:
        prompt: The question, or the beginning of a raw text.
        target: The answer, or the rest of the raw text.
        raw: Whether the target continues the prompt as it stands, without a prompt template.
        ends: Whether an end token follows the target.
    """

    prompt: str
    target: str
    raw: bool = False
    ends: bool = True


@dataclass(frozen=True, slots=True)
class Fact:
    """A question with its true answer and the texts that training and evaluation derive from it.

    Attributes:
        id: Stable identifier, unique within a dataset; stored results refer to the fact by it.
        question: The prompt.
        answer: The true answer in the phrasing used for training.
        paraphrase: The true answer in words *not* used for training; ``None`` if the dataset has none.
        perturbed: Wrong answers in the phrasing of ``paraphrase``, for evaluation only.
        value: The words of ``answer`` that state the fact; ``None`` if the dataset does not mark them.
        alternatives: Other values of the same kind, disjoint from ``perturbed``, for inverted facts written by rules.
        inverted: Ready-made answers that contradict the true one; empty if the dataset has none.
        phrasings: Further (question, answer) pairs with the same meaning; fine-tuning trains on them too.
        values: Texts that value accuracy looks for; empty for ``value`` alone. A fact to keep is given by all of them,
            one to forget by any.
        rewordings: The question in other words, which no training uses; empty if the dataset has none.
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
    values: tuple[str, ...] = ()
    rewordings: tuple[str, ...] = ()

    @property
    def segments(self) -> Segments:
        """Question and answer."""
        return Segments(self.question, self.answer)


@dataclass(frozen=True, slots=True)
class InvertedFact:
    """An answer that contradicts a fact's true answer; ``position`` numbers the fact's candidates from 0."""

    fact: str
    position: int
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class ScoredText:
    """The MEMO score of one text.

    Attributes:
        fact: ``Fact.id``.
        kind: ``"answer"`` for the true answer, ``"candidate"`` for an inverted one.
        position: Candidate position; of a true answer, the number of the way to ask for it that scores highest.
        answer: The scored text.
        score: Mean over the windows, from 0 (not memorized) to 1 (recalled verbatim).
        windows: The score of every window, in the order of the cuts.
    """

    fact: str
    kind: Literal["answer", "candidate"]
    position: int
    answer: str
    score: float
    windows: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Token-level likelihood of one answer; the end token comes last.

    Attributes:
        ids: Token ids of the answer, including the end token.
        logps: log p(token | everything before), in nats, computed in fp32.
        hits: 1 where the token is the model's argmax, else 0.
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
    """A model's generated answer to one question and its likelihood of every reference text.

    Attributes:
        set: Evaluation set: ``forget``, ``retain``, ``real_authors``, ``world_facts``, ``holdout``.
        index: Position in the set, from 0.
        fact: ``Fact.id``.
        question: The question.
        answer: The true answer.
        value: The words that state the fact, if known.
        truth: Likelihood of the true answer.
        paraphrase: Likelihood of the paraphrased answer, if any.
        perturbed: Likelihoods of the wrong answers.
        generated: Token ids of the greedy answer, excluding the end token.
        text: The greedy answer as text.
        stop: ``"end"`` if the model emitted an end token, ``"length"`` if the token budget ran out.
        gradient: 2-norm of the gradient of the true answer's mean loss in all weights; ``None`` if not measured.
        scored_text: The text of the scored tokens, where an evaluator compares with it; ``None`` for ``answer``.
        values: Texts that value accuracy looks for in the place of ``value``, see :class:`Fact`.
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
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetInfo:
    """What metrics know of an evaluation set besides its rows.

    Attributes:
        name: Name of the set.
        purpose: ``forget`` (to be unlearned), ``retain`` (trained on and to be kept), ``utility`` (general knowledge to
            be kept), ``holdout`` (like the forget set, but no model was trained on it) or ``near`` (neighbours of the
            forget set, to be kept).
        scoring: ``free`` (the true answer alone), ``options`` (against the wrong answers) or ``few_shot`` (after
            examples).
    """

    name: str
    purpose: Purpose
    scoring: Scoring


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a metric's value, and how tables show it.

    Attributes:
        name: Name of the value.
        id: Identifier of its computation: ``<metric>.<version>``, followed by options, as in
            ``truth_ratio.1.geometric``. The version increases when the same predictions give another value.
        unit: Unit of the value.
        direction: Whether higher or lower values are better.
        text: The definition in words.
        label: Short readable name.
        order: Place in tables; smaller numbers come first.
        main: Whether reports show it among the main numbers.
    """

    name: str
    id: str
    unit: str
    direction: Direction
    text: str
    label: str
    order: int
    main: bool

    @property
    def metric(self) -> str:
        """Name of the metric, from ``id``."""
        return self.id.split(".")[0]

    @property
    def version(self) -> int:
        """Version of the metric, from ``id``."""
        return int(self.id.split(".")[1])


class Encoded(NamedTuple):
    """A tokenized prompt and answer: ``ids[:prompt]`` is the prompt, the rest is scored.

    ``reference`` is log p(answer | prompt) under the start model, in nats, if the method requires it; else 0.
    """

    ids: tuple[int, ...]
    prompt: int
    reference: float = 0.0

    @property
    def scored(self) -> int:
        """Number of tokens that enter a loss."""
        return len(self.ids) - self.prompt


class TokenBatch(NamedTuple):
    """A right-padded batch of rows of one stream.

    Attributes:
        input_ids_BT: Token ids.
        attention_mask_BT: 1 on tokens, 0 on padding.
        loss_mask_BT: 1 on tokens of the answer and its end token, else 0.
        ref_logps_B: log p(answer | prompt) of each row under the start model, in nats; 0 unless the method requires it.
    """

    input_ids_BT: torch.Tensor  # noqa: N815
    attention_mask_BT: torch.Tensor  # noqa: N815
    loss_mask_BT: torch.Tensor  # noqa: N815
    ref_logps_B: torch.Tensor  # noqa: N815


Batch = dict[str, TokenBatch]  # stream name -> rows


@dataclass(slots=True)
class LossPart:
    """One loss term on a micro-batch, as a sum to be divided by a count over the global batch.

    The loss of a step is the sum over parts of ``weight * sum / count``; ``count``: the scored tokens (``per="token"``)
    or rows (``per="row"``) of ``stream`` in the *global* batch, so that micro-batches and processes cannot change it.
    ``rows``, (B,): what ``sum`` adds up, for a mean over rows that ``optim.aggregate`` can replace.
    """

    sum: torch.Tensor
    stream: str
    per: Literal["token", "row"]
    weight: float = 1.0
    rows: torch.Tensor | None = None


LossParts = dict[str, LossPart]
Reference = Literal["none", "logprobs", "model", "both"]  # outputs of the frozen start model that a method requires


class Method(Protocol):
    """Interface of an unlearning method; see ``meow_lightning/methods/base.py`` for the defaults."""

    streams: tuple[str, ...]
    paired: tuple[str, ...]
    builders: Mapping[str, Any]
    reference: Reference

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Compute the loss parts of one micro-batch."""

    def prepare(self, ctx: Any) -> None:
        """Inspect the start model and the data before the first step."""

    def parameters(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]] | None:
        """Return the trained weights; ``None`` for all."""

    def phase(self, epoch: int) -> tuple[str, ...]:
        """Return the streams of an epoch."""

    def regularizer(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Compute a term of every step's loss from the weights alone."""

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Receive a step's loss parts: ``sum / count`` over the global batch."""

    @property
    def done(self) -> bool:
        """Whether training may stop before its last planned step."""

    def state_dict(self) -> dict[str, float]:
        """Return the state that a resumed training needs."""

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the state returned by :meth:`state_dict`."""

    def finalize(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Transform the trained model once, given the weights it started from."""

    def inference(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model that answers."""


class Progress(Protocol):
    """Progress callback of long-running work."""

    def __call__(self, done: int, total: int, unit: str) -> None:
        """Report that ``done`` of ``total`` ``unit`` are finished."""


@dataclass(frozen=True, slots=True)
class Results:
    """The metrics of one run: ``values[role][name]``, or the reason why one is missing: ``missing[role][name]``.

    ``role`` is one of :data:`ROLES`, after an attack ``role@attack``; ``name`` that of a :class:`Definition`.
    """

    definitions: tuple[Definition, ...]
    values: dict[str, dict[str, float]]
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)  # description of every attack, by name
