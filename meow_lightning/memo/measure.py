"""How strongly a model holds many texts: what each measure asks, put to the engine and scored."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from meow_lightning.distributed import chunk_groups, group_by
from meow_lightning.errors import UserError
from meow_lightning.types import Progress, ScoredText

if TYPE_CHECKING:
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.generation.engine import Continuation

Kind = Literal["answer", "candidate"]
# more shares better, fewer brings results sooner; while a chunk's last rows end, slots stand empty
BATCHES_PER_CHUNK = 32


class PromptEncoder(Protocol):
    """Turns texts into the tokens of one model and back."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a text."""
        ...

    @property
    def pad_id(self) -> int:
        """The token that fills shorter rows."""
        ...

    @property
    def context(self) -> int:
        """Most tokens that the model can read and write together."""
        ...

    def prompt_ids(self, question: str) -> list[int]:
        """The prompt of training for the question."""
        ...

    def answer_ids(self, answer: str) -> list[int]:
        """An answer as it stands after that prompt, without an end token."""
        ...

    def partial_ids(self, question: str, given: str) -> list[int]:
        """The prompt of training for the question, then the beginning of its answer, tokenized apart."""
        ...

    def encode_plain(self, text: str) -> list[int]:
        """The text as the tokenizer sees it by itself, with its usual special tokens."""
        ...

    def token_ends(self, text: str) -> list[int]:
        """Where the tokens of the text end, in characters, tokenized by itself."""
        ...

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        """The text of the tokens, with or without special tokens."""
        ...


class Text(NamedTuple):
    """One text to be measured; the fields are those of :class:`meow_lightning.types.ScoredText`."""

    fact: str
    kind: Kind
    position: int
    question: str
    answer: str


class Cut(NamedTuple):
    """One window of a text: what the model is shown, how much it may say, and what that is worth.

    Attributes:
        prompt: Token ids, at least one.
        budget: Most new tokens, the end token counted; from 1.
        score: What a continuation is worth, 0 (not held) to 1.

    """

    prompt: list[int]
    budget: int
    score: Callable[[Continuation], float]


class Measure(Protocol):
    """A way to measure how strongly a model holds a text: the mean of the scores of its windows.

    ``check`` and ``count`` may be asked without a codec where ``needs_codec`` is false.
    """

    version: ClassVar[int]

    @property
    def name(self) -> str:
        """What its numbers are called."""
        ...

    @property
    def needs_codec(self) -> bool:
        """Whether windows cannot be counted without the model's tokens."""
        ...

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Nothing, when the text can be measured; cheap.

        Raises:
            UserError: It cannot: no window (``NoWindowsError``), or a prompt that fills the model's context.

        """
        ...

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """How many windows the text has."""
        ...

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """The windows of the text, from the shortest prompt to the longest."""
        ...


class BaseMeasure:
    """What the measures of this package share.

    Attributes:
        version: Raised when the same options give other scores; subclasses inherit it, and it enters the key of the
            scores.

    """

    __slots__ = ()
    version: ClassVar[int] = 1


class _Planned(NamedTuple):
    text: Text
    windows: int


class _Job(NamedTuple):
    owner: int  # which planned text of the chunk
    place: int  # which of its windows
    cut: Cut


def score_texts(
    model: Any,
    codec: PromptEncoder,
    texts: Sequence[tuple[str, Kind, int, str, str]],
    *,
    by: Measure,
    slots: int | AdaptiveBatchSize,
    progress: Progress | None,
    done: Container[tuple[str, Kind, int]],
    alone: Callable[[Text], None] | None,
) -> Iterator[ScoredText]:
    """Every text with its score, each as soon as its last window is known, in no promised order.

    A text's score is the plain mean of its windows' scores; what a window is, ``by`` says. Texts of the same question
    are measured together, since they share prompts. A run that was broken off goes on with what is missing (``done``).

    Args:
        model: What :func:`meow_lightning.generation.engine.continue_greedily` takes.
        codec: Of the same model.
        texts: (fact, kind, position, question, answer) of each; see :class:`Text`.
        by: How to measure: MEMO (:class:`meow_lightning.memo.memo.Profile`) or one of
            :mod:`meow_lightning.memo.baselines`.
        slots: Most windows continued side by side, from 1; changes speed and memory only. A room remembers how many
            were left after memory ran out.
        progress: Told of finished windows; ``None`` for silence.
        done: (fact, kind, position) of texts to leave out because their results are stored already.
        alone: Called with the text of each window that the engine asked again by itself; ``None`` where nobody counts.

    Raises:
        UserError: Before anything is generated, a text without any window; a prompt that fills the model's context.

    """
    pending = [Text(*text) for text in texts if text[:3] not in done]
    for text in pending:
        by.check(text, codec)
    planned = [_Planned(text, by.count(text, codec)) for text in pending]
    return _stream(model, codec, planned, by=by, slots=slots, progress=progress, alone=alone)


def name_of(text: Text) -> str:
    """Which text it is, in words, for messages."""
    return f"the answer of fact {text.fact}" if text.kind == "answer" else f"candidate {text.position} of {text.fact}"


def join_space(prompt: Sequence[int], text: Text, codec: PromptEncoder) -> int:
    """How many tokens the model can still say after a prompt, from 1.

    Raises:
        UserError: None, since the prompt fills the model's context.

    """
    left = codec.context - len(prompt)
    if left < 1:
        raise UserError(
            f"fact {text.fact}: a MEMO prompt has {len(prompt)} tokens, the model reads {codec.context} including what "
            "it says; shorten its question or answer, leave it out, or take a model with a longer context"
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
    # a measure can be read without torch
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
    """A text of which nothing is measured.

    Args:
        measure: What was to be measured, such as ``MEMO``.
        text: Which text, in words.
        reason: Why nothing is, in words, beginning with what it has or lacks.
        remedy: What to do about it, in words.

    """

    def __init__(self, *, measure: str, text: str, reason: str, remedy: str) -> None:
        super().__init__(
            f"{measure} cuts no window from {text}: it {reason}, so nothing is left to be recalled; {remedy}"
        )
        self.reason = f"{text} {reason}"
        self._arguments = {"measure": measure, "text": text, "reason": reason, "remedy": remedy}

    def __reduce__(self) -> tuple[Any, ...]:
        """How a helper process hands it to the one that waits."""
        return functools.partial(NoWindowsError, **self._arguments), ()


def memo(window_scores: Sequence[float], *, text: str) -> float:
    """MEMO of one text: the plain mean of its windows' scores, 0 (not held) to 1 (recalled word for word).

    Args:
        window_scores: The score of every window, each 0 to 1; at least one.
        text: Which text it is, in words, for the message.

    Raises:
        NoWindowsError: No window at all, which happens to texts of a single character.

    """
    if not window_scores:
        raise NoWindowsError(
            measure="MEMO", text=text, reason="has nothing to cut", remedy="lengthen it or leave it out"
        )
    return math.fsum(window_scores) / len(window_scores)
