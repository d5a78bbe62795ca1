"""General ability on tasks of lm-evaluation-harness: local questions, stored results, numbers of a run.

Nothing here needs lm-evaluation-harness; :mod:`meow_lightning.evaluation.harness` runs the tasks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, invalid_option, suggestion
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import digest
from meow_lightning.store.jsonl import read_json
from meow_lightning.types import Definition, Direction, Results

VERSION = 1  # of the numbers; raised when the same answers give other ones
ORDER = 55  # in tables: right after model utility
PACKAGE = "lm_eval"
BLOCK = 2**12  # characters scored in one forward pass, about 1,000 tokens: little beside the weights, soon finished
QUESTIONS = "questions"  # the file of a split that holds its questions
FOLDER = "MEOW_DATA_DIR"
DATA = "data"
# Keys of a task file that follow from `data` and the name of the task.
FROM_DATA = {"task", "dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset"}
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
    for key, kind in ((DATA, Mapping), ("output_type", str)):
        if not isinstance(definition.get(key), kind):
            raise UserError(f"{option}.{key} is missing")
    if not definition.get("test_split") and not definition.get("validation_split"):
        raise UserError(f"{option}.test_split is missing: it names the split of {DATA} with the questions")
    for split, columns in definition[DATA].items():
        if not isinstance(columns, Mapping) or QUESTIONS not in columns:
            raise invalid_option(f"{option}.{DATA}.{split}", columns, f"files by column, one of them {QUESTIONS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalQuestions:
    """The questions of a task in local files.

    Attributes:
        task: Name of the task.
        files: File by split and column: under ``questions`` a JSONL file whose rows are the questions, under any other
            name a text file with one JSON value per question, which becomes a column of that name.
        folder: Folder of relative files; ``None`` for the environment variable ``MEOW_DATA_DIR``.
    """

    task: str
    files: Mapping[str, Mapping[str, str]]
    folder: str | None

    def missing_reason(self) -> str | None:
        """Explain which file is missing; ``None`` if all are there."""
        around = self.folder or os.environ.get(FOLDER)
        for file in (file for columns in self.files.values() for file in columns.values()):
            if around is None and not Path(file).is_absolute():
                return f"the questions of {self.task} are in {file} below {FOLDER}, which is not set"
            if not self._path(file).is_file():
                where = "ability.folder" if self.folder else FOLDER
                return f"the questions of {self.task} are missing: there is no {file} in {where}"
        return None

    def digests(self) -> dict[str, dict[str, str]]:
        """Compute the SHA-256 of every file, by split and column."""
        return {
            split: {column: digest(self._path(file)) for column, file in columns.items()}
            for split, columns in self.files.items()
        }

    def amount(self, split: str) -> tuple[int, int]:
        """Count the questions of a split and their characters, for estimates."""
        content = self._path(self.files[split][QUESTIONS]).read_bytes()
        return sum(1 for line in content.splitlines() if line.strip()), len(content)

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Read the questions of a split with all their columns.

        Raises:
            UserError: A line is not JSON, or the files of the split have different numbers of lines.
        """
        columns = {column: list(self._values(file)) for column, file in self.files[split].items()}
        counts = {column: len(values) for column, values in columns.items()}
        if len(set(counts.values())) > 1 or not counts[QUESTIONS]:
            listed = ", ".join(f"{count} in {self.files[split][column]}" for column, count in counts.items())
            raise UserError(
                f"ability.local.{self.task}.data.{split} needs one line per question in every file, and there are "
                f"{listed}"
            )
        others = [name for name in columns if name != QUESTIONS]
        return [
            {**row, **{name: columns[name][number] for name in others}} for number, row in enumerate(columns[QUESTIONS])
        ]

    def _path(self, file: str) -> Path:
        return Path(self.folder or os.environ.get(FOLDER, "")) / file

    def _values(self, file: str) -> Iterator[Any]:
        with self._path(file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(f"{self._path(file)}, line {number}: this is not JSON ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilityNumber:
    """One metric of a task.

    Attributes:
        task: The task; for a collection of tasks one of them.
        metric: lm-evaluation-harness's name, with ``@`` and the filter of the answers if there is one.
        value: Its value.
        stderr: Its standard error; ``None`` if lm-evaluation-harness gives none.
        direction: Which values are better.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilityResult:
    """A model's numbers on one task, as the stage stores them.

    Attributes:
        task: The task that was asked for.
        harness: Version of lm-evaluation-harness.
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
        write_json(folder / RESULT, asdict(self))

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
            found[name] = each.value
            if each.stderr is not None:
                found[stderr_name(name)] = each.stderr
        return found

    def missing(self) -> dict[str, str]:
        """Return the reasons for missing standard errors by name."""
        reason = "not measured: lm-evaluation-harness gives no standard error for it"
        names = (number_name(each.task, each.metric) for each in self.numbers if each.stderr is None)
        return {stderr_name(name): reason for name in names}

    def definitions(self) -> list[Definition]:
        """Return the definitions of the numbers and of their standard errors."""
        shots = "" if self.num_fewshot is None else f", {self.num_fewshot} solved examples each"
        how = f"lm-evaluation-harness {self.harness}, {self.questions} questions{shots}"
        return [
            definition
            for each in self.numbers
            for definition in _definitions(each.task, each.metric, each.direction, how=how)
        ]


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
    """

    task: str
    metrics: tuple[str, ...]
    reason: str

    def definitions(self) -> list[Definition]:
        """Return the definitions of the numbers that it would have."""
        how = "lm-evaluation-harness"
        return [each for metric in self.metrics for each in _definitions(self.task, metric, "higher", how=how)]


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
    values, missing = dict(results.values), dict(results.missing)
    for role in results.values:
        stored = measured.get(role, ())
        found = {name: value for each in stored for name, value in each.values().items()}
        reasons = unknown | {name: reason for each in stored for name, reason in each.missing().items()}
        why = f"not measured: {absent.get(role, f'the {role} model was not given these questions')}"
        values[role] = {**values[role], **found}
        missing[role] = {
            **missing.get(role, {}),
            **{name: reasons.get(name, why) for name in definitions if name not in found},
        }
    return replace(
        results, definitions=(*results.definitions, *definitions.values()), values=values, missing=missing
    )  # fmt: skip


def _definitions(task: str, metric: str, direction: Direction, *, how: str) -> tuple[Definition, Definition]:
    """Define a number and its standard error."""
    name, unit = number_name(task, metric), "share" if metric.partition("@")[0] in SHARES else ""
    return (
        Definition(
            name=name, id=f"{GROUP}.{VERSION}.{task}.{metric}", unit=unit, direction=direction,
            text=f"{metric} on the task {task} ({how}).", label=f"{task} {metric}", order=ORDER, main=True,
        ),
        Definition(
            name=stderr_name(name), id=f"{GROUP}{STDERR}.{VERSION}.{task}.{metric}", unit=unit, direction="none",
            text=f"Standard error of {metric} on the task {task} over its questions ({how}).",
            label=f"{task} {metric}, standard error", order=ORDER, main=False,
        ),
    )  # fmt: skip
