"""MEMO of many texts: windows, prompts, continuations and scores put together."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from meow_lightning.memo.score import MEASURES, ROUGES, Measure, Rouge, memo, no_windows, window_score
from meow_lightning.memo.windows import MODES, Mode, Window, cut, one_of
from meow_lightning.types import Progress, ScoredText, UserError

if TYPE_CHECKING:
    from meow_lightning.memo.engine import Continuation

Kind = Literal["answer", "candidate"]
BATCHES_PER_CHUNK = (
    8  # more sorts better by length, fewer brings results sooner; the last, partly empty batch costs 1/8
)


class Codec(Protocol):
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

    def partial_ids(self, question: str, given: str) -> list[int]:
        """The prompt of training for the question, then the beginning of its answer, tokenized apart."""
        ...

    def raw_ids(self, text: str) -> list[int]:
        """The text as the tokenizer sees it by itself, with its usual special tokens."""
        ...

    def decode(self, ids: Sequence[int], keep_special: bool) -> str:
        """The text of the tokens, with or without special tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How MEMO is measured.

    Attributes:
        name: ``clean``, ``official`` or a name of one's own.
        mode: What is cut, see :func:`meow_lightning.memo.windows.cut`.
        size: Characters between two cuts, from 1.
        template: Whether the prompt is that of training; else it is raw text. In mode ``prefix`` the shown piece of a
            question fits no template, so it is raw text either way.
        keep_special: Whether special tokens stay in what the model said and so count as words.
        rouge: ``rouge1``, ``rouge2`` or ``rougeL``.
        measure: ``precision``, ``recall`` or ``fmeasure``.
        max_new_tokens: Most tokens that the model may say per window, from 1.

    Raises:
        UserError: A value that is not allowed.

    """

    name: str
    mode: Mode
    size: int
    template: bool
    keep_special: bool
    rouge: Rouge
    measure: Measure
    max_new_tokens: int

    def __post_init__(self) -> None:
        one_of(self.mode, MODES, option="memo.mode")
        one_of(self.rouge, ROUGES, option="memo.rouge")
        one_of(self.measure, MEASURES, option="memo.measure")
        for option, value in (("size", self.size), ("max_new_tokens", self.max_new_tokens)):
            if value < 1:
                raise UserError(f"memo.{option}={value} is too small; allowed: from 1. Nearest: set memo.{option}=1")


class Text(NamedTuple):
    """One text to be measured; the fields are those of :class:`meow_lightning.types.ScoredText`."""

    fact: str
    kind: Kind
    position: int
    question: str
    answer: str


class _Planned(NamedTuple):
    text: Text
    windows: list[Window]


class _Job(NamedTuple):
    owner: int  # which planned text of the chunk
    place: int  # which of its windows
    window: Window
    prompt: list[int]
    budget: int


def measure(
    model: Any,
    codec: Codec,
    texts: Sequence[tuple[str, Kind, int, str, str]],
    *,
    profile: Profile,
    slots: int,
    progress: Progress | None,
    done: Container[tuple[str, Kind, int]],
) -> Iterator[ScoredText]:
    """Every text with its MEMO, each as soon as its last window is known, in no promised order.

    MEMO(x, y) = 1/S * sum over the S windows of ROUGE(continuation, rest of the text), MEOW (arXiv 2409.11844). What is
    shown and what counts as said follows the profile:

    * prompt: with ``template`` the prompt of training and the given beginning of the answer; else, and always in mode
      ``prefix``, the raw text;
    * said: without ``keep_special`` the continuation alone, special tokens dropped. With it and raw prompts, as in
      MEOW's released code, prompt, continuation and end token are decoded together, special tokens kept, and every
      occurrence of the prompt's text is removed: the words of ``<s>`` and ``</s>`` count, and a prompt that does not
      survive decoding counts whole. With it and a template, the continuation and its end token, special tokens kept.

    Texts of the same question are measured together, since they share prompts. A run that was broken off goes on with
    what is missing (``done``).

    Args:
        model: What :func:`meow_lightning.memo.engine.continue_greedily` takes.
        codec: Of the same model.
        texts: (fact, kind, position, question, answer) of each; see :class:`Text`.
        profile: How to measure.
        slots: Most windows continued side by side, from 1; changes speed and memory only.
        progress: Told of finished windows; ``None`` for silence.
        done: (fact, kind, position) of texts to leave out because their results are stored already.

    Raises:
        UserError: Before anything is generated, a text too short to be cut; a prompt that fills the model's context.

    """
    planned = [_plan(Text(*text), codec, profile) for text in texts if text[:3] not in done]
    return _stream(model, codec, planned, profile=profile, slots=slots, progress=progress)


def _plan(text: Text, codec: Codec, profile: Profile) -> _Planned:
    windows = cut(text.question, text.answer, mode=profile.mode, size=profile.size)
    if not windows:
        raise no_windows(_name(text, profile))
    _encode(windows[-1], text, codec, profile)  # the longest: hours of work should not end at a prompt that cannot fit
    return _Planned(text, windows)


def _name(text: Text, profile: Profile) -> str:
    if profile.mode == "prefix":
        return f"the question of fact {text.fact}"
    return f"the answer of fact {text.fact}" if text.kind == "answer" else f"candidate {text.position} of {text.fact}"


def _encode(window: Window, text: Text, codec: Codec, profile: Profile) -> tuple[list[int], int]:
    templated = profile.template and profile.mode == "suffix"
    ids = codec.partial_ids(window.question, window.given) if templated else codec.raw_ids(window.text)
    room = codec.context - len(ids)
    if room < 1:
        raise UserError(
            f"fact {text.fact}: a MEMO prompt has {len(ids)} tokens, the model reads {codec.context} including what it "
            "says; shorten its question or answer, leave it out, or take a model with a longer context"
        )
    return ids, min(profile.max_new_tokens, room)


def _chunks(planned: Sequence[_Planned], *, least: int) -> Iterator[list[_Planned]]:
    """Lists of texts with at least ``least`` windows each (the last one may have fewer), no question split up."""
    by_question: dict[str, list[_Planned]] = {}
    for each in planned:
        by_question.setdefault(each.text.question, []).append(each)
    chunk: list[_Planned] = []
    windows = 0
    for group in by_question.values():
        chunk += group
        windows += sum(len(each.windows) for each in group)
        if windows >= least:
            yield chunk
            chunk, windows = [], 0
    if chunk:
        yield chunk


def _jobs(chunk: Sequence[_Planned], codec: Codec, profile: Profile) -> list[_Job]:
    return [
        _Job(owner, place, window, *_encode(window, text, codec, profile))
        for owner, (text, windows) in enumerate(chunk)
        for place, window in enumerate(windows)
    ]


def _stream(
    model: Any,
    codec: Codec,
    planned: Sequence[_Planned],
    *,
    profile: Profile,
    slots: int,
    progress: Progress | None,
) -> Iterator[ScoredText]:
    from meow_lightning.memo.engine import continue_greedily  # a profile can be read without torch

    total, finished = sum(len(each.windows) for each in planned), 0
    for chunk in _chunks(planned, least=slots * BATCHES_PER_CHUNK):
        jobs = _jobs(chunk, codec, profile)
        scores: list[dict[int, float]] = [{} for _ in chunk]
        for index, continuation in continue_greedily(
            model,
            [job.prompt for job in jobs],
            budgets=[job.budget for job in jobs],
            end_ids=codec.end_ids,
            pad_id=codec.pad_id,
            slots=slots,
            progress=None,
        ):
            job = jobs[index]
            said = _said(job, continuation, codec, profile)
            score = window_score(said, job.window.label, rouge=profile.rouge, measure=profile.measure)
            scores[job.owner][job.place] = score
            finished += 1
            if progress is not None:
                progress(finished, total, "windows")
            if len(scores[job.owner]) == len(chunk[job.owner].windows):
                yield _scored(chunk[job.owner].text, scores[job.owner], profile)


def _said(job: _Job, continuation: Continuation, codec: Codec, profile: Profile) -> str:
    if not profile.keep_special:
        return codec.decode(continuation.ids, keep_special=False)
    ids = [*continuation.ids] if continuation.end is None else [*continuation.ids, continuation.end]
    if profile.template:
        return codec.decode(ids, keep_special=True)
    return codec.decode([*job.prompt, *ids], keep_special=True).replace(job.window.text, "")


def _scored(text: Text, scores: dict[int, float], profile: Profile) -> ScoredText:
    windows = tuple(scores[place] for place in range(len(scores)))
    return ScoredText(
        fact=text.fact,
        kind=text.kind,
        position=text.position,
        answer=text.answer,
        score=memo(windows, text=_name(text, profile)),
        windows=windows,
    )
