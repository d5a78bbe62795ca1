"""NLG ability: a model continues held-out passages, measured by MAUVE, BLEU, Rep-3 and perplexity."""

from __future__ import annotations

import contextlib
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from meow_lightning.config.ranges import Count, Positive
from meow_lightning.data.encoding import CHARACTERS
from meow_lightning.data.subset import evenly_spaced
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.ability import AbilityNumber, AbilityResult
from meow_lightning.evaluation.ability_task import RUN_TARGET, AbilityTask, Length
from meow_lightning.evaluation.local_questions import LocalQuestions
from meow_lightning.evaluation.metrics.fluency import repetition
from meow_lightning.evaluation.passages import Format, detokenized, passages
from meow_lightning.types import Direction, Encoded

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.evaluation.ability_task import Featurize
    from meow_lightning.generation.batch_size import AdaptiveBatchSize

MAUVE, BLEU, REP3, PERPLEXITY = "mauve", "bleu", "rep3", "perplexity"
BLOCK = 8  # passages scored in one forward pass
REP = 3  # words of an n-gram of Rep-3
RESAMPLES = 100  # of BLEU's bootstrap, as many as lm-evaluation-harness draws for it
WRAPPED = "[INST]{}[/INST]"  # round the texts whose perplexity the published code computes, whatever the model
PUBLISHED_LENGTH = (100, 200)  # characters of the texts of the published code
LARGEST_EXPONENT = 700.0  # of a float: exp(710) overflows


class Passage(NamedTuple):
    """A passage in tokens.

    Attributes:
        prompt: What the model is shown.
        truth: How the passage goes on.
        budget: Maximum number of new tokens.
        whole: The text whose perplexity is computed, its scored tokens marked.
        text: The passage as text.
    """

    prompt: tuple[int, ...]
    truth: tuple[int, ...]
    budget: int
    whole: Encoded
    text: str


@dataclass(frozen=True, slots=True)
class ContinuedPassage:
    """A model's continuation of a passage.

    Attributes:
        prompt: What the model was shown.
        reference: The human text that the numbers compare with.
        continuation: The model's text that the numbers compare.
        nll: Mean negative log-likelihood of the scored tokens of the true text, in nats.
        tokens: Their number.
    """

    prompt: str
    reference: str
    continuation: str
    nll: float
    tokens: int


class Continuations(AbilityTask):
    """Greedy continuation of held-out passages, as MEOW (arXiv 2409.11844) measures a model's NLG ability.

    ``compared=continuation`` compares the new text alone with the true one: a passage gives its first
    ``prompt_tokens`` tokens as prompt and the next ``new_tokens`` as truth.

    ``compared=published`` compares what the published code compares: texts of 100 to 200 characters; max(1, tokens -
    ``prompt_tokens``) new tokens; the whole text, its prompt included, against prompt and continuation with special
    tokens, most of which is copied; perplexity of the whole text within ``[INST]`` and ``[/INST]``. Its texts, 5,000 of
    cc_news and WikiText-103, are not those of the files here.

    ==========  ========================================================================================
    mauve       MAUVE (Pillutla et al. 2021) of the model's against the human texts, on the features of
                ``features``: the last hidden state of the last token
    bleu        corpus BLEU of sacrebleu, 0 to 100, of the model's against the human texts
    rep3        mean over passages of 1 - |distinct word trigrams| / |word trigrams| of the model's text
    perplexity  exp of the mean over passages of a passage's mean negative log-likelihood per token of the
                truth; ``published``: mean over passages of exp of that of the whole text
    ==========  ========================================================================================

    Args:
        format: Form of the files: ``wikitext`` or ``plain``, see :func:`~.passages.passages`.
        prompt_tokens: Tokens of a prompt, 1 or more.
        new_tokens: Tokens of a true continuation and maximum of new ones, 1 or more; ``None`` for ``published``, whose
            texts say how many.
        compared: ``continuation`` or ``published``.
        features: Model that gives MAUVE its features: ``target`` (of the run), a folder or a hub id; ``None`` to leave
            MAUVE out.
        mauve_scaling_factor: Scaling factor of MAUVE, above 0.

    Raises:
        UserError: ``new_tokens`` does not fit ``compared``.
    """

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]] = (MAUVE, BLEU, REP3, PERPLEXITY)
    lower: ClassVar[tuple[str, ...]] = (REP3, PERPLEXITY)

    def __init__(
        self, *, format: Format, prompt_tokens: Count, new_tokens: Count | None,
        compared: Literal["continuation", "published"], features: str | None, mauve_scaling_factor: Positive,
    ) -> None:  # fmt: skip
        if (new_tokens is None) != (compared == "published"):
            raise invalid_option(
                "new_tokens", new_tokens, "an integer with compared=continuation, null with compared=published"
            )
        self.format: Format = format
        self.prompt_tokens, self.new_tokens, self.published = prompt_tokens, new_tokens or 0, new_tokens is None
        self.features, self.mauve_scaling_factor = features, mauve_scaling_factor
        self.packages = ("lm_eval", "sacrebleu", *(("mauve-text", "faiss-cpu") if features is not None else ()))

    @property
    def length(self) -> Length:
        """Estimated tokens of a passage."""
        generated = round(PUBLISHED_LENGTH[1] / CHARACTERS) - self.prompt_tokens if self.published else self.new_tokens
        return Length(self.prompt_tokens, max(1, generated))

    def amount(self, files: LocalQuestions) -> int:
        """Estimate the number of passages that are long enough."""
        if self.published:
            return sum(PUBLISHED_LENGTH[0] <= len(text) <= PUBLISHED_LENGTH[1] for text in self._texts(files))
        return sum(len(text) >= CHARACTERS * sum(self.length) for text in self._texts(files))

    def questions(self, files: LocalQuestions, encoder: PromptEncoder, limit: int | None) -> list[Passage]:
        """Cut the passages, those that are long enough; ``limit`` of them are spread over the files.

        Raises:
            UserError: None is long enough, or prompt and continuation do not fit into the model's context.
        """
        cut = self._published if self.published else self._cut
        clean = detokenized if self.format == "wikitext" else str.strip
        every = (cut(encoder, clean(text)) for text in self._texts(files))
        found = evenly_spaced([passage for passage in every if passage is not None], limit)
        option = f"ability.local.{files.task}"
        if not found:
            raise UserError(
                f"{option}.data has no passage of {self._wanted}; lower {option}.prompt_tokens or add files"
            )
        longest = max(max(len(each.whole.ids), len(each.prompt) + each.budget) for each in found)
        if longest > encoder.context:
            raise UserError(
                f"{option}: a passage has {longest} tokens and the model's context {encoder.context}: lower "
                f"{option}.prompt_tokens or {option}.new_tokens"
            )
        return found

    def answer(
        self, model: Any, encoder: PromptEncoder, questions: Sequence[Passage], *, slots: int | AdaptiveBatchSize
    ) -> Iterator[ContinuedPassage]:
        """Continue and score passages; those of one call share forward passes."""
        from meow_lightning.evaluation.loglikelihood import loglikelihoods
        from meow_lightning.generation.engine import continue_greedily

        texts = dict(
            continue_greedily(
                model, [each.prompt for each in questions], budgets=[each.budget for each in questions],
                end_ids=encoder.end_ids, pad_id=encoder.pad_id, slots=slots, progress=None,
            )
        )  # fmt: skip
        rows = [each.whole for each in questions]
        scored = dict(loglikelihoods(model, rows, pad_id=encoder.pad_id, batch=BLOCK, progress=None))
        for number, passage in enumerate(questions):
            made, logps = texts[number], scored[number].logps
            new = [*made.ids, *([] if made.end is None else [made.end])]
            if self.published:
                reference, text = passage.text, encoder.decode([*passage.prompt, *new], keep_special=True)
            else:
                reference = encoder.decode(passage.truth, keep_special=False).strip()
                text = encoder.decode(made.ids, keep_special=False).strip()
            prompt = encoder.decode(passage.prompt, keep_special=False)
            yield ContinuedPassage(prompt, reference, text, -math.fsum(logps) / len(logps), len(logps))

    def result(self, name: str, answers: Sequence[Mapping[str, Any]], featurize: Featurize | None) -> AbilityResult:
        """Compute the four numbers; standard errors over passages."""
        pairs = [(row["reference"], row["continuation"]) for row in answers]
        outcomes = {
            MAUVE: self._mauve(pairs, featurize),
            BLEU: bleu(pairs),
            REP3: mean_with_error([repetition(text, n=REP) for _, text in pairs]),
            PERPLEXITY: perplexity([row["nll"] for row in answers], mean_of_exp=self.published),
        }
        return AbilityResult(
            task=name, harness="", questions=len(answers), num_fewshot=None,
            numbers=tuple(self._number(name, metric, outcome, len(answers)) for metric, outcome in outcomes.items()),
        )  # fmt: skip

    def _texts(self, files: LocalQuestions) -> list[str]:
        return [text for split in files.files for text in passages(files.lines(split), form=self.format)]

    @property
    def _wanted(self) -> str:
        if self.published:
            return f"{PUBLISHED_LENGTH[0]} to {PUBLISHED_LENGTH[1]} characters"
        return f"{self.prompt_tokens} + {self.new_tokens} tokens"

    def _cut(self, encoder: PromptEncoder, text: str) -> Passage | None:
        """Cut a passage after its prompt; ``None`` if it is too short."""
        end = self.prompt_tokens + self.new_tokens
        ids = tuple(encoder.encode_plain(text))
        if len(ids) < end:
            return None
        prompt, truth = ids[: self.prompt_tokens], ids[self.prompt_tokens : end]
        return Passage(prompt, truth, self.new_tokens, Encoded(ids[:end], self.prompt_tokens), text)

    def _published(self, encoder: PromptEncoder, text: str) -> Passage | None:
        """Cut a passage as the published code does; ``None`` if it is too short or too long.

        Its perplexity is that of every token of the wrapped text but the first.
        """
        if not PUBLISHED_LENGTH[0] <= len(text) <= PUBLISHED_LENGTH[1]:
            return None
        ids, wrapped = tuple(encoder.encode_plain(text)), tuple(encoder.encode_plain(WRAPPED.format(text)))
        prompt, truth = ids[: self.prompt_tokens], ids[self.prompt_tokens :]
        return Passage(prompt, truth, max(1, len(truth)), Encoded(wrapped, 1), text)

    def _mauve(self, pairs: Sequence[tuple[str, str]], featurize: Featurize | None) -> Outcome:
        from meow_lightning.evaluation.mauve_score import LEAST, mauve

        if featurize is None:
            return Outcome(None, None, "the task names no model for MAUVE's features (features=null)")
        if len(pairs) < LEAST:
            return Outcome(None, None, f"MAUVE needs {LEAST} passages or more")
        human, model = (featurize([pair[side] for pair in pairs]) for side in (0, 1))
        value = mauve(human, model, scaling_factor=self.mauve_scaling_factor)
        return Outcome(value, None, "MAUVE is not a mean over passages")

    def _number(self, task: str, metric: str, outcome: Outcome, passages: int) -> AbilityNumber:
        direction: Direction = "lower" if metric in self.lower else "higher"
        return AbilityNumber(
            task=task, metric=metric, value=outcome.value, stderr=outcome.stderr, direction=direction,
            text=self._text(metric, passages), unit="share" if metric in (MAUVE, REP3) else "",
            reason=outcome.reason,
        )  # fmt: skip

    def _text(self, metric: str, passages: int) -> str:
        """Define a number in words."""
        model = "the run's target model" if self.features == RUN_TARGET else self.features
        what = {
            MAUVE: f"MAUVE of the model's against the human texts (mauve-text, scaling factor "
            f"{self.mauve_scaling_factor:g}, features: last hidden state of the last token of {model}; rises with "
            "fewer passages, so comparable only between models of the same number)",
            BLEU: "Corpus BLEU (sacrebleu, 0 to 100) of the model's against the human texts; standard error by "
            f"{RESAMPLES} bootstrap samples of passages",
            REP3: "Rep-3, the mean share of repeated word trigrams of the model's texts",
            PERPLEXITY: "Perplexity of the human texts, exp of the mean negative log-likelihood per token",
        }[metric]
        if self.published:
            how = (
                f"scored as MEOW's published code does: {passages} texts of {PUBLISHED_LENGTH[0]} to "
                f"{PUBLISHED_LENGTH[1]} characters, prompt ({self.prompt_tokens} tokens) and special tokens included "
                "in what is compared, perplexity of the whole text within [INST] [/INST]; from the files here, not "
                "from its cc_news and WikiText-103"
            )
        else:
            how = (
                f"{passages} held-out passages, continued greedily for up to {self.new_tokens} tokens after a prompt "
                f"of {self.prompt_tokens}, the prompt not compared"
            )
        return f"{what}; {how}."


class Outcome(NamedTuple):
    """A number, or why there is none.

    Attributes:
        value: The number; ``None`` if it is missing.
        stderr: Its standard error over passages; ``None`` if it has none.
        reason: Why the number or its standard error is missing; empty if neither is.
    """

    value: float | None
    stderr: float | None
    reason: str = ""


def mean_with_error(values: Sequence[float]) -> Outcome:
    """Average over passages, with the standard error s / sqrt(n), s the sample standard deviation."""
    if len(values) < 2:
        return Outcome(statistics.fmean(values), None, "one passage has no standard error")
    return Outcome(statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)))


def perplexity(nlls: Sequence[float], *, mean_of_exp: bool) -> Outcome:
    """Compute perplexity from mean negative log-likelihoods per token l_i of passages, in nats.

    exp(mean_i l_i), with the standard error exp(mean l) se(l) by the delta method; with ``mean_of_exp``
    mean_i exp(l_i), as ``evaluate``'s metric of that name.

    Args:
        nlls: One per passage.
        mean_of_exp: Whether perplexities are averaged rather than likelihoods.
    """
    if max(nlls) > LARGEST_EXPONENT:
        return Outcome(None, None, f"a passage has {max(nlls):.0f} nats per token, whose exponential overflows")
    if mean_of_exp:
        return mean_with_error([math.exp(each) for each in nlls])
    mean = mean_with_error(nlls)
    value = math.exp(float(mean.value or 0.0))
    return Outcome(value, None if mean.stderr is None else value * mean.stderr, mean.reason)


def bleu(pairs: Sequence[tuple[str, str]]) -> Outcome:
    """Compute corpus BLEU of sacrebleu with its defaults, and its standard error over resampled passages.

    Both as lm-evaluation-harness computes them.

    Args:
        pairs: Human text and model's text of every passage.
    """
    from lm_eval.api.metrics import bleu as corpus_bleu
    from lm_eval.api.metrics import stderr_for_metric

    from meow_lightning.evaluation.harness import quiet

    if len(pairs) < 2:
        return Outcome(float(corpus_bleu(pairs)), None, "one passage has no standard error")
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        error: Any = stderr_for_metric(corpus_bleu, RESAMPLES)
        return Outcome(float(corpus_bleu(pairs)), float(error(pairs)))
