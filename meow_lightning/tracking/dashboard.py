"""The W&B dashboard as data: sections of panels over what runs log, with no library and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CURVE = "unlearn_unlearned"  # the curve of unlearning
METHOD = "method.name"  # the option that colours and groups runs
Kind = Literal["scatter", "line", "bar", "parallel", "media"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        kind: Its form; ``parallel`` has an axis per option and number, ``media`` shows pages and pictures.
        title: Its title.
        x: Number on the x-axis of a scatter plot, or the step of curves; empty for other kinds.
        numbers: Numbers, curves or media that it shows; of a scatter plot the one on the y-axis.
        options: Options that it shows, by dotted path; of line and bar plots those that group runs.
    """

    kind: Kind
    title: str
    x: str = ""
    numbers: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def logged(self) -> tuple[str, ...]:
        """Everything that a run must log for this panel, besides its options."""
        return (*((self.x,) if self.x else ()), *self.numbers)


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under one heading, with a sentence on what they show."""

    title: str
    text: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A dashboard.

    Attributes:
        name: Its name.
        group: W&B group of the shown runs; empty for all runs of the project.
        groupby: The option by which runs are grouped and coloured.
        sections: Its panels.
    """

    name: str
    group: str
    groupby: str
    sections: tuple[Section, ...]


def dashboard(*, group: str, attacks: Sequence[str], profiles: Sequence[str]) -> Dashboard:
    """Specify the dashboard of unlearning runs.

    Args:
        group: W&B group of the shown runs; empty for all runs of the project.
        attacks: Names of attacks after which models answer the questions.
        profiles: Names of the ways to measure memorization (``memo=``).
    """
    name = f"Unlearning: {group}" if group else "Unlearning"
    sections = (_plane(), _curves(profiles), _memorization(), _attacks(attacks), _cost(), _sweep(), _pages())
    return Dashboard(name=name, group=group, groupby=METHOD, sections=sections)


def _bars(title: str, *numbers: str) -> Panel:
    return Panel(kind="bar", title=title, numbers=numbers, options=(METHOD,))


def _lines(title: str, *names: str) -> Panel:
    numbers = tuple(f"{CURVE}/{name}" for name in names)
    return Panel(kind="line", title=title, x=f"{CURVE}/step", numbers=numbers, options=(METHOD,))


def _plane() -> Section:
    return Section(
        "Forgotten and kept",
        "Top right is best in the first panel, bottom right in the second.",
        (
            Panel(
                kind="scatter", title="TOFU plane: utility against forget quality", x="model_utility",
                numbers=("forget_quality/log10_p",),
            ),
            Panel(
                kind="scatter", title="Values: retained against still said", x="retain/value_accuracy",
                numbers=("forget/value_accuracy",),
            ),
            _bars("Forget quality (log10 p)", "forget_quality/log10_p"),
            _bars("Model utility", "model_utility", "target_model/model_utility", "retain_model/model_utility"),
        ),
    )  # fmt: skip


def _curves(profiles: Sequence[str]) -> Section:
    return Section(
        "Unlearning, step by step",
        "Curves of the evaluation need callbacks.evaluate_every_epochs or optim.checkpoint=best.",
        (
            _lines("Loss", "loss"),
            _lines("MEMO of the true answers", *(f"memo/{profile}/true_answers" for profile in profiles)),
            _lines("Model utility", "eval/model_utility"),
            _lines("Values still said", "eval/forget/value_accuracy"),
            _lines("Learning rate", "lr"),
            _lines("Tokens per second", "tokens_per_second"),
            _lines("Memory (MiB)", "memory_mib"),
        ),
    )


def _memorization() -> Section:
    return Section(
        "Memorization before and after",
        "MEMO of the true answers, 0 to 1; the retain model never saw them.",
        (_bars("MEMO", "target_model/memo/answers", "memo/answers", "retain_model/memo/answers"),),
    )


def _attacks(attacks: Sequence[str]) -> Section:
    def after(number: str) -> tuple[str, ...]:
        return tuple(f"attack/{attack}/{number}" for attack in attacks)

    return Section(
        "Under attack",
        "What the unlearned and the retain model say after each attack (attacks=).",
        (
            _bars("Values said by the unlearned model", "forget/value_accuracy", *after("value_accuracy")),
            _bars(
                "Values said by the retain model", "retain_model/forget/value_accuracy",
                *after("retain_model/value_accuracy"),
            ),
            _bars("ROUGE-L recall of the unlearned model", "forget/rouge_l_recall", *after("rouge_l_recall")),
            _bars("Model utility", "model_utility", *after("model_utility")),
        ),
    )  # fmt: skip


def _cost() -> Section:
    titles = {
        "unlearning_seconds": "Unlearning (s)",
        "unlearning_peak_memory_mib": "Peak memory of unlearning (MiB)",
        "unlearning_flops": "Operations of unlearning (FLOP)",
        "all_stages_seconds": "All stages, also shared ones (s)",
    }
    panels = tuple(_bars(title, f"cost/{name}") for name, title in titles.items())
    return Section("Cost", "As measured when each result was computed.", panels)


def _sweep() -> Section:
    axes = Panel(
        kind="parallel", title="Options and numbers", options=(METHOD, "seed", "optim.lr", "optim.epochs"),
        numbers=(
            "model_utility", "forget_quality/log10_p", "forget/value_accuracy", "retain/value_accuracy",
            "memo/answers", "cost/unlearning_seconds",
        ),
    )  # fmt: skip
    return Section("Sweep", "One line per run.", (axes,))


def _pages() -> Section:
    media = tuple(
        Panel(kind="media", title=title, numbers=(name,))
        for title, name in (("Report", "report"), ("TOFU plane", "figures/plane"), ("MEMO", "figures/memo"))
    )
    return Section("Pages and pictures", "The report of each run.", media)
