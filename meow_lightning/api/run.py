"""A run of the cached pipeline as a function: the words of the command line in, results and folders out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meow_lightning.config.composition import compose_options, words_of
from meow_lightning.config.schema import RunConfig
from meow_lightning.errors import UserError
from meow_lightning.experiment import Program, prepare
from meow_lightning.store.store import Store
from meow_lightning.types import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run of the pipeline.

    Attributes:
        name: Readable name of the run.
        results: The metrics by role; ``None`` if the run's goal precedes ``evaluate``.
        artifacts: Folders of the run's stage results in the store, by stage and role, such as ``unlearn unlearned``.
        model: Folder of the unlearned model, for :meth:`LanguageModel.from_pretrained`; ``None`` if the run's goal
            precedes ``unlearn``.
        report: Folder of the report with ``report.html``; ``None`` if the run's goal precedes ``report``.
        options: All options.
    """

    name: str
    results: Results | None
    artifacts: Mapping[str, Path]
    model: Path | None
    report: Path | None
    options: RunConfig


def run(overrides: Sequence[str] = (), *, outputs: str | Path = "outputs") -> Run:
    """Run the pipeline with its cache, as ``meow-lightning`` does on the command line; progress goes to the terminal.

    Args:
        overrides: Words of the command line, such as ``method=npo`` and ``seed=1``; ``debug=fast`` for a trial.
        outputs: Folder of everything that is written; stage results in its ``store`` are used again.

    Raises:
        UserError: An option is invalid, or the words show a plan or start a sweep instead of running.
        StageError: A stage failed.
    """
    for word in overrides:
        if word.startswith(("-", "sweep=")):
            raise UserError(f"{word} starts more than one run or only shows something; use the command line for it")
    options = compose_options([*overrides, *words_of("", {"outputs": Path(outputs).expanduser()})])
    for name in ("plan", "status"):
        if getattr(options, name):
            raise UserError(f"{name}=true only shows the run; use the command line for it")
    program = Program()
    try:
        results = program.run(options)
    finally:
        program.close()
    graph, wanted = prepare(options)
    store = Store(root=Path(options.store), cache=options.cache)
    computed = {each.key for each in wanted if store.find(each) is not None}
    return Run(
        name=graph.name, results=results, options=options,
        artifacts={f"{each.stage} {each.label}".strip(): store.path(each) for each in wanted if each.key in computed},
        model=store.path(graph.models.unlearned) / "model" if graph.models.unlearned.key in computed else None,
        report=Path(options.outputs) / "reports" / graph.tag if graph.report.key in computed else None,
    )  # fmt: skip
