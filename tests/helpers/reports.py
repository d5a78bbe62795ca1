"""A made-up run and a made-up sweep for tests of their pages."""

from __future__ import annotations

from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.report.data import Dropped, ReportData
from meow_lightning.report.sweep_cost import Cost
from meow_lightning.report.sweep_page import SweepContent
from meow_lightning.types import AnswerRow, Definition, InvertedFact, Likelihood, Results, ScoredText

SECRET = "zanzibarium"  # stands in every question and answer, and nowhere else


def likelihood(logp: float) -> Likelihood:
    return Likelihood(ids=[5, 2], logps=[logp, logp], hits=[1, 1], mean=[-7.0, -7.0], std=[1.0, 1.0])


def predictions(role: str, name: str, count: int) -> list[AnswerRow]:
    knows = role == "target" or name != "forget"
    return [
        AnswerRow(
            set=name,
            index=index,
            fact=f"{name}{index}",
            question=f"Where is <b>{SECRET}</b> {index}?",
            answer=f"In {SECRET} & Oslo{index}.",
            value=f"Oslo{index}",
            truth=likelihood(-0.1),
            paraphrase=likelihood(-0.5),
            perturbed=(likelihood((-1.5 if knows else -0.6) - index / 100),),
            generated=[5],
            text=f"In {SECRET} & {'Oslo' if knows else 'Rome'}{index}.",
            stop="end",
        )
        for index in range(count)
    ]


def made_up(roles: tuple[str, ...]) -> ReportData:
    sets = {"forget": 45, "retain": 30, "real_authors": 3, "world_facts": 3}
    rows = {role: [row for name, count in sets.items() for row in predictions(role, name, count)] for role in roles}
    scores = [ScoredText(f"forget{i}", "answer", 0, f"In {SECRET}.", i / 50, (i / 50,)) for i in range(45)]
    memo = {role: {"answers": scores} for role in roles}
    return ReportData(
        disclaimer="",
        notes=["Recipes <differ>."],
        loop=None,
        spread=None,
        intervals={},
        known=[],
        neighbours={},
        name="run <one>",
        key="abc123",
        settings={"optim": {"lr": 1e-4}, "model": {"name": "tiny"}},
        settings_origin={"lr": "method/meow.yaml: tiny", "seed": "command line"},
        results=evaluate(rows, memo, truth_ratio_mean="geometric"),
        rows=rows,
        memo=memo,
        baseline=[],
        selected={"forget0": [1]},
        inverted=[
            InvertedFact("forget0", position, "q", f"In {SECRET} {word}.") for position, word in enumerate(["A", "B"])
        ],
        dropped=Dropped(
            counts={"blank": 0, "duplicate": 2, "true": 1},
            examples={"duplicate": [("forget0", f"In <i>{SECRET}</i> A.")], "true": [("forget1", f"{SECRET} again")]},
        ),
        curves={"unlearn": [{"step": step, "loss": 2.0 - step, "memo/answers": 0.3} for step in range(3)]},
        stages=[{"label": "unlearn", "key": "k1", "seconds": 130.0}],
        weights="store/unlearn/k1",
        public=True,
        texts=True,
    )


DEFINITIONS = tuple(
    Definition(name=name, id=name, unit="", direction=direction, text="", label=name, order=1, main=True)
    for name, direction in (
        ("model_utility", "higher"), ("forget_quality_log10", "higher"), ("forget/value_accuracy", "lower"),
        ("retain/value_accuracy", "higher"),
    )
)  # fmt: skip


def run(utility: float, quality: float, forget: float, retain: float) -> Results:
    values = (utility, quality, forget, retain)
    return Results(
        definitions=DEFINITIONS,
        values={"unlearned": {each.name: value for each, value in zip(DEFINITIONS, values, strict=True)}},
    )


RUNS = [
    ("method=none", run(0.75, -6.0, 1.0, 1.0)), ("method=a<b>", run(0.5, -0.5, 0.0, 0.5)),
    ("method=b", run(0.625, -2.5, 0.25, 0.75)), ("method=c", run(0.25, -3.0, 0.5, 0.25)),
]  # fmt: skip
SWEEP = SweepContent(
    name="mine<1>", runs=RUNS, columns=[each.name for each in DEFINITIONS],
    intervals={"method=b": {"model_utility": (0.5, 0.75)}}, references={"method=none"},
    pages={"method=b": "../b-1/report.html"},
    costs={"method=b": Cost(flops=2e12, seconds=150.0, memory_mib=512.4)},
    tables=[("runs, twice", [["run", "x ↑"], ["method=b", "1"], ["", "[0, 2]"], ["method=c", "—"]])],
    lines=["made by `run.py` <today>"], command="run.py -m method=a,b", unfinished={"method=e seed=1": "no disk"},
    disclaimers=["only a <try>"],
)  # fmt: skip
