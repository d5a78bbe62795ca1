"""Report section on the selection of inverted answers."""

from __future__ import annotations

from markupsafe import Markup

from meow_lightning.memo.selection_diagnostics import Selection, per_fact, selection
from meow_lightning.report.data import DASH, ReportData
from meow_lightning.report.templating import render_template

FIRST = {
    "largest": "the largest MEMO first",
    "smallest": "the smallest MEMO first",
    "random": "at random, whatever their MEMO",
}
BASELINE = "what both prefer is wording; their difference is selected by"
LEGEND = (
    "Largest, smallest and random are selection strategies (method.select.strategy); MEMO is the target model's. "
    "Correlations lie between −1 and 1, length is in words. Within a fact: deviations from the fact's own mean, since "
    f"selection compares the answers of one fact only. {DASH} not defined, because all values are equal."
)


def selection_of(data: ReportData) -> Selection | None:
    """Compute the selection diagnostics of a run; ``None`` if its method selects nothing or scores are missing."""
    method = data.settings.get("method")
    options = method.get("select") if isinstance(method, dict) else None
    candidates = data.memo.get("target", {}).get("candidates")
    if not options or not candidates or not data.selected:
        return None
    return selection(candidates, k=options["k"], strategy=options["strategy"], baseline=data.baseline)


def section(diagnostics: Selection | None) -> Markup:
    """Render the section as HTML, numbers only; empty without a selection."""
    if diagnostics is None:
        return Markup("")
    return render_template(
        "selection.html",
        diagnostics=diagnostics,
        candidates=per_fact(diagnostics),
        order=FIRST[diagnostics.strategy],
        rows=rows(diagnostics),
        legend=LEGEND,
    )


def rows(diagnostics: Selection) -> list[tuple[str, str, str]]:
    """Describe the diagnostics: name, value, and what to compare it with."""
    k = diagnostics.k
    at_least = (
        "possibly none"
        if diagnostics.shared_at_least == 0
        else f"necessarily at least {diagnostics.shared_at_least * k:.1f}"
    )
    return [
        (
            "answers that largest and smallest both select",
            f"{diagnostics.shared * k:.1f} of {k}",
            f"{at_least}; a random choice shares {diagnostics.shared_by_chance * k:.1f} with largest",
        ),
        (
            "spread of MEMO within a fact (largest minus smallest)",
            f"{diagnostics.spread:.3f}",
            "mean over the facts; 0: all are equal",
        ),
        (
            "facts with equal scores at the last selected position",
            f"{diagnostics.tied} of {diagnostics.facts}",
            "the order of the answers decided" if diagnostics.tied else "the order of the answers would decide",
        ),
        (
            "facts whose longest answer has the largest MEMO",
            f"{diagnostics.wordiest_first:.0%}",
            f"by chance {diagnostics.wordiest_by_chance:.0%}",
        ),
        ("MEMO against length within a fact", *_pair(diagnostics.pearson_within, diagnostics.spearman_within)),
        ("MEMO against length over all inverted answers", *_pair(diagnostics.pearson, diagnostics.spearman)),
        *_agreement(diagnostics),
    ]


def _agreement(diagnostics: Selection) -> list[tuple[str, str, str]]:
    """Describe the agreement with the baseline; empty without one."""
    found, k = diagnostics.agreement, diagnostics.k
    if found is None:
        return []
    return [
        (
            "answers with the largest MEMO in both the target model and the baseline",
            f"{found.shared * k:.1f} of {k}",
            f"a random choice shares {diagnostics.shared_by_chance * k:.1f}",
        ),
        ("MEMO of the target model against the baseline's within a fact", _signed(found.correlation), BASELINE),
    ]


def _pair(pearson: float | None, spearman: float | None) -> tuple[str, str]:
    """Format Pearson's and Spearman's correlation."""
    return _signed(pearson), f"of the ranks (Spearman) {_signed(spearman)}"


def _signed(value: float | None) -> str:
    """Format a correlation with a typographic minus, but never minus zero."""
    return DASH if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
