"""Scoring of many texts with a memorisation measure: windows go through the generation engine and are scored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from meow_lightning.distributed import chunk_groups, group_by
from meow_lightning.errors import UserError
from meow_lightning.types import Progress, ScoredText

if TYPE_CHECKING:
    from meow_lightning.data.examples import Example
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.generation.engine import Continuation

Kind = Literal["answer", "candidate"]
# Larger chunks share more prefixes, smaller ones give results sooner; slots idle while a chunk's last rows finish.
BATCHES_PER_CHUNK = 32


class PromptEncoder(Protocol):
    """Tokenization of prompts and answers for one model."""

    @property
    def end_ids(self) -> frozenset[int]:
        """End token ids."""
        ...

    @property
    def pad_id(self) -> int:
        """Padding token id."""
        ...

    @property
    def context(self) -> int:
        """Context length of the model: prompt and generated tokens together."""
        ...

    def prompt_ids(self, question: str) -> list[int]:
        """Encode the training prompt of the question."""
        ...

    def answer_ids(self, answer: str) -> list[int]:
        """Encode an answer as it follows that prompt, without an end token."""
        ...

    def partial_ids(self, question: str, given: str) -> list[int]:
        """Encode the training prompt of the question, followed by a prefix of its answer, tokenized separately."""
        ...

    def encode_plain(self, text: str) -> list[int]:
        """Encode raw text with the tokenizer's usual special tokens."""
        ...

    def token_ends(self, text: str) -> list[int]:
        """Return the end offsets, in characters, of the tokens of raw text."""
        ...

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        """Decode tokens, with or without special tokens."""
        ...


class Text(NamedTuple):
    """A text to score.

    Attributes:
        fact: As in :class:`meow_lightning.types.ScoredText`, like ``kind`` and ``position``.
        question: What precedes the text: the question, or the beginning of a passage.
        answer: The text.
        raw: Whether it continues the question as it stands, as in a document.

    """

    fact: str
    kind: Kind
    position: int
    question: str
    answer: str
    raw: bool = False


def true_answer(example: Example, position: int = 0) -> Text:
    """Describe the true answer of a fact, or the rest of a passage, as a text to score.

    Args:
        example: The fact or passage.
        position: Number of the way in which it is asked for, from 0.
    """
    segments = example.segments
    return Text(example.id, "answer", position, segments.prompt, segments.target, segments.raw)


class Cut(NamedTuple):
    """One window of a text: its prompt, token budget and scoring function.

    Attributes:
        prompt: Token ids, at least one.
        budget: Limit on new tokens, including the end token; from 1.
        score: Scores a continuation from 0 (not memorised) to 1.

    """

    prompt: list[int]
    budget: int
    score: Callable[[Continuation], float]


class Measure(Protocol):
    """Memorisation measure of a text: the mean of the scores of its windows.

    ``check`` and ``count`` may be called without a codec if ``needs_codec`` is false.
    """

    version: ClassVar[int]

    @property
    def name(self) -> str:
        """Name of the measure."""
        ...

    @property
    def needs_codec(self) -> bool:
        """Whether counting windows requires the model's tokenizer."""
        ...

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Check that the text can be measured; cheap.

        Raises:
            UserError: It has no window (``NoWindowsError``), or a prompt fills the model's context.

        """
        ...

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """Count the windows of the text."""
        ...

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """Build the windows of the text, from the shortest prompt to the longest."""
        ...


class BaseMeasure:
    """Base class of the measures of this package.

    Attributes:
        version: Incremented when the same options give other scores; subclasses inherit it, and it enters the cache key
            of the scores.

    """

    __slots__ = ()
    version: ClassVar[int] = 1


class _Planned(NamedTuple):
    text: Text
    windows: int


class _Job(NamedTuple):
    owner: int  # index of the planned text in the chunk
    place: int  # index of the window in that text
    cut: Cut


def score_texts(
    model: Any,
    codec: PromptEncoder,
    texts: Sequence[Text],
    *,
    by: Measure,
    slots: int | AdaptiveBatchSize,
    progress: Progress | None,
    done: Container[tuple[str, Kind, int]],
    alone: Callable[[Text], None] | None,
) -> Iterator[ScoredText]:
    """Yield every text with its score, as soon as its last window is scored, in no guaranteed order.

    A text's score is the plain mean of its windows' scores; ``by`` defines the windows. Texts of the same question are
    scored together, since they share prompts. An interrupted run resumes with the texts not in ``done``.

    Args:
        model: As for :func:`meow_lightning.generation.engine.continue_greedily`.
        codec: Codec of the same model.
        texts: The texts.
        by: Measure: MEMO (:class:`meow_lightning.memo.memo.Profile`) or one of :mod:`meow_lightning.memo.baselines`.
        slots: Limit on windows continued in parallel, from 1; affects only speed and memory. An ``AdaptiveBatchSize``
            remembers its reduced size after memory ran out.
        progress: Called as windows finish; ``None`` for no progress.
        done: Keys (fact, kind, position) of texts to skip because their results are stored already.
        alone: Called with the text of each window that the engine reran on its own; ``None`` to ignore these.

    Raises:
        UserError: Before any generation, if a text has no window or a prompt fills the model's context.

    """
    pending = [text for text in texts if text[:3] not in done]
    for text in pending:
        by.check(text, codec)
    planned = [_Planned(text, by.count(text, codec)) for text in pending]
    return _stream(model, codec, planned, by=by, slots=slots, progress=progress, alone=alone)


def name_of(text: Text) -> str:
    """Describe a text for messages."""
    return f"the answer of fact {text.fact}" if text.kind == "answer" else f"candidate {text.position} of {text.fact}"


def join_space(prompt: Sequence[int], text: Text, codec: PromptEncoder) -> int:
    """Compute the number of tokens, from 1, that the model's context leaves after a prompt.

    Raises:
        UserError: The prompt fills the model's context.

    """
    left = codec.context - len(prompt)
    if left < 1:
        raise UserError(
            f"fact {text.fact}: a MEMO prompt has {len(prompt)} tokens, but the model's context of {codec.context} "
            "must also hold the continuation; shorten its question or answer, leave it out, or use a model with a "
            "longer context"
        )
    return left


def _stream(
    model: Any,
    codec: PromptEncoder,
    planned: Sequence[_Planned],
    *,
    by: Measure,
    slots: int | AdaptiveBatchSize,
    progress: Progress | None,
    alone: Callable[[Text], None] | None,
) -> Iterator[ScoredText]:
    # Imported here so that measures can be configured without torch
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.generation.engine import continue_greedily

    batch_size = slots if isinstance(slots, AdaptiveBatchSize) else AdaptiveBatchSize(slots, note=None)
    total, finished = sum(each.windows for each in planned), 0
    least = batch_size.slots * BATCHES_PER_CHUNK
    questions = group_by(planned, key=lambda each: each.text.question)
    for chunk in chunk_groups(questions, size=lambda each: each.windows, minimum=least):
        jobs = [
            _Job(owner, place, cut)
            for owner, (text, _) in enumerate(chunk)
            for place, cut in enumerate(by.cuts(text, codec))
        ]
        scores: list[dict[int, float]] = [{} for _ in chunk]
        for index, continuation in continue_greedily(
            model,
            [job.cut.prompt for job in jobs],
            budgets=[job.cut.budget for job in jobs],
            end_ids=codec.end_ids,
            pad_id=codec.pad_id,
            slots=batch_size,
            progress=None,
            alone=_alone_callback(alone, chunk, jobs),
        ):
            job = jobs[index]
            scores[job.owner][job.place] = job.cut.score(continuation)
            finished += 1
            if progress is not None:
                progress(finished, total, "windows")
            if len(scores[job.owner]) == chunk[job.owner].windows:
                yield _scored(chunk[job.owner].text, scores[job.owner])


def _alone_callback(
    alone: Callable[[Text], None] | None, chunk: Sequence[_Planned], jobs: Sequence[_Job]
) -> Callable[[int], None] | None:
    return None if alone is None else lambda index: alone(chunk[jobs[index].owner].text)


def _scored(text: Text, scores: dict[int, float]) -> ScoredText:
    windows = tuple(scores[place] for place in range(len(scores)))
    return ScoredText(
        fact=text.fact,
        kind=text.kind,
        position=text.position,
        answer=text.answer,
        score=memo(windows, text=name_of(text)),
        windows=windows,
    )


class NoWindowsError(UserError):
    """Error for a text without any window.

    Args:
        measure: Name of the measure, such as ``MEMO``.
        text: Description of the text.
        reason: Reason, as a verb phrase such as "has nothing to cut".
        remedy: What to do about it.

    """

    def __init__(self, *, measure: str, text: str, reason: str, remedy: str) -> None:
        super().__init__(f"{measure} cuts no window from {text}: it {reason}, so there is nothing to recall; {remedy}")
        self.reason = f"{text} {reason}"
        self._arguments = {"measure": measure, "text": text, "reason": reason, "remedy": remedy}

    def __reduce__(self) -> tuple[Any, ...]:
        """Support pickling, so that a worker process can pass the error on."""
        return functools.partial(NoWindowsError, **self._arguments), ()


def memo(window_scores: Sequence[float], *, text: str) -> float:
    """Compute MEMO of one text: the plain mean of its windows' scores, 0 (not memorised) to 1 (recalled word for word).

    Args:
        window_scores: The score of every window, each 0 to 1; at least one.
        text: Description of the text, for the message.

    Raises:
        NoWindowsError: No window, as for texts of a single character.

    """
    if not window_scores:
        raise NoWindowsError(
            measure="MEMO", text=text, reason="has nothing to cut", remedy="lengthen it or leave it out"
        )
    return math.fsum(window_scores) / len(window_scores)
