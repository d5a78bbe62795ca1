"""Trust in metrics: AUC, R and Q by hand, which metrics count, and the file that pages order their numbers by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean

import pytest
from helpers.sweeps import swept

from meow_lightning.report.metric_trust import (
    Trust,
    leading,
    measured_on,
    read_trusts,
    trust_table,
    trusts,
    write_trusts,
)
from meow_lightning.report.sweep_tables import Swept
from meow_lightning.types import Definition

KNOWN, LESS = "forget/value_accuracy", "forget/truth_ratio"  # larger: more is known, less is known
SUBJECTS = ("target", "unlearned", "retain")


def definition(name: str, direction: str, unit: str = "share") -> Definition:
    return Definition(
        name=name, id=f"{name}.1", unit=unit, direction=direction, text="x", label=name, order=1, main=True
    )  # fmt: skip


def run(method: str, seed: int, **numbers: tuple[float, float, float]) -> Swept:
    """Build a run from (target, unlearned, retain) of both metrics by condition; ``plain`` is that of the models."""
    values = {
        role + (f"@{condition}" if condition != "plain" else ""): {KNOWN: three[place], LESS: 1 - three[place]}
        for condition, three in numbers.items() for place, role in enumerate(SUBJECTS)
    }  # fmt: skip
    made = swept(f"seed={seed}", f"method={method}", values=values)
    defined = (
        definition(KNOWN, "lower"), definition(LESS, "higher"), definition("model_utility", "higher"),
        definition("forget/leakage_rows", "none", "count"), definition("layers/patching/uds", "higher"),
    )  # fmt: skip
    conditions = {name: f"after {name}" for name in numbers if name != "plain"}
    return replace(made, results=replace(made.results, definitions=defined, conditions=conditions))


MEOW = [
    run("meow", 0, plain=(1.0, 0.2, 0.1), relearn=(1.0, 0.8, 0.2), quantise_int4=(1.0, 0.6, 0.1)),
    run("meow", 1, plain=(0.9, 0.2, 0.1), relearn=(1.0, 0.4, 0.3), quantise_int4=(1.0, 0.2, 0.1)),
    run("meow", 2, plain=(0.1, 0.0, 0.1), relearn=(1.0, 0.0, 0.1), quantise_int4=(1.0, 0.0, 0.1)),
]
POOLS = {each.name: (f"target{each.config.seed}", f"retain{each.config.seed}") for each in MEOW}


def test_the_numbers_by_hand() -> None:
    found = {(each.name, each.condition): each for each in trusts(MEOW, POOLS, POOLS)}
    known = found[KNOWN, ""]
    assert known.auc == pytest.approx((3 + 3 + 1.5) / 9)
    # R: changes of .6 and .1, of .2 and .2; the third run moves nothing, so it says nothing
    assert known.relearning == pytest.approx(((1 - 0.5 / 0.7) + 1.0) / 2)
    # Q: from .2 to .6 and from .2 to .2; the third run stays at 0
    assert known.rounding == pytest.approx((1 - 0.4 / 0.8 + 1.0 + 1.0) / 3)
    assert known.relearning is not None
    assert known.rounding is not None
    robust = harmonic_mean([known.relearning, known.rounding])
    assert known.overall == pytest.approx(harmonic_mean([known.auc, robust]))
    assert found[LESS, ""].auc == pytest.approx(known.auc)  # a larger one means that less is known
    relearned = found[KNOWN, "relearn"]
    assert (relearned.auc, relearned.relearning, relearned.overall) == (1.0, None, None)


def test_only_numbers_about_the_forgotten_facts_that_do_not_compare_with_the_retain_model_count() -> None:
    assert {each.name for each in trusts(MEOW, POOLS, POOLS)} == {KNOWN, LESS}


def test_a_model_of_several_runs_counts_once_and_two_of_a_kind_say_nothing() -> None:
    again = [run("npo", 0, plain=(0.0, 0.0, 0.0), relearn=(0.0, 0.0, 0.0))]
    pools = {**POOLS, again[0].name: ("target0", "retain0")}
    first = trusts([*again, *MEOW], pools, POOLS)
    assert next(each for each in first if (each.name, each.condition) == (KNOWN, "")).auc == pytest.approx(7.5 / 9)
    assert trusts(MEOW[:2], POOLS, POOLS) == []
    assert trusts(MEOW, {name: (target, None) for name, (target, _) in POOLS.items()}, POOLS) == []


def test_without_unlearned_models_the_auc_alone_is_measured() -> None:
    found = trusts(MEOW, POOLS, ())
    assert {(each.relearning, each.rounding, each.overall) for each in found} == {(None, None, None)}


def test_the_table_and_the_file(tmp_path: Path) -> None:
    found = trusts(MEOW, POOLS, POOLS)
    measured = measured_on(POOLS, unlearned=3)
    assert measured == "AUC of telling 3 models with the facts from 3 without, R and Q over 3 unlearned models"
    title, (head, *rows) = trust_table(found, measured)
    assert title == f"which metrics to trust: {measured}"
    assert head == ["metric", "AUC", "R, relearning", "Q, int4", "overall"]
    assert [KNOWN, "0.83", "0.64", "0.83", "0.78"] in rows
    write_trusts(found, path := tmp_path / "trust.yaml", measured=measured, command="python run.py sweep=meta")
    stored = read_trusts(path)
    assert stored["measured"] == measured
    assert stored["metrics"].keys() == {KNOWN, LESS}
    assert stored["metrics"][KNOWN]["auc"] == pytest.approx(7.5 / 9)


def test_a_page_leads_with_what_earned_it_the_most_trusted_first() -> None:
    trust = {"metrics": {"c": {"overall": 0.9}, "b": {"overall": 0.95}, "a": {"overall": None}, "d": {"overall": 0.7}}}
    assert leading(["z", "a", "c", "b", "d"], trust) == ["b", "c"]
    assert leading(["b"], {}) == []


def test_an_unmeasured_share_has_no_overall() -> None:
    found = Trust(name="a", condition="", label="a", auc=1.0, relearning=0.5, rounding=None)
    assert found.overall is None
    assert replace(found, rounding=0.0).overall == 0.0
