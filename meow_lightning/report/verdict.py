"""Verdict on a run in words, derived from its numbers by named thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meow_lightning.evaluation.checkpoint_selection import MAX_EXCESS_RECALL
from meow_lightning.evaluation.metrics.forget_quality import SIGNIFICANCE
from meow_lightning.report.data import around_attack, coverage_of, format_value, label, number, why_missing
from meow_lightning.report.limits import critical_distance, limits
from meow_lightning.report.traces import recovered, traces
from meow_lightning.types import Results

KEPT = 0.90  # share of the target's number that counts as kept
ROUNDING = 1e-6  # answers; tolerance for the rounding of shares
UNKNOWN = 0.20  # share of known facts below which a target model does not know them, so nothing can be unlearned
WHOLLY_KNOWN = 0.80  # share of known facts below which it knows them only in part
COLLAPSED = 0.50  # share of the target's number below which the model counts as collapsed

GUARDS = ("model_utility", "retain/rouge_l_recall", "retain/value_accuracy")

Forgetting = Literal["forgot", "hidden", "not", "undecided", "unmeasured", "unknown"]
Keeping = Literal["kept", "cost", "collapsed", "unmeasured"]
Tone = Literal["good", "mixed", "bad", "open"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a run.

    Attributes:
        tone: ``good``, ``mixed``, ``bad``, or ``open`` if the numbers do not decide.
        headline: One sentence.
        findings: Topic and sentences, in reading order.
        limits: What the numbers do not show.
    """

    tone: Tone
    headline: str
    findings: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]


def verdict(results: Results) -> Verdict:
    """Judge whether the model forgot, what it kept, and what that does not show.

    Forgotten means both: the Kolmogorov-Smirnov test on the truth ratios does not tell the model from the retain model
    (p >= ``SIGNIFICANCE``; TOFU, arXiv 2401.06121), and the model states the true value at most ``MAX_EXCESS_RECALL``
    more often than the retain model. In addition, answers to any question may not contain forgotten values that much
    more often, see :func:`has_leaked`. A model that forgot in this sense answers otherwise but still knows if one of
    the :func:`~meow_lightning.report.traces.traces` of the facts remains or an attack brings them back. Collapsed
    means that model utility, retain ROUGE-L or retain value accuracy fell below ``COLLAPSED`` of the target model's:
    utility alone can hide a ruined retain set.
    """
    forgot, kept = forgetting(results), keeping(results)
    tone, headline = _headline(forgot, kept)
    findings = [
        ("Facts", _facts(results)),
        ("Forgetting", _forget_quality(results)),
        ("Answers", _answers(results)),
        ("Leakage", _leakage(results)),
        ("Traces", _traces(results)),
        ("Attacks", _attacks(results)),
        ("Utility", _utility(results)),
        ("Retain set", _retain(results)),
        ("MEMO", _memo(results)),
    ]
    return Verdict(tone, headline, tuple((topic, text) for topic, text in findings if text), tuple(limits(results)))


def forgetting(results: Results) -> Forgetting:
    """Judge whether the facts are forgotten.

    ``hidden`` if answers and truth ratios show nothing of them but another trace remains or an attack brings them
    back, ``undecided`` if the test found no difference before unlearning either, ``unknown`` if the target model never
    knew the facts.
    """
    if not target_knows(results):
        return "unknown"
    p, before = number(results, "unlearned", "forget_quality"), number(results, "target", "forget_quality")
    recall = number(results, "unlearned", "forget/value_accuracy")
    chance = number(results, "retain", "forget/value_accuracy") or 0.0
    if recall is not None and recall > chance + MAX_EXCESS_RECALL:
        return "not"
    if has_leaked(results, "forget/leakage"):
        return "not"
    if p is None:
        return "unmeasured"
    if p < SIGNIFICANCE:
        return "not"
    if before is not None and before >= SIGNIFICANCE:
        return "undecided"
    return "hidden" if any(each.remains for each in [*traces(results), *recovered(results).values()]) else "forgot"


def has_leaked(results: Results, name: str) -> bool:
    """Whether the unlearned model's answers contain forgotten values noticeably more often than the retain model's.

    Noticeably: in more additional answers than ``MAX_EXCESS_RECALL`` times the number of forgotten values, so that a
    large retain set hides nothing. Without a retain model, its share counts as 0.

    Args:
        results: The numbers of a run.
        name: ``forget/leakage``, or ``forget/leakage_elsewhere`` for the values of other questions.
    """
    share, retain = number(results, "unlearned", name), number(results, "retain", name) or 0.0
    rows, values = (number(results, "unlearned", f"forget/leakage_{part}") for part in ("rows", "values"))
    if share is None or rows is None or values is None:
        return False
    return (share - retain) * rows > MAX_EXCESS_RECALL * values + ROUNDING


def keeping(results: Results) -> Keeping:
    """Judge what was kept, by the worst of the ``GUARDS`` relative to the target model."""
    shares = [share for name in GUARDS if (share := kept_share(results, name)) is not None]
    if not shares:
        return "unmeasured"
    worst = min(shares)
    if worst < COLLAPSED:
        return "collapsed"
    return "kept" if worst >= KEPT else "cost"


def target_knows(results: Results) -> bool:
    """Whether the target model knows the facts, as far as measured."""
    known = number(results, "target", "facts_known")
    return known is None or known >= UNKNOWN


def kept_share(results: Results, name: str) -> float | None:
    """Return the unlearned model's number as a share of the target's; ``None`` if either is missing or the latter 0."""
    after, before = number(results, "unlearned", name), number(results, "target", name)
    return None if after is None or not before else after / before


def _headline(forgot: Forgetting, kept: Keeping) -> tuple[Tone, str]:
    """Select tone and headline for a pair of outcomes."""
    if forgot == "unknown":
        return "open", "Meaningless: the target model does not know the facts, so there was nothing to forget."
    if kept == "collapsed":
        also = {
            "forgot": "it forgot, but lost",
            "hidden": "it answers otherwise, but lost",
            "not": "it did not forget, and lost",
        }
        return "bad", f"The model collapsed: {also.get(forgot, 'it lost')} most of what it should have kept."
    if forgot == "not":
        tail = ", and it lost part of what it should have kept" if kept == "cost" else ""
        return "bad", f"The model did not forget{tail}."
    if forgot == "undecided":
        return "open", "Undecided: the test finds no difference now, but it found none before unlearning either."
    if forgot == "unmeasured":
        return "open", "Open: whether the model forgot was not measured against a retain model."
    if forgot == "hidden":
        tail = ", and it lost part of what it should have kept" if kept == "cost" else ""
        return "mixed", f"The model answers otherwise, but still knows{tail}."
    if kept == "kept":
        return "good", "The model forgot, and kept what it should keep."
    if kept == "cost":
        return "mixed", "The model forgot, at a cost to what it should keep."
    return "mixed", "The model forgot; what it kept was not measured."


def _facts(results: Results) -> str:
    """Describe how much the target model knew before unlearning."""
    known = number(results, "target", "facts_known")
    if known is None:
        return ""
    baseline = "the retain model" if results.values.get("retain") else "an answer that repeats the question"
    text = f"Before unlearning, the target model knew {known:.0%} of what there was to learn, compared with {baseline}."
    return text if known >= UNKNOWN else f"{text} What follows is not the effect of unlearning."


def _forget_quality(results: Results) -> str:
    """Describe forget quality: its change, and the side of the threshold."""
    p, log = number(results, "unlearned", "forget_quality"), _formatted(results, "unlearned", "forget_quality_log10")
    if p is None:
        return f"Forget quality was not measured: {why_missing(results, 'unlearned', 'forget_quality')}."
    moved = f"Forget quality is log10 p = {log}"
    before, after = (number(results, role, "forget_quality_log10") for role in ("target", "unlearned"))
    if before is not None and after is not None:
        verb = "rose" if after > before else "fell" if after < before else "stayed"
        where = (
            f"at {log}"
            if verb == "stayed"
            else f"from {_formatted(results, 'target', 'forget_quality_log10')} to {log}"
        )
        moved = f"Forget quality log10 p {verb} {where}"
    questions = _formatted(results, "unlearned", "forget_quality_rows")
    count = f" with n = {questions} questions" if questions else ""
    outcome = "not distinguishable" if p >= SIGNIFICANCE else "still distinguishable"
    return (
        f"{moved} (retain model: 0). With p = {format_value('forget_quality', p)} the unlearned model is {outcome} "
        f"from the retain model at the {SIGNIFICANCE:.0%} level{count}{_distance(results)}."
    )


def _distance(results: Results) -> str:
    """Describe the Kolmogorov-Smirnov distance and its critical value; empty if unknown."""
    distance = _formatted(results, "unlearned", "forget_quality_distance")
    if not distance:
        return ""
    limit = critical_distance(number(results, "unlearned", "forget_quality_rows") or 0.0)
    return f"; the two distributions are {distance} apart" + (f", the limit is about {limit:.2f}" if limit else "")


def _answers(results: Results) -> str:
    """Describe the greedy answers to the forget set."""
    after = number(results, "unlearned", "forget/value_accuracy")
    if after is None:
        return f"Value accuracy was not measured: {why_missing(results, 'unlearned', 'forget/value_accuracy')}."
    others = _others(results, "forget/value_accuracy")
    chance = number(results, "retain", "forget/value_accuracy") or 0.0
    still = " The model still states what it should have forgotten." if after > chance + MAX_EXCESS_RECALL else ""
    coverage = coverage_of(results, "unlearned", "forget/value_accuracy")
    to = "" if coverage is None else f" to the {coverage[0]} of {coverage[1]} questions whose value is marked"
    return f"On the forget set, it states the true value in {after:.0%} of its answers{to}{others}.{still}"


def _leakage(results: Results) -> str:
    """Describe forgotten values in the answers to all questions."""
    name, elsewhere = "forget/leakage", "forget/leakage_elsewhere"
    after, other = number(results, "unlearned", name), number(results, "unlearned", elsewhere)
    if after is None or other is None:
        return f"Whether answers hold forgotten values was not measured: {why_missing(results, 'unlearned', name)}."
    values, rows = (_formatted(results, "unlearned", f"{name}_{part}") for part in ("values", "rows"))
    compared = _others(results, name, digits=1)
    text = (
        f"Of all {rows} answers, {after:.1%} hold one of the {values} forgotten values{compared}, and "
        f"{other:.1%} that of another question{_others(results, elsewhere, digits=1)}."
    )
    if has_leaked(results, elsewhere):
        return f"{text} The model states forgotten values in answers to questions that do not ask for them."
    return f"{text} The model still discloses forgotten values." if has_leaked(results, name) else text


def _traces(results: Results) -> str:
    """Describe what a model that answers otherwise still shows of the facts."""
    return " ".join(
        each.sentence + (" That is nearer to the target model: the facts are still there." if each.remains else "")
        for each in traces(results)
    )


def _utility(results: Results) -> str:
    """Describe how much of the target model's utility is left."""
    share, after = kept_share(results, "model_utility"), number(results, "unlearned", "model_utility")
    if after is None:
        return f"Model utility was not measured: {why_missing(results, 'unlearned', 'model_utility')}."
    before = number(results, "target", "model_utility")
    if share is None:
        than = (
            "there is no target model to compare it with" if before is None else f"the target model's is {before:.3f}"
        )
        return f"Model utility is {after:.3f}; {than}."
    return f"{share:.0%} of the target model's utility is kept ({after:.3f} of {before:.3f})."


def _retain(results: Results) -> str:
    """Describe the cost on the retain set, which the utility averages over."""
    parts = []
    for name in GUARDS[1:]:
        before, after = number(results, "target", name), number(results, "unlearned", name)
        if before is not None and after is not None:
            same = f"{before:.2f}" == f"{after:.2f}"
            moved = f"stayed at {after:.2f}" if same else f"went from {before:.2f} to {after:.2f}"
            parts.append(f"{label(results, name).removeprefix('retain ')} {moved}")
    if not parts:
        return "What it cost on the retain set was not measured."
    utility = kept_share(results, "model_utility")
    shares = [share for name in GUARDS[1:] if (share := kept_share(results, name)) is not None]
    hidden = utility is not None and shares and min(shares) < utility - 0.1
    return f"On the retain set, {' and '.join(parts)}." + (" Model utility understates this loss." if hidden else "")


def _memo(results: Results) -> str:
    """Describe how strongly the true answers are still memorized."""
    after = number(results, "unlearned", "memo/answers")
    if after is None:
        return ""
    others = _others(results, "memo/answers", percent=False)
    return f"MEMO of the true answers is {after:.3f}{others}."


def _attacks(results: Results) -> str:
    """Describe what every attack does to the share of answers that state the true value."""
    name, sentences, left = "forget/value_accuracy", [], recovered(results)
    for condition, text in results.conditions.items():
        own = around_attack(results, "unlearned", condition, name)
        if own is None:
            continue
        before, after = own
        retain = around_attack(results, "retain", condition, name)
        compared = "" if retain is None else f" (retain model: {retain[0]:.0%} to {retain[1]:.0%})"
        sentences.append(
            f"{text[:1].upper()}{text[1:]}, the share of answers that state the true value goes from {before:.0%} to "
            f"{after:.0%}{compared}."
            + (" The attack brings the facts back." if condition in left and left[condition].remains else "")
        )
    return " ".join(sentences)


def _others(results: Results, name: str, *, percent: bool = True, digits: int = 0) -> str:
    """Format the target and retain model's numbers in brackets, or an empty string."""
    known = [(role, value) for role in ("target", "retain") if (value := number(results, role, name)) is not None]
    texts = [f"{role} model: {value:.{digits}%}" if percent else f"{role} model: {value:.3f}" for role, value in known]
    return f" ({', '.join(texts)})" if texts else ""


def _formatted(results: Results, role: str, name: str) -> str:
    """Format a number, or return an empty string if it is missing."""
    value = number(results, role, name)
    return "" if value is None else format_value(name, value)
