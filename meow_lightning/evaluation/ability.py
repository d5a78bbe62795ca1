"""General ability on tasks of lm-evaluation-harness: definitions of tasks, stored results, numbers of a run.

Nothing here needs lm-evaluation-harness; :mod:`meow_lightning.evaluation.harness` runs the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, invalid_option, suggestion
from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.local_questions import QUESTIONS
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json
from meow_lightning.types import Definition, Direction, Results

VERSION = 1  # of the numbers; raised when the same answers give other ones
ORDER = 55  # in tables: right after model utility
PACKAGE = "lm_eval"
BLOCK = 2**12  # characters scored in one forward pass, about 1,000 tokens: little beside the weights, soon finished
DATA = "data"
# Keys of a task file that follow from `data` and the name of the task.
FROM_DATA = {"task", "dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset"}
_OPTIONAL = ("text", "unit", "reason")  # fields of a number that lm-evaluation-harness does not set
RESULT = "ability.json"
GROUP = "ability"
STDERR = "_stderr"
SHARES = (
    "acc",
    "acc_norm",
    "acc_bytes",
    "acc_mutual_info",
    "exact_match",
    "f1",
    "mcc",
)  # metrics from 0 (mcc: -1) to 1


def harness_version() -> str:
    """Return the version of lm-evaluation-harness.

    Raises:
        UserError: It is not installed.
    """
    try:
        return version(PACKAGE)
    except PackageNotFoundError as error:
        raise UserError(
            "ability.tasks needs lm-evaluation-harness: pip install 'meow-lightning[ability]', or set ability=none"
        ) from error


def check_definition(task: str, definition: Any) -> None:
    """Check the definition of a task with local questions, short of what only lm-evaluation-harness can check.

    Args:
        task: Its name.
        definition: The harness's keys, and ``data``: file by split and column.

    Raises:
        UserError: A key is missing or unknown, or ``data`` has another form.
    """
    from lm_eval.config.task import TaskConfig

    option, allowed = f"ability.local.{task}", {each.name for each in fields(TaskConfig)} - FROM_DATA
    if not isinstance(definition, Mapping):
        raise invalid_option(option, definition, f"a mapping of {DATA} and keys of lm-evaluation-harness's task files")
    for key in definition:
        if key != DATA and key not in allowed:
            raise UserError(f"{option}.{key} is not an option{suggestion(key, {DATA, *allowed})}")
    if not isinstance(definition.get("output_type"), str):
        raise UserError(f"{option}.output_type is missing")
    check_data(option, definition)
    if not definition.get("test_split") and not definition.get("validation_split"):
        raise UserError(f"{option}.test_split is missing: it names the split of {DATA} with the questions")


def check_data(option: str, definition: Mapping[str, Any]) -> None:
    """Check the files of a task.

    Args:
        option: Dotted name of its definition.
        definition: The definition, with ``data``: file by split and column.

    Raises:
        UserError: ``data`` is missing or has another form.
    """
    if not isinstance(definition.get(DATA), Mapping):
        raise UserError(f"{option}.{DATA} is missing")
    for split, columns in definition[DATA].items():
        if not isinstance(columns, Mapping) or QUESTIONS not in columns:
            raise invalid_option(f"{option}.{DATA}.{split}", columns, f"files by column, one of them {QUESTIONS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilityNumber:
    """One metric of a task.

    Attributes:
        task: The task; for a collection of tasks one of them.
        metric: Its name; of lm-evaluation-harness with ``@`` and the filter of the answers if there is one.
        value: Its value; ``None`` if it is missing.
        stderr: Its standard error; ``None`` if it has none.
        direction: Which values are better.
        text: Its definition in words; empty for a metric of lm-evaluation-harness.
        unit: Its unit; ``None`` to derive it from its name.
        reason: Why the value or its standard error is missing; empty where lm-evaluation-harness gives none.
    """

    task: str
    metric: str
    value: float | None
    stderr: float | None
    direction: Direction
    text: str = ""
    unit: str | None = None
    reason: str = ""

    def stored(self) -> dict[str, Any]:
        """Return the fields to store; those that only some tasks set are left out where they are not set."""
        return {name: value for name, value in asdict(self).items() if name not in _OPTIONAL or value}


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilityResult:
    """A model's numbers on one task, as the stage stores them.

    Attributes:
        task: The task that was asked for.
        harness: Version of lm-evaluation-harness; empty for a task of our own.
        questions: Number of questions.
        num_fewshot: Solved examples before each question; ``None`` if it differs between the parts of the task.
        numbers: The numbers.
    """

    task: str
    harness: str
    questions: int
    num_fewshot: int | None
    numbers: tuple[AbilityNumber, ...]

    def write(self, folder: Path) -> None:
        """Write the result into a stage's folder."""
        write_json(folder / RESULT, {**asdict(self), "numbers": [each.stored() for each in self.numbers]})

    @classmethod
    def read(cls, folder: Path) -> AbilityResult:
        """Read the result that :meth:`write` wrote."""
        stored = read_json(folder / RESULT)
        return cls(**{**stored, "numbers": tuple(AbilityNumber(**each) for each in stored["numbers"])})

    def values(self) -> dict[str, float]:
        """Return the numbers and their standard errors by name."""
        found: dict[str, float] = {}
        for each in self.numbers:
            name = number_name(each.task, each.metric)
            if each.value is not None:
                found[name] = each.value
            if each.stderr is not None:
                found[stderr_name(name)] = each.stderr
        return found

    def missing(self) -> dict[str, str]:
        """Return the reasons for missing values and standard errors by name."""
        found: dict[str, str] = {}
        for each in self.numbers:
            name = number_name(each.task, each.metric)
            reason = f"not measured: {each.reason or 'lm-evaluation-harness gives no standard error for it'}"
            found |= {name: reason} if each.value is None else {}
            found |= {stderr_name(name): reason} if each.stderr is None else {}
        return found

    def definitions(self) -> list[Definition]:
        """Return the definitions of the numbers and of their standard errors."""
        shots = "" if self.num_fewshot is None else f", {self.num_fewshot} solved examples each"
        how = f"lm-evaluation-harness {self.harness}, {self.questions} questions{shots}"
        return [definition for each in self.numbers for definition in _definitions(each, how=how)]


def number_name(task: str, metric: str) -> str:
    """Return the name of a number in the results of a run, such as ``ability/piqa/acc``."""
    return f"{GROUP}/{task}/{metric}"


def stderr_name(name: str) -> str:
    """Return the name of a number's standard error."""
    return name + STDERR


def is_ability(name: str) -> bool:
    """Whether a number of a run comes from an ability task."""
    return name.startswith(f"{GROUP}/")


def is_stderr(name: str) -> bool:
    """Whether a number is the standard error of another."""
    return name.endswith(STDERR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """A task that cannot run, because its questions are missing.

    Attributes:
        task: Its name.
        metrics: The metrics that its definition names.
        reason: What is missing.
        lower: Those of them of which lower values are better, where that is known.
        own: Whether it is a task of this project, none of lm-evaluation-harness.
    """

    task: str
    metrics: tuple[str, ...]
    reason: str
    lower: tuple[str, ...] = ()
    own: bool = False

    def stored(self) -> dict[str, Any]:
        """Return the fields to store; ``lower`` and ``own`` are left out where they are not set."""
        return {name: value for name, value in asdict(self).items() if name not in ("lower", "own") or value}

    def definitions(self) -> list[Definition]:
        """Return the definitions of the numbers that it would have."""
        numbers = (
            AbilityNumber(
                task=self.task, metric=metric, value=None, stderr=None,
                direction="lower" if metric in self.lower else "higher",
            )
            for metric in self.metrics
        )  # fmt: skip
        how = "of this project" if self.own else "lm-evaluation-harness"
        return [each for number in numbers for each in _definitions(number, how=how)]


def with_ability(
    results: Results,
    measured: Mapping[str, Sequence[AbilityResult]],
    *,
    unmeasured: Sequence[Unmeasured],
    absent: Mapping[str, str],
) -> Results:
    """Add the numbers of ability tasks to the numbers of a run.

    Args:
        results: The other numbers; every role is in its ``values``.
        measured: The results of every task, by role.
        unmeasured: Tasks that cannot run.
        absent: Why a role has no model, by role.
    """
    tasks: list[AbilityResult | Unmeasured] = [*(each for stored in measured.values() for each in stored), *unmeasured]
    definitions = {known.name: known for task in tasks for known in task.definitions()}
    if not definitions:
        return results
    unknown = {known.name: f"not measured: {each.reason}" for each in unmeasured for known in each.definitions()}
    outcomes: dict[str, dict[str, float | str]] = {}
    for role in results.values:
        stored = measured.get(role, ())
        found = {name: value for each in stored for name, value in each.values().items()}
        reasons = unknown | {name: reason for each in stored for name, reason in each.missing().items()}
        why = f"not measured: {absent.get(role, f'the {role} model was not given these questions')}"
        outcomes[role] = {name: reasons.get(name, why) for name in definitions} | found
    return extended(results, definitions.values(), outcomes)


def _definitions(number: AbilityNumber, *, how: str) -> tuple[Definition, Definition]:
    """Define a number and its standard error."""
    task, metric, name = number.task, number.metric, number_name(number.task, number.metric)
    unit = number.unit if number.unit is not None else "share" if metric.partition("@")[0] in SHARES else ""
    error = f"Standard error of {metric} on the task {task} over its questions"
    return (
        Definition(
            name=name, id=f"{GROUP}.{VERSION}.{task}.{metric}", unit=unit, direction=number.direction,
            text=number.text or f"{metric} on the task {task} ({how}).", label=f"{task} {metric}", order=ORDER,
            main=True,
        ),
        Definition(
            name=stderr_name(name), id=f"{GROUP}{STDERR}.{VERSION}.{task}.{metric}", unit=unit, direction="none",
            text=f"{error}." if number.text else f"{error} ({how}).",
            label=f"{task} {metric}, standard error", order=ORDER, main=False,
        ),
    )  # fmt: skip
