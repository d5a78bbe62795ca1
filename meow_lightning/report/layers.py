"""Figure of layer-wise knowledge of the facts to forget, by model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.report.data import ROLE_NAMES, LayerCurves, ReportData
from meow_lightning.report.svg import COLOURS, DASHES, WIDTH, Picture, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layer_picture(data: ReportData) -> Picture:
    """Plot what every attack on hidden states read, layer by layer, one panel per attack."""
    panels = [each for each in data.layers if any(each.means.values())]
    caption = (
        "Means over the questions, by decoder layer from the input to the answer. An unlearned model that is near the "
        "target model below and near the retain model at the last layer was taught not to state the facts, and still "
        "holds them."
    )
    return render(
        "layers", "Inside the models", caption, missing="" if panels else "no layers were read",
        size=(2 * WIDTH if len(panels) > 1 else WIDTH, 2.9 * -(-len(panels) // 2) + 0.1),
        draw=lambda figure: _draw(figure, panels),
    )  # fmt: skip


def _draw(figure: Figure, panels: Sequence[LayerCurves]) -> None:
    from matplotlib.ticker import MaxNLocator

    columns = min(2, len(panels))
    for position, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(-(-len(panels) // columns), columns, position)
        for role, means in panel.means.items():
            axes.plot(
                range(1, len(means) + 1), means, color=COLOURS[role], linestyle=DASHES[role], label=ROLE_NAMES[role],
                marker="o" if len(means) < 40 else None, markersize=3,
            )  # fmt: skip
        axes.set_title(panel.label[:1].upper() + panel.label[1:], loc="left", fontsize=8.5, color=COLOURS["soft"])
        axes.set(xlabel="layer", ylabel=panel.unit)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
        axes.legend(loc="best", fontsize=7.5, handlelength=2.6)
