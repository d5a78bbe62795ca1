"""Report section on the rounds of a method that re-queries its teacher for facts that are still memorized."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from markupsafe import Markup

from meow_lightning.report.data import Loop, Round
from meow_lightning.report.svg import COLOURS, Picture, render, spread_labels
from meow_lightning.report.templating import render_template

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (10.0, 3.1)  # inches; full page width
NBSP = "\N{NO-BREAK SPACE}"


def sentence(loop: Loop) -> str:
    """Summarize rounds, requests and still memorized facts after each round in one line."""
    calls, for_all = (sums[-1] for sums in cumulative_requests(loop))
    comparison = ""
    if for_all != calls:
        times = f", {for_all / calls:.1f} times as many" if for_all >= 1.05 * calls > 0 else ""
        comparison = f" (querying all facts each round: {for_all:,}{times})"
    idle = sum(one.same for one in loop.rounds)
    without = f" ({idle} without anything new)" if idle else ""
    still_memorized = ", ".join(f"{one.still_memorized:,}" for one in loop.rounds)
    fewest = min(loop.rounds, key=lambda one: one.still_memorized)
    better = ""
    if fewest.still_memorized < loop.rounds[-1].still_memorized:
        better = f" (fewest after round {fewest.number}: method.rounds.count={fewest.number} gives that model)"
    return (
        f"{_many(len(loop.rounds), 'round')}{without}, {_many(calls, 'request')} to the teacher{comparison}; "
        f"facts above {_score(loop.memorized_above)} ({loop.measure}): {still_memorized}{better}"
    )


def section(loop: Loop | None, drawn: Picture) -> Markup:
    """Render the section as HTML, numbers only; empty without rounds.

    Args:
        loop: The rounds.
        drawn: Their :func:`picture`.
    """
    if loop is None:
        return Markup("")
    return render_template(
        "rounds.html",
        ending=_ending(loop),
        sentence=sentence(loop),
        table=_table(loop),
        legend=_legend(loop),
        picture=drawn,
    )


def picture(loop: Loop | None) -> Picture:
    """Draw the still memorized facts and the requests of each round; without rounds, give the reason."""
    title = "Still memorized facts, and requests to the teacher"
    if loop is None:
        missing = "this method has no rounds"
        return render("rounds", title, "", missing=missing, size=SIZE, draw=lambda figure: None)
    caption = (
        f"Left: after each round, the share of facts whose true answer's {loop.measure} is above "
        f"{_score(loop.memorized_above)} (dashed), and highest and mean {loop.measure} of the true answers. Right: "
        "requests to the teacher up to each round"
    )
    caption += ", and those that querying all facts in each round would have taken." if _compared(loop) else "."
    if any(one.same for one in loop.rounds):
        caption += " Ringed: the teacher returned nothing new, so the previous round's model is kept."
    return render("rounds", title, caption, missing="", size=SIZE, draw=lambda figure: _draw(figure, loop))


def _ending(loop: Loop) -> str:
    """Explain in one sentence why the rounds ended."""
    last, memorized_above = loop.rounds[-1], _score(loop.memorized_above)
    left = f"{last.still_memorized:,} of {_many(last.facts, 'fact')}"
    above = f"{left} {'is' if last.still_memorized == 1 else 'are'} still above {memorized_above}"
    after = f"Ended after round {last.number}"
    return {
        "below": f"{after}: no true answer's {loop.measure} is above {memorized_above} any more.",
        "budget": f"{after}: no requests to the teacher were left, and {above}.",
        "rounds": f"{after}, the last one allowed: {above}.",
        "silent": f"{after}: the teacher returned nothing new, and {above}.",
    }[loop.ended]


def _table(loop: Loop) -> list[list[str]]:
    """Build a header and one row per round; with tokens only if they were counted."""
    counted = any(one.tokens for one in loop.rounds)
    head = ["round", "queried", "requests", "generated", "kept", "rows trained"]
    head += [f"above {_score(loop.memorized_above)}", f"mean {loop.measure}", f"highest {loop.measure}"]
    table = [[*head, *(["tokens"] if counted else [])]]
    for one in loop.rounds:
        row = [f"round{NBSP}{one.number}", _queried(one), f"{one.calls:,}", f"{one.written:,}", f"{one.kept:,}"]
        row += [f"as{NBSP}before" if one.same else f"{one.trained:,}", f"{one.still_memorized:,}"]
        row += [f"{one.memo:.3f}", f"{one.worst:.3f}", *([f"{one.tokens:,}"] if counted else [])]
        table.append(row)
    return table


def _queried(one: Round) -> str:
    """Format the number of queried facts out of all facts, without line breaks."""
    if one.queried == 0:
        return "none"
    if one.queried == one.facts:
        return f"all{NBSP}{one.facts:,}"
    return f"{one.queried:,}{NBSP}of{NBSP}{one.facts:,}"


def _legend(loop: Loop) -> str:
    """Explain the columns."""
    text = (
        "Queried: facts for which the teacher was queried; requests: calls to it, repeats included. Generated: "
        "inverted answers it returned; kept: those that passed filtering. Each round unlearns anew from the target "
        f"model. The last columns are of the true answers after the round ({loop.measure}: how strongly the model "
        "memorizes them, 0 to 1)."
    )
    if _compared(loop):
        text += (
            " Querying all facts is calculated, not run: round 1 as it was, then one request per fact, without "
            "further repeats, in each round that sent requests."
        )
    if any(one.same for one in loop.rounds):
        text += " As before: nothing new was returned or trained on, so the previous round's model is kept."
    return text


def _draw(figure: Figure, loop: Loop) -> None:
    """Draw the still memorized facts on the left, the requests on the right."""
    from matplotlib.ticker import MaxNLocator

    still_memorized, requests = figure.subplots(1, 2)
    _draw_memorized(still_memorized, loop)
    _draw_requests(requests, loop)
    requests.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    for axes in (still_memorized, requests):
        axes.set(xlim=(0.7, len(loop.rounds) + 0.3), xlabel="round")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handlelength=1.6, columnspacing=1.4
        )


def _draw_memorized(axes: Axes, loop: Loop) -> None:
    curves = {
        "curve0": ("share of facts above", [one.still_memorized / one.facts for one in loop.rounds]),
        "curve3": (f"highest {loop.measure}", [one.worst for one in loop.rounds]),
        "curve1": (f"mean {loop.measure}", [one.memo for one in loop.rounds]),
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


def _draw_requests(axes: Axes, loop: Loop) -> None:
    calls, for_all = cumulative_requests(loop)
    curves = {"curve2": ("sent", calls), "retain": ("querying all facts each round", for_all)}
    if calls == for_all:
        del curves["retain"]
    top = 1.08 * max(*calls, *for_all, 1)
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
    axes.set(ylim=(0, top), ylabel="requests to the teacher")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _curve(axes: Axes, loop: Loop, values: Sequence[float], *, colour: str, label: str) -> None:
    """Draw one value per round, ringed if the previous round's model was reused."""
    dashes = "--" if colour == "retain" else "-"
    places = range(1, len(values) + 1)
    axes.plot(places, values, dashes, color=COLOURS[colour], linewidth=1.3, marker="o", markersize=4, label=label)
    ringed = [place for place, one in zip(places, loop.rounds, strict=True) if one.same]
    axes.scatter(
        ringed,
        [values[place - 1] for place in ringed],
        s=60,
        facecolors="none",
        edgecolors=COLOURS[colour],
        linewidths=0.8,
    )


def cumulative_requests(loop: Loop) -> tuple[list[int], list[int]]:
    """Accumulate the requests up to each round: those sent, and those that querying all facts would have taken.

    Querying all facts in every round takes round 1's own requests, since it queries all facts anyway, and, for each
    later round that queried any fact, one request per fact to forget plus the repeats that its queried facts needed,
    whether or not anything new was returned. This is a calculation, not a run: such a loop might have ended earlier or
    later.
    """
    calls = [one.calls for one in loop.rounds]
    all_facts = (one.facts + max(0, one.calls - one.queried) if one.queried else 0 for one in loop.rounds[1:])
    for_all = [*calls[:1], *all_facts]
    return list(accumulate(calls)), list(accumulate(for_all))


def _compared(loop: Loop) -> bool:
    """Whether querying all facts would have taken a different number of requests."""
    calls, for_all = cumulative_requests(loop)
    return calls != for_all


def _score(value: float) -> str:
    """Format a threshold with two digits, or more if it has more."""
    short = f"{value:.2f}"
    return short if float(short) == value else f"{value:g}"


def _many(count: int, thing: str) -> str:
    """Format a count with its noun."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
