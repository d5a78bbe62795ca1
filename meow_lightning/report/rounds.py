"""Report section on the rounds of a method that re-queries its teacher for facts that are still memorized."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING

from meow_lightning.report.data import Loop, Round
from meow_lightning.report.svg import COLOURS, Picture, inline, render, spread_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (10.0, 3.1)  # inches; full page width


def retrained_everything(loop: Loop) -> int:
    """Count the queries that asking about every fact in every round would have taken.

    These are round 1's own queries, since it asks about all facts anyway, and, for each later round that asked about
    any fact, one query per fact to forget plus the repeats that were needed for the facts it did ask about, whether or
    not anything new was returned. This is a calculation, not a run: such a loop might have ended earlier or later.
    """
    return _sums(loop)[1][-1]


def sentence(loop: Loop) -> str:
    """Summarize rounds, queries and still memorized facts after each round in one line."""
    calls, everything = (sums[-1] for sums in _sums(loop))
    against = ""
    if everything != calls:
        times = f", {everything / calls:.1f} times as many" if everything >= 1.05 * calls > 0 else ""
        against = f" (asking for all facts each round: {everything:,}{times})"
    idle = sum(found.same for found in loop.rounds)
    without = f" ({idle} without anything new)" if idle else ""
    still_memorized = ", ".join(f"{found.still_memorized:,}" for found in loop.rounds)
    fewest = min(loop.rounds, key=lambda found: found.still_memorized)
    better = ""
    if fewest.still_memorized < loop.rounds[-1].still_memorized:
        better = f" (fewest after round {fewest.number}: method.rounds.count={fewest.number} gives that model)"
    return (
        f"{_many(len(loop.rounds), 'round')}{without}, {_many(calls, 'question')} to the teacher{against}; "
        f"facts above {_score(loop.memorized_above)} ({loop.measure}): {still_memorized}{better}"
    )


def section(loop: Loop | None) -> str:
    """Render the section as HTML, numbers only; empty without rounds."""
    if loop is None:
        return ""
    drawn = picture(loop)
    return (
        f"<section><h2>Rounds</h2><p>{escape(_ending(loop))}</p><p>{escape(sentence(loop))}.</p>"
        f'{_table(loop)}<p class="small">{escape(_legend(loop))}</p>'
        f'<figure class="across">{inline(drawn)}<figcaption><b>{escape(drawn.title)}.</b> {escape(drawn.caption)}'
        "</figcaption></figure></section>"
    )


def picture(loop: Loop | None) -> Picture:
    """Draw the still memorized facts and the queries of each round; nothing without rounds."""
    title = "What is still memorized, and what was requested for it"
    if loop is None:
        missing = "this method works in no rounds"
        return render("rounds", title, "", missing=missing, size=SIZE, draw=lambda figure: None)
    caption = (
        f"Left: after each round, the share of facts whose true answer's {loop.measure} is above "
        f"{_score(loop.memorized_above)} (dashed), and highest and mean {loop.measure} of the true answers. Right: "
        "questions to the teacher up to each round"
    )
    caption += ", and what asking for all facts in each round would have taken." if _compared(loop) else "."
    if any(found.same for found in loop.rounds):
        caption += " Ringed: nothing new came, the model of the round before stands."
    return render("rounds", title, caption, missing="", size=SIZE, draw=lambda figure: _draw(figure, loop))


def _ending(loop: Loop) -> str:
    """Explain in one sentence why the rounds ended."""
    last, memorized_above = loop.rounds[-1], _score(loop.memorized_above)
    left = f"{last.still_memorized:,} of {_many(last.facts, 'fact')}"
    still = f"{left} {'is' if last.still_memorized == 1 else 'are'} still above {memorized_above}"
    after = f"Ended after round {last.number}"
    return {
        "below": f"{after}: no true answer's {loop.measure} is above {memorized_above} any more.",
        "budget": f"{after}: the calls to the teacher were spent, and {still}.",
        "rounds": f"{after}, the last one allowed: {still}.",
        "silent": f"{after}: the teacher wrote nothing new, and {still}.",
    }[loop.ended]


def _table(loop: Loop) -> str:
    """Render one row per round; with tokens only if they were counted."""
    counted = any(found.tokens for found in loop.rounds)
    measure = escape(loop.measure)
    heads = ["round", "asked", "questions", "written", "kept", "rows trained"]
    heads += [f"above {_score(loop.memorized_above)}", f"mean {measure}", f"highest {measure}"]
    heads += ["tokens"] if counted else []
    body = ""
    for found in loop.rounds:
        numbers = [f"{found.calls:,}", f"{found.written:,}", f"{found.kept:,}"]
        numbers += ["as&nbsp;before" if found.same else f"{found.trained:,}", f"{found.still_memorized:,}"]
        numbers += [f"{found.memo:.3f}", f"{found.worst:.3f}", *([f"{found.tokens:,}"] if counted else [])]
        cells = "".join(f"<td>{text}</td>" for text in (_asked(found), *numbers))
        body += f"<tr><th>round&nbsp;{found.number}</th>{cells}</tr>"
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _asked(found: Round) -> str:
    """Format the number of queried facts out of all facts, on one line of HTML."""
    if found.asked == 0:
        return "none"
    if found.asked == found.facts:
        return f"all&nbsp;{found.facts:,}"
    return f"{found.asked:,}&nbsp;of&nbsp;{found.facts:,}"


def _legend(loop: Loop) -> str:
    """Explain the columns."""
    text = (
        "Asked: facts that the teacher was asked about; questions: how often it was asked, repeats included. "
        "Written: inverted answers it gave; kept: those that cleaning left. Each round unlearns anew from the target "
        f"model. The last columns are of the true answers after the round ({loop.measure}: how strongly the model "
        "holds them, 0 to 1)."
    )
    if _compared(loop):
        text += (
            " Asking for all facts is counted, not run: round 1 as it was, then one question per fact, without "
            "further repeats, in each round that asked."
        )
    if any(found.same for found in loop.rounds):
        text += " As before: nothing new came, nothing was trained, the model of the round before stands."
    return text


def _draw(figure: Figure, loop: Loop) -> None:
    """Draw the still memorized facts on the left, the queries on the right."""
    from matplotlib.ticker import MaxNLocator

    still_memorized, asked = figure.subplots(1, 2)
    _draw_memorized(still_memorized, loop)
    _draw_asked(asked, loop)
    asked.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    for axes in (still_memorized, asked):
        axes.set(xlim=(0.7, len(loop.rounds) + 0.3), xlabel="round")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.6, columnspacing=1.4
        )


def _draw_memorized(axes: Axes, loop: Loop) -> None:
    curves = {
        "curve0": ("share of facts above", [found.still_memorized / found.facts for found in loop.rounds]),
        "curve3": (f"highest {loop.measure}", [found.worst for found in loop.rounds]),
        "curve1": (f"mean {loop.measure}", [found.memo for found in loop.rounds]),
    }
    axes.axhline(loop.memorized_above, color=COLOURS["soft"], linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    for colour, (label, values) in curves.items():
        _curve(axes, loop, values, colour=colour, label=label)
    axes.annotate(
        _score(loop.memorized_above),
        (1, loop.memorized_above),
        (3, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=COLOURS["soft"],
        annotation_clip=False,
    )
    axes.set(ylim=(-0.03, 1.03), ylabel="after the round")


def _draw_asked(axes: Axes, loop: Loop) -> None:
    calls, everything = _sums(loop)
    curves = {"curve2": ("asked", calls), "retain": ("asking for all facts each round", everything)}
    if calls == everything:
        del curves["retain"]
    top = 1.08 * max(*calls, *everything, 1)
    for colour, (label, values) in curves.items():
        _curve(axes, loop, values, colour=colour, label=label)
    heights = spread_labels([float(values[-1]) for _, values in curves.values()], gap=0.07 * top)
    for (colour, (_, values)), height in zip(curves.items(), heights, strict=True):
        at = (len(loop.rounds), height)
        axes.annotate(
            f"{values[-1]:,}",
            at,
            (7, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS[colour],
            annotation_clip=False,
        )
    axes.set(ylim=(0, top), ylabel="questions to the teacher")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _curve(axes: Axes, loop: Loop, values: Sequence[float], *, colour: str, label: str) -> None:
    """Draw one value per round, ringed if the previous round's model was reused."""
    dashes = "--" if colour == "retain" else "-"
    places = range(1, len(values) + 1)
    axes.plot(places, values, dashes, color=COLOURS[colour], linewidth=1.3, marker="o", markersize=4, label=label)
    ringed = [place for place, found in zip(places, loop.rounds, strict=True) if found.same]
    axes.scatter(
        ringed,
        [values[place - 1] for place in ringed],
        s=60,
        facecolors="none",
        edgecolors=COLOURS[colour],
        linewidths=0.8,
    )


def _sums(loop: Loop) -> tuple[list[int], list[int]]:
    """Accumulate queries up to each round: actual ones, and had every querying round asked about all facts."""
    calls = [found.calls for found in loop.rounds]
    all_of = (found.facts + max(0, found.calls - found.asked) if found.asked else 0 for found in loop.rounds[1:])
    everything = [*calls[:1], *all_of]
    return list(accumulate(calls)), list(accumulate(everything))


def _compared(loop: Loop) -> bool:
    """Whether asking for all facts would have taken a different number of queries."""
    calls, everything = _sums(loop)
    return calls != everything


def _score(value: float) -> str:
    """Format a threshold with two digits, or more if it has more."""
    short = f"{value:.2f}"
    return short if float(short) == value else f"{value:g}"


def _many(count: int, thing: str) -> str:
    """Format a count with its noun."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
