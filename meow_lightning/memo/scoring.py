"""Scores of texts under a loaded model, by a measure of ``conf/memo``: the library's door to this package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from meow_lightning.config.composition import library_options, words_of
from meow_lightning.config.files import CONF
from meow_lightning.data.examples import Example
from meow_lightning.errors import UserError, check_choice
from meow_lightning.memo.measure import Measure, Text, score_texts, true_answer
from meow_lightning.types import InvertedFact, Progress, ScoredText

if TYPE_CHECKING:
    import pandas

    from meow_lightning.models.language_model import LanguageModel

Scorable = Example | InvertedFact | tuple[str, str]


class Scores(list[ScoredText]):
    """Scores of some texts, in the order in which the texts were given."""

    @property
    def mean(self) -> float:
        """Mean score, 0 (not memorized) to 1 (recalled verbatim).

        Raises:
            ValueError: There are no scores.
        """
        if not self:
            raise ValueError("no text was scored, so there is no mean")
        return sum(each.score for each in self) / len(self)

    def to_frame(self) -> pandas.DataFrame:
        """Convert to a table with one row per text: fact, kind, position, answer, score and number of windows."""
        import pandas

        names = ("fact", "kind", "position", "answer", "score")
        return pandas.DataFrame(
            [{**{name: getattr(each, name) for name in names}, "windows": len(each.windows)} for each in self]
        )


def score(
    model: LanguageModel,
    examples: Iterable[Scorable],
    *,
    measure: str | Measure = "clean",
    batch_size: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Measure how strongly a model has memorized each of some texts.

    Args:
        model: The model, on the device where it computes.
        examples: Facts, whose true answers are scored; passages; inverted facts; or pairs (question, answer), which are
            numbered in the result from ``"0"``.
        measure: Name of a file in ``conf/memo`` (``clean``, ``official``, ``ma``, ``el``), or a measure.
        batch_size: Number of windows continued in parallel, from 1; ``None`` for as many as memory allows. It does not
            change the scores.
        progress: Called as windows finish.
        **options: Options of the named measure that differ from its file, such as ``stride=1``.

    Returns:
        One score per text, 0 (not memorized) to 1 (recalled verbatim), in the order of ``examples``.

    Raises:
        UserError: An option is invalid, a text occurs twice, or a text cannot be measured, for example because it is
            too short to be cut or its prompt fills the model's context.
    """
    by = load_measure(measure, **options)
    texts = [_text(number, example) for number, example in enumerate(examples)]
    places = {text[:3]: number for number, text in enumerate(texts)}
    if len(places) < len(texts):
        raise UserError("a text is scored twice: give every fact, and every position of its inverted answers, once")
    for text in texts:  # fail before scoring, not in the middle
        model.encoder.encode(text.question, text.answer, text.raw)
        by.check(text, model.encoder)
    scored: dict[int, ScoredText] = {}
    slots = _slots(model, texts, by) if batch_size is None and texts else batch_size or 1
    for each in score_texts(
        model.model, model.encoder, texts, by=by, slots=slots, progress=progress, done=(), alone=None
    ):
        scored[places[each.fact, each.kind, each.position]] = each
    return Scores(scored[number] for number in range(len(texts)))


def load_measure(measure: str | Measure, **options: Any) -> Measure:
    """Build a measure from its file in ``conf/memo``.

    Args:
        measure: Name of the file; a measure is returned as it is.
        **options: Options that differ from the file.

    Raises:
        UserError: The name or an option is invalid, or options are given with a measure.
    """
    if not isinstance(measure, str):
        if options:
            raise UserError(f"{next(iter(options))} has no effect beside a measure; set it in the measure")
        return measure
    check_choice("measure", measure, sorted(path.stem for path in (CONF / "memo").glob("*.yaml")))
    built: Measure = library_options([f"memo={measure}", *words_of("memo", options)]).memo.instantiate(allow=())
    return built


def _text(number: int, example: Scorable) -> Text:
    if isinstance(example, InvertedFact):
        return Text(example.fact, "candidate", example.position, example.question, example.answer)
    if isinstance(example, tuple):
        return Text(str(number), "answer", 0, *example)
    return true_answer(example)


def _slots(model: LanguageModel, texts: Sequence[Text], by: Measure) -> Any:
    """Determine the batch size from the longest text's windows."""
    from meow_lightning.generation.batch_size import fitting_batch_size

    cuts = by.cuts(max(texts, key=lambda text: len(text.question) + len(text.answer)), model.encoder)
    tokens, generated = max(len(cut.prompt) for cut in cuts), max(cut.budget for cut in cuts)
    return fitting_batch_size(model.model, tokens=tokens, generated=generated, shared=True, processes=1, note=None)
