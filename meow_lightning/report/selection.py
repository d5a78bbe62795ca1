"""Report section on the selection of inverted answers."""

from __future__ import annotations

from html import escape

from meow_lightning.memo.selection_diagnostics import Selection, per_fact, selection
from meow_lightning.report.data import DASH, ReportData

FIRST = {
    "largest": "the largest MEMO first",
    "smallest": "the smallest MEMO first",
    "random": "at random, whatever their MEMO",
}
LEGEND = (
    "Largest, smallest and random are the strategies of a choice; MEMO is the target model's. Correlations lie between "
    "−1 and 1, length is in words. Within a fact means that both were compared with their mean over that fact alone, "
    f"which is all that a choice can see. {DASH} there is nothing to correlate: all are alike."
)


def selection_of(data: ReportData) -> Selection | None:
    """Compute the selection diagnostics of a run; ``None`` if its method selects nothing or scores are missing."""
    method = data.settings.get("method")
    wish = method.get("select") if isinstance(method, dict) else None
    candidates = data.memo.get("target", {}).get("candidates")
    if not wish or not candidates or not data.selected:
        return None
    return selection(candidates, k=wish["k"], strategy=wish["strategy"])


def section(found: Selection | None) -> str:
    """Render the section as HTML, numbers only; empty without a selection."""
    if found is None:
        return ""
    body = "".join(
        f"<tr><th>{escape(what)}</th><td>{escape(value)}</td><td>{escape(against)}</td></tr>"
        for what, value, against in rows(found)
    )
    return (
        "<section><h2>Selection</h2>"
        f"<p>Of {per_fact(found)} inverted answers per fact {found.k} {'is' if found.k == 1 else 'are'} taken, "
        f"{FIRST[found.strategy]}; {found.facts} fact{'' if found.facts == 1 else 's'}.</p>"
        '<div class="wide"><table class="plain">'
        "<thead><tr><th>figure</th><th>value</th><th>to compare</th></tr></thead>"
        f'<tbody>{body}</tbody></table></div><p class="small">{escape(LEGEND)}</p></section>'
    )


def rows(found: Selection) -> list[tuple[str, str, str]]:
    """Describe the diagnostics: name, value, and what to compare it with."""
    k = found.k
    at_least = "none must be" if found.shared_at_least == 0 else f"at least {found.shared_at_least * k:.1f} must be"
    return [
        (
            "answers that largest and smallest both take",
            f"{found.shared * k:.1f} of {k}",
            f"{at_least}; a random choice shares {found.shared_by_chance * k:.1f} with largest",
        ),
        (
            "spread of MEMO within a fact (largest less smallest)",
            f"{found.spread:.3f}",
            "mean over the facts; 0: all are alike",
        ),
        (
            "facts where equal scores meet at the last place taken",
            f"{found.tied} of {found.facts}",
            "there the order of the answers decided" if found.tied else "there the order of the answers would decide",
        ),
        (
            "facts where the wordiest answer has the largest MEMO",
            f"{found.wordiest_first:.0%}",
            f"by chance {found.wordiest_by_chance:.0%}",
        ),
        ("MEMO against length within a fact", *_pair(found.pearson_within, found.spearman_within)),
        ("MEMO against length over all inverted answers", *_pair(found.pearson, found.spearman)),
    ]


def _pair(pearson: float | None, spearman: float | None) -> tuple[str, str]:
    """Format Pearson's and Spearman's correlation."""
    return _signed(pearson), f"of the ranks (Spearman) {_signed(spearman)}"


def _signed(value: float | None) -> str:
    """Format a correlation with a typographic minus, but never minus zero."""
    return DASH if value is None else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
