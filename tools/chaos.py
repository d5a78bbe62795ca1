"""Kills a job with SIGKILL at random moments of every stage, restarts it, and compares the final results.

``python tools/chaos.py 100`` kills a hundred times and prints a summary; exit status 1 after any difference. Linux
only, since processes are found in /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("finetune", "propose", "filter", "score", "unlearn", "predict", "evaluate", "report")
# Checkpoints after every step and two chunks of questions and candidates give every stage something to resume.
WORDS = (
    "logger=none", "dataset.authors=48", "dataset.retain_eval=100", "dataset.candidates=5", "model.vocab_size=400",
    "model.architecture.hidden_size=32", "model.architecture.layers=1", "model.architecture.heads=2",
    "model.architecture.intermediate_size=64", "model.architecture.context=128", "model.pretrain.rows=400",
    "model.finetune.epochs=2", "model.finetune.replay=5", "optim.epochs=10", "memo.max_new_tokens=16",
    "evaluation.max_new_tokens=16", "trainer.generation_batch_size=16", "callbacks.memo_facts=2",
    "callbacks.checkpoint_seconds=0",
)  # fmt: skip
# alone: the only process. driver: its helpers must exit too. helper: the driver must report it. group: all at once.
UNCOMPARED = ("manifest.json", "report.html", ".code.json")  # they contain times, or which files were read
MACHINE = {"memo/seconds", "tokens_per_second", "memory_mib"}  # values of a curve that differ between executions
VICTIMS = ("alone", "driver", "helper", "group")
MOMENTS = {"begin": 1, "work": 4, "seal": 2}  # relative frequencies
PLACES = ("in the work", "while sealing", "after sealing", "while publishing")
ROUND = 10  # kills between two comparisons; every round has its own store
MARK = "MEOW_KILLING"  # environment variable that marks the processes of a start
FOLLOW_SECONDS = 5.0  # an orphan that survives longer is a defect
PATIENCE = 400.0  # seconds without an end after which a run counts as a defect


@dataclass(frozen=True)
class Target:
    """A result of the job, with its needs, its total seconds, and the seconds after its first visible work."""

    stage: str
    label: str
    key: str
    needs: frozenset[str]
    seconds: float
    work: float

    def partial(self, outputs: Path) -> Path:
        return outputs / "store" / self.stage / f"{self.key}.partial"

    def folder(self, outputs: Path) -> Path:
        return outputs / "store" / self.stage / self.key


@dataclass(frozen=True)
class Undisturbed:
    """The outcome of an undisturbed run: its results in order, and the digest of every file."""

    targets: tuple[Target, ...]
    files: Mapping[str, str]


@dataclass
class Tally:
    """Counts of kills and their consequences."""

    hits: Counter[tuple[str, str]] = field(default_factory=Counter)  # (stage, place)
    victims: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    late: int = 0  # starts that ended before their moment to be killed
    comparisons: int = 0
    equal: int = 0
    slowest: float = 0.0  # longest survival of an orphan, in seconds
    defects: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(self.victims.values())


def read(path: Path) -> bytes:
    """Read a file; empty if it is gone or unreadable."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Run:
    """One start of the job in its own process group; as a context manager, it ends on exit."""

    def __init__(self, outputs: Path, seed: int, parallel_stages: int) -> None:
        outputs.mkdir(parents=True, exist_ok=True)
        self.log = outputs.with_name(f"{outputs.name}.log")
        number = f"{os.getpid()}-{time.time_ns()}"
        self.mark = f"{MARK}={number}".encode()
        # The source tree of this file, not the installed package.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), MARK: number}
        environment.pop("MEOW_SESSION_START", None)
        command = [
            sys.executable,
            "run.py",
            *WORDS,
            f"seed={seed}",
            f"trainer.parallel_stages={parallel_stages}",
            f"outputs={outputs}",
        ]
        self.started = time.time()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def family(self, *, only: bytes) -> list[int]:
        """List the live processes of this start, including the driver, whose command line contains ``only``."""
        folders = (path for path in Path("/proc").iterdir() if path.name.isdigit())
        return [
            int(path.name)
            for path in folders
            if self.mark in read(path / "environ").split(b"\0") and only in read(path / "cmdline")
        ]

    def end(self, seconds: float) -> int | None:
        """Wait for the end and return the exit status; ``None`` if it had to be killed after some seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=seconds)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return None

    def said(self) -> str:
        """Return the last line of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


def at(partial: Path, since: float) -> tuple[bool, bool]:
    """Return whether a start has begun a result, and whether some of its work is visible."""
    try:
        begun = (partial / "task.json").stat().st_mtime
        if begun < since:
            return False, False  # left by an earlier, killed start
        with os.scandir(partial) as entries:
            own = (entry for entry in entries if not entry.name.startswith(".work-"))  # the lock alone is no work
            return True, any(entry.stat().st_mtime > begun for entry in own)
    except FileNotFoundError:
        return False, False


def without_times(path: Path) -> bytes:
    """Read a file; curves without what depends on the machine's speed and memory."""
    if path.name != "metrics.jsonl":
        return path.read_bytes()
    points = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [{name: value for name, value in point.items() if name not in MACHINE} for point in points]
    return json.dumps(kept).encode()


def fingerprint(outputs: Path) -> dict[str, str]:
    """Hash every file in the store and the reports with SHA-256, except ``UNCOMPARED``."""
    return {
        str(path.relative_to(outputs)): hashlib.sha256(without_times(path)).hexdigest()
        for top in ("store", "reports")
        for path in sorted((outputs / top).rglob("*"))
        if path.is_file() and ".locks" not in path.parts and path.name not in UNCOMPARED
    }


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """List the files that are missing, unexpected or different."""
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} should not be there" for name in found if name not in expected]
    return wrong + [f"{name} differs" for name in expected if found.get(name, expected[name]) != expected[name]]


def damaged(outputs: Path) -> list[str]:
    """List the files that contradict the manifest beside them."""
    wrong = []
    for path in (outputs / "store").glob("*/*/manifest.json"):
        for name, entry in json.loads(path.read_text(encoding="utf-8"))["files"].items():
            file = path.parent / name
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
                wrong.append(f"{file.relative_to(outputs)} is not what its manifest says")
    return wrong


def undisturbed(outputs: Path, *, seed: int) -> Undisturbed:
    """Run the job undisturbed and record its files and durations."""
    signs: dict[str, float] = {}
    with Run(outputs, seed, parallel_stages=1) as run:
        while run.process.poll() is None:
            for partial in (outputs / "store").glob("*/*.partial"):
                if partial.stem not in signs and at(partial, run.started)[1]:
                    signs[partial.stem] = time.time()
            time.sleep(0.002)
    if run.process.returncode:
        raise RuntimeError(f"the undisturbed run failed: {run.said()} (all of it: {run.log})")
    paths = (outputs / "store").glob("*/*/manifest.json")
    manifests = sorted((json.loads(path.read_text()) for path in paths), key=lambda each: each["finished"])
    targets = tuple(
        Target(
            stage=each["stage"], label=each["label"], key=each["key"], needs=frozenset(each["needs"].values()),
            seconds=each["seconds"], work=each["finished"] - signs.get(each["key"], each["finished"]),
        )
        for each in manifests
    )  # fmt: skip
    return Undisturbed(targets, fingerprint(outputs))


def picks(targets: Sequence[Target], kills: int, chance: random.Random) -> list[Target]:
    """Choose the results to hit in one round, in order of computation: every stage once, some twice."""
    stages = chance.sample(STAGES, min(kills, len(STAGES)))
    chosen = [chance.choice([target for target in targets if target.stage == stage]) for stage in stages]
    chosen += [chance.choice([*chosen, *targets]) for _ in range(kills - len(chosen))]
    return sorted(chosen, key=targets.index)


def wipe(outputs: Path, target: Target, targets: Sequence[Target]) -> None:
    """Remove a result and everything computed from it, as a user who prunes would."""
    gone: set[str] = set()
    for each in targets:
        if each is target or gone & each.needs:
            gone.add(each.key)
            shutil.rmtree(each.folder(outputs), ignore_errors=True)
            shutil.rmtree(each.partial(outputs), ignore_errors=True)
    shutil.rmtree(outputs / "reports", ignore_errors=True)


def wait(run: Run, target: Target, moment: str, outputs: Path) -> bool:
    """Wait for the moment to kill; return ``False`` if the run ended before."""
    partial, seen = target.partial(outputs), False
    deadline = time.time() + PATIENCE
    while run.process.poll() is None and time.time() < deadline:
        begun, worked = at(partial, run.started)
        seen = seen or begun
        # The driver removes the task file right before it seals the result.
        sealing = seen and not (partial / "task.json").exists()
        publishing = next((outputs / "reports").glob("*/*"), None) is not None
        late = sealing and moment in ("begin", "work")
        if late or {"begin": begun, "work": worked, "seal": sealing, "publish": publishing}[moment]:
            return True
        time.sleep(0.0005)
    return False


def place(target: Target, outputs: Path) -> str:
    """Determine where a kill hit, from what it left."""
    if not target.folder(outputs).exists():
        return "in the work" if (target.partial(outputs) / "task.json").exists() else "while sealing"
    copies, whole = list((outputs / "reports").rglob("*.*")), list(target.folder(outputs).rglob("*.*"))
    return "while publishing" if target.stage == "report" and 0 < len(copies) < len(whole) - 1 else "after sealing"


def kill(process: int) -> None:
    """Kill a process with SIGKILL, unless it has just ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def strike(run: Run, victim: str, chance: random.Random) -> str:
    """Kill a helper, the driver or the whole group; return who was killed."""
    if victim == "group":
        os.killpg(run.process.pid, signal.SIGKILL)
        return victim
    helpers = run.family(only=b"spawn_main") if victim == "helper" else []
    if helpers:
        kill(chance.choice(helpers))
        return victim
    kill(run.process.pid)
    return "alone" if victim == "alone" else "driver"


def bury(run: Run, victim: str, what: str, tally: Tally) -> None:
    """Wait until all processes of a start are gone, and record those that do not end properly."""
    status = run.end(PATIENCE)
    if status is None:
        tally.defects.append(f"{what}: the driver did not end within {PATIENCE:.0f} s")
    # A run that no longer needs the killed helper may succeed.
    elif victim == "helper" and status != 0 and (status != 1 or "killed from outside" not in run.said()):
        tally.defects.append(f"{what}: the driver ended with status {status} and said: {run.said()}")
    gone = time.time()
    while (orphans := run.family(only=b"")) and time.time() - gone <= FOLLOW_SECONDS:
        time.sleep(0.02)
    if orphans:
        tally.defects.append(f"{what}: {len(orphans)} orphans lived longer than {FOLLOW_SECONDS:.0f} s")
        for process in orphans:
            kill(process)
    tally.slowest = max(tally.slowest, time.time() - gone)


def kill_once(
    outputs: Path, target: Target, reference: Undisturbed, seed: int, chance: random.Random, tally: Tally
) -> str:
    """Start the job and kill it once; return a description of the hit, empty if the run ended before."""
    if target.folder(outputs).exists():
        wipe(outputs, target, reference.targets)
    moments = {**MOMENTS, "publish": 2} if target.stage == "report" else MOMENTS
    (moment,) = chance.choices(list(moments), list(moments.values()))
    victim = chance.choice(VICTIMS)
    longest = {"begin": target.seconds, "work": target.work, "seal": 0.01, "publish": 0.002}[moment]
    tally.starts += 1
    with Run(outputs, seed, parallel_stages=1 if victim == "alone" else 2) as run:
        reached = wait(run, target, moment, outputs)
        time.sleep(longest * chance.random() if reached else 0.0)
        if not reached or run.process.poll() is not None:
            tally.late += 1
            if (status := run.end(0.0)) != 0:
                what = f"on the way to {target.stage} {target.label}".strip()
                tally.defects.append(f"{what}: the run ended with status {status} and said: {run.said()}")
            return ""
        victim = strike(run, victim, chance)
        hit = place(target, outputs)
        what = f"{victim} killed {hit} of {target.stage} {target.label}".strip()
        bury(run, victim, what, tally)
    tally.victims[victim] += 1
    tally.hits[target.stage, hit] += 1
    return what


def compare(outputs: Path, reference: Undisturbed, seed: int, tally: Tally) -> None:
    """Let the job finish and compare its files with the undisturbed run; remove the folder if all are equal."""
    tally.starts += 1
    with Run(outputs, seed, parallel_stages=2) as run:
        status = run.end(PATIENCE)
    wrong = [] if status == 0 else [f"the last run ended with status {status} and said: {run.said()}"]
    wrong += differences(reference.files, fingerprint(outputs)) + damaged(outputs)
    tally.comparisons += 1
    tally.equal += not wrong
    tally.defects += [f"{outputs}: {each}" for each in wrong]
    if not wrong:
        shutil.rmtree(outputs)


def kill_many(
    outputs: Path, reference: Undisturbed, *, kills: int, seed: int, report: Callable[[str], object]
) -> Tally:
    """Kill the job many times at random moments, in rounds that each end with a comparison.

    Args:
        outputs: Folder for the rounds' outputs; that of a round with a difference is kept.
        reference: Outcome of an undisturbed run with this seed.
        kills: Number of kills.
        seed: Seed of the job and of the moments.
        report: Called with a line for each kill and each comparison.
    """
    chance, tally = random.Random(seed), Tally()
    while tally.kills < kills and tally.late <= kills:
        folder = outputs / f"round-{tally.comparisons}"
        for target in picks(reference.targets, min(ROUND, kills - tally.kills), chance):
            known = len(tally.defects)
            what = kill_once(folder, target, reference, seed, chance, tally)
            report(f"{tally.kills:4d}  {what or 'too late'}" + "".join(f"\n      {e}" for e in tally.defects[known:]))
        known = len(tally.defects)
        compare(folder, reference, seed, tally)
        report(f"      compared: {'equal' if len(tally.defects) == known else tally.defects[known:]}")
    return tally


def table(tally: Tally) -> str:
    """Format the tally as text."""
    lines = [f"{'kills':10s}" + "".join(f"{place:>18s}" for place in PLACES)]
    for stage in STAGES:
        lines.append(f"{stage:10s}" + "".join(f"{tally.hits[stage, place]:18d}" for place in PLACES))
    lines.append(", ".join(f"{victim}: {tally.victims[victim]}" for victim in VICTIMS))
    lines.append(
        f"{tally.kills} kills, {tally.starts} starts ({tally.late} ended before their moment), {tally.equal} of "
        f"{tally.comparisons} comparisons equal, the slowest orphan lived {tally.slowest:.1f} s"
    )
    return "\n".join([*lines, *(f"DEFECT {defect}" for defect in tally.defects)])


def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0 if the job always ended with the same files and without defects."""
    parser = argparse.ArgumentParser(description="Kill a job at random moments and compare what it ends with.")
    parser.add_argument("kills", type=int, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the job and of the moments")
    wish = parser.parse_args(arguments)
    outputs = Path(tempfile.mkdtemp(prefix="meow-killing-"))

    def report(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    reference = undisturbed(outputs / "undisturbed", seed=wish.seed)
    tally = kill_many(outputs, reference, kills=wish.kills, seed=wish.seed, report=report)
    report(table(tally))
    if tally.defects or tally.kills < wish.kills:
        report(f"what the runs left: {outputs}")
        return 1
    shutil.rmtree(outputs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
