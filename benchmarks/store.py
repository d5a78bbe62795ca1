# ruff: noqa: T201
"""A sweep of made-up runs in several processes against one store: who makes what, and what that costs.

    python benchmarks/store.py
    python benchmarks/store.py --runs 200 --processes 1
    python benchmarks/store.py --runs 40 --processes 4 --kills 6 --folder SHARED

Runs go through the executor and the store as they are; only the stages are made up. Each writes a few small files, of
which one depends on all that it was made from, and notes outside the store that it has begun. A run has 5 results of
its own and 8 that it shares with others.

make dealt   process p takes every N-th run from the p-th on, as a launcher deals them out
make all     every process takes all runs in the same order, as where the same command was started N times
find         every process takes all runs once more, when all is there

`ms made` is what a process takes for one result besides the stage's own work and besides waiting for others: from the
lock to the finished name; `ms found` for one that is there. Both are times on the wall: with more processes than cores
a process also waits for a core. `CPU ms` is the processor's part of them. `digests`, `locks`, `waits` are shares of the
processes' time. A stage made twice, one that was finished and is made again, a result that is missing or not what it
should be: an error. A killed process (`--kills`) is started again and makes once more what it was at; what it had
counted is not in the table.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import sleep  # as it is, for this file will count what is slept
from types import ModuleType
from typing import Any, NamedTuple

from filelock import FileLock
from options import count

from meow_lightning.config.runtime import Runtime
from meow_lightning.pipeline.executor import Executor
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.store import integrity
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST, digest
from meow_lightning.store.jsonl import read_json, read_lines
from meow_lightning.store.store import Store

MODELS = 2
WAYS = ("make dealt", "make all", "find")
COLUMNS = (
    "way", "processes", "runs", "s", "made", "found", "made/s", "ms made", "ms found", "CPU ms", "digests", "locks",
    "waits", "twice", "killed",
)  # fmt: skip
STAGES = ("finetune", "filter", "unlearn", "predict", "score", "evaluate", "report")
RUNTIME = Runtime(
    **{each.name: 1 for each in fields(Runtime)} | {"accelerator": "cpu", "strategy": "auto"}  # type: ignore[arg-type]
)


class Task(NamedTuple):
    """What all processes work on.

    Attributes:
        root: Folder of the store; ``notes`` is that of the stages' notes.
        runs: How many.
        groups: So many sets of shared results.
        processes: So many at once.
        files: That a stage writes besides the one that counts.
        work: Seconds that a stage takes.
    """

    root: Path
    notes: Path
    runs: int
    groups: int
    processes: int
    files: int
    work: float


class Note(NamedTuple):
    """A stage has begun."""

    process: int
    key: str
    time: float


class Kill(NamedTuple):
    """Which process was killed, which results had a name by then, and a time after that."""

    process: int
    finished: frozenset[str]
    time: float


class Phase(NamedTuple):
    """What came of one way."""

    seconds: float
    clocks: Counter[str]
    kills: list[Kill]


def made_up(stage: str, label: str, settings: Mapping[str, Any], **needs: Artifact) -> Artifact:
    """An artifact with settings about as long as those of a real one."""
    rows = {f"rows {number}": hashlib.sha256(str(number).encode()).hexdigest() for number in range(8)}
    return Artifact(stage=stage, label=label, version=1, settings={**rows, **settings}, needs=needs, inputs={})


def artifacts_of(number: int, groups: int) -> list[Artifact]:
    """The artifacts of one run, what is needed first: 8 that its group's other runs have too, and 5 of its own."""
    group, own = {"group": number % groups}, {"run": number}
    model = {"model": number % groups % MODELS}
    base = made_up("finetune", "base", model)
    target = made_up("finetune", "target", model, start=base)
    retain = made_up("finetune", "retain", group, start=base)
    inverted = made_up("filter", "", group)
    unlearned = made_up("unlearn", "unlearned", own, start=target, inverted=inverted)
    models = {"target": target, "retain": retain, "unlearned": unlearned}
    split = {"split": number % groups}
    asked = {
        f"{stage} {role}": made_up(stage, role, split, model=each)
        for role, each in models.items()
        for stage in ("predict", "score")
    }
    results = made_up("evaluate", "", own, **asked)
    return made_up("report", "", own, results=results, **models, **asked).walk()


def outcome(key: str, settings: Mapping[str, Any], needs: Sequence[str]) -> str:
    """What a made-up stage makes: a digest of its key, its settings and what it was made from."""
    return hashlib.sha256(json.dumps([key, dict(settings), *needs], sort_keys=True).encode()).hexdigest()


def now() -> tuple[float, ...]:
    """(seconds on the wall, processor seconds of this process)."""
    return time.perf_counter(), time.process_time()


class Clock:
    """Seconds by what they went into, and how often something happened."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.lock_asked = self.stage = now()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does the same and whose time is counted."""

        def do(*words: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*words, **named)
            finally:
                self.spent[name] += time.perf_counter() - start

        return do

    def running(self, artifacts: Mapping[str, Any]) -> None:
        """Nothing."""

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Nothing: what is slept is counted."""

    def notice(self, text: str) -> None:
        """Nothing."""

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, computed: bool) -> None:
        """Count a result; of a made one the time since its lock was asked for, but for the stage's own."""
        self.spent["made" if computed else "found"] += 1
        if computed:
            wall, busy = (each - a - b for each, a, b in zip(now(), self.lock_asked, self.stage, strict=True))
            self.spent["making"] += wall
            self.spent["making busy"] += busy


class Timed(Store):
    """A store that says how long locks take."""

    def __init__(self, *, root: Path, clock: Clock) -> None:
        super().__init__(root=root, cache="use")
        self._clock = clock

    def lock(self, artifact: Artifact) -> FileLock | None:
        """As in any store."""
        self._clock.lock_asked = now()
        return self._clock.timed("locks", super().lock)(artifact)


def stage_of(task: Task, clock: Clock, work: StageContext) -> None:
    """A made-up stage. What it makes must not have a name that the executor removes (its ``SCRATCH``)."""
    start, key = now(), work.folder.name.removesuffix(".partial")
    with (task.notes / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(Note(os.getpid(), key, time.time())._asdict()) + "\n")
    needs = [read_json(work.needs[name] / "made.json") for name in sorted(work.needs)]
    for number in range(task.files):
        (work.folder / f"part-{number}.txt").write_text(f"{key} {number}\n" * 100, encoding="utf-8")
    if task.work:
        sleep(task.work)
    (work.folder / "made.json").write_text(json.dumps(outcome(key, work.settings, needs)), encoding="utf-8")
    clock.stage = tuple(end - begin for end, begin in zip(now(), start, strict=True))


def stage_class(name: str, run: Callable[[StageContext], None]) -> type[Stage]:
    """A stage that computes with ``run``."""
    members = {"name": name, "version": 1, "after": (), "outputs": ("made.json",)}
    return type("Made", (Stage,), {**members, "run": lambda _, work: run(work)})


def walk(task: Task, numbers: Sequence[int], pipe: Connection) -> None:
    """Make some runs in this process and tell its clock."""
    clock = Clock()
    for name in STAGES:
        module: Any = ModuleType(f"meow_lightning.stages.{name}")
        module.Made = stage_class(name, partial(stage_of, task, clock))
        sys.modules[module.__name__] = module
    integrity.digest = clock.timed("digests", digest)
    time.sleep = clock.timed("waits", sleep)
    store = Timed(root=task.root, clock=clock)
    executor = Executor(store=store, runtime=RUNTIME, parallel_stages=1, threads=1, watchers=[clock])
    start = now()
    for number in numbers:
        executor.make(artifacts_of(number, task.groups))
    executor.close()
    clock.spent["seconds"], clock.spent["busy"] = (end - begin for end, begin in zip(now(), start, strict=True))
    pipe.send(dict(clock.spent))


def shares(task: Task, way: str) -> list[list[int]]:
    """The runs of each process."""
    every = list(range(task.runs))
    return [every[place :: task.processes] if way == "make dealt" else every for place in range(task.processes)]


def finished(task: Task) -> frozenset[str]:
    """The keys of the results that have their name."""
    return frozenset(path.parent.name for path in task.root.glob(f"*/*/{MANIFEST}") if not path.parent.suffix)


def run(task: Task, way: str, moments: Sequence[float]) -> Phase:
    """Let all processes walk their runs; after so many seconds each, one of them is killed and started again."""
    context, start = get_context("fork"), time.perf_counter()
    waiting, kills, clocks = sorted(moments), [], Counter[str]()
    ends: dict[BaseProcess, tuple[Connection, list[int]]] = {}

    def begin(numbers: list[int]) -> None:
        near, far = context.Pipe(duplex=False)
        process = context.Process(target=walk, args=(task, numbers, far), daemon=True)
        process.start()
        far.close()  # so that reading ends where the process does
        ends[process] = near, numbers

    for numbers in shares(task, way):
        begin(numbers)
    while ends:
        left = max(0.0, waiting[0] - (time.perf_counter() - start)) if waiting else None
        ready = wait([process.sentinel for process in ends], timeout=left)
        if not ready:
            waiting.pop(0)
            victim = random.choice(list(ends))
            victim.kill()
            victim.join()
            kills.append(Kill(victim.pid or 0, finished(task), time.time()))
            begin(ends.pop(victim)[1])
        for process in [each for each in ends if each.sentinel in ready]:
            process.join()
            near, _ = ends.pop(process)
            if not near.poll():
                raise RuntimeError(f"a process ended with status {process.exitcode} and says nothing")
            clocks.update(near.recv())
    return Phase(time.perf_counter() - start, clocks, kills)


def notes(task: Task) -> list[Note]:
    """What the stages have noted, of each process in order."""
    return [Note(**line) for path in task.notes.glob("*.jsonl") for line in read_lines(path)]


def wrong(task: Task, begun: Sequence[Note], kills: Sequence[Kill]) -> list[str]:
    """What is not as it should be: work done twice, results lost, missing or of other content."""
    times, killed = Counter(note.key for note in begun), {kill.process for kill in kills}
    last = {note.process: note.key for note in begun if note.process in killed}
    allowed = Counter(last.values())  # what a killed process was at is made once more
    said = [f"{key} was made {times[key]} times" for key in times if times[key] > 1 + allowed[key]]
    again = {note.key for kill in kills for note in begun if note.time > kill.time and note.key in kill.finished}
    said += [f"{key} was finished before a kill and made again after it" for key in sorted(again)]
    store = Store(root=task.root, cache="readonly")
    needs: dict[str, str] = {}
    every = {each.key: each for number in range(task.runs) for each in artifacts_of(number, task.groups)}
    for key, artifact in every.items():
        made_from = [needs[artifact.needs[name].key] for name in sorted(artifact.needs)]
        needs[key] = outcome(key, artifact.settings, made_from)
        path, manifest = store.path(artifact), store.manifest(artifact)
        if manifest is None or len(manifest["files"]) != task.files + 1:
            said.append(f"{path} is missing or damaged")
        elif read_json(path / "made.json") != needs[key]:
            said.append(f"{path} holds something else than it should")
    left = [path for path in task.root.glob("*/*") if path.suffix and path.parent.name != ".locks"]
    return [*said, *(f"{path} was left behind" for path in left), *sorted({*times} - {*every})]


def line(task: Task, way: str, phase: Phase, twice: int) -> str:
    """One line of the table."""
    spent, made, found = phase.clocks, phase.clocks["made"], phase.clocks["found"]
    wall, busy = ("making", "making busy") if made else ("seconds", "busy")
    each = [f"{1e3 * spent[name] / (made or found):.2f}" for name in (wall, busy)]
    cells = [way, task.processes, task.runs, f"{phase.seconds:.1f}", f"{made:.0f}", f"{found:.0f}"]
    cells += [f"{made / phase.seconds:.0f}", *([each[0], "-"] if made else ["-", each[0]]), each[1]]
    cells += [f"{spent[name] / spent['seconds']:.1%}" for name in ("digests", "locks", "waits")]
    return f"| {' | '.join(map(str, [*cells, twice, len(phase.kills)]))} |"


def measure(task: Task, kills: int, span: float) -> list[str]:
    """What is wrong; prints a line for each way. Every way of making has a store of its own."""
    said = []
    for way in WAYS[:2]:
        own = task._replace(root=task.root / way.replace(" ", "-"), notes=task.notes / way.replace(" ", "-"))
        own.notes.mkdir(parents=True)
        phase = run(own, way, [random.uniform(0, span) for _ in range(kills)])
        begun = notes(own)
        print(line(own, way, phase, len(begun) - len({note.key for note in begun})), flush=True)
        said += wrong(own, begun, phase.kills)
        seen = len(begun)
    phase = run(own, "find", [])
    print(line(own, "find", phase, more := len(notes(own)) - seen), flush=True)
    return [*said, *([f"{more} stages were made again that were all there"] if more else [])]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=count, default=1000)
    parser.add_argument("--processes", type=count, default=8)
    parser.add_argument("--groups", type=count, default=10, help="sets of shared results, each of runs / groups runs")
    parser.add_argument("--files", type=count, default=4, help="files of a result besides the one that counts")
    parser.add_argument("--work", type=float, default=0.0, help="seconds that a stage takes")
    parser.add_argument("--imports", nargs="+", default=[], help="modules that every process has, such as torch")
    parser.add_argument("--kills", type=int, default=0, help="processes killed in each way of making")
    parser.add_argument("--span", type=float, default=3.0, help="seconds from the start in which they are killed")
    parser.add_argument("--folder", type=Path, help="where the store is put, to measure that file system")
    return parser.parse_args()


def main() -> int:
    """1 where something was made twice, lost or is not what it should be, else 0; prints the table."""
    options = parse()
    for name in options.imports:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="meow-store-") as folder:
        task = Task(
            root=Path(folder), notes=Path(folder) / "notes", runs=options.runs, groups=options.groups,
            processes=options.processes, files=options.files, work=options.work,
        )  # fmt: skip
        print(
            f"{options.runs} runs of 13 results, {options.groups} sets of shared ones, {options.files + 1} files "
            f"each, {options.work:g} s of work a stage, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n"
            f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}",
            flush=True,
        )
        said = measure(task, options.kills, options.span)
    for each in said[:20]:
        print(f"error: {each}", file=sys.stderr)
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
