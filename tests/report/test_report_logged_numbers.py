from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.report.logged_numbers import FORGET_QUALITY, logged_costs, logged_name, logged_numbers
from meow_lightning.tracking.base import Number
from meow_lightning.types import Definition, Results


@pytest.mark.parametrize(
    ("subject", "name", "expected"),
    [
        ("unlearned", "model_utility", "model_utility"),
        ("unlearned", "forget_quality_log10", "forget_quality/log10_p"),
        ("retain", "forget_quality", "retain_model/forget_quality/p"),
        ("unlearned", "forget/value_accuracy", "forget/value_accuracy"),
        ("unlearned", "retain/value_accuracy", "retain/value_accuracy"),
        ("target", "memo/answers", "target_model/memo/answers"),
        ("unlearned@relearn", "forget/value_accuracy", "attack/relearn/value_accuracy"),
        ("unlearned@relearn", "retain/value_accuracy", "attack/relearn/retain/value_accuracy"),
        ("retain@relearn", "forget/value_accuracy", "attack/relearn/retain_model/value_accuracy"),
        ("unlearned@relearn", "recovered/forget/value_accuracy", "attack/relearn/recovered/value_accuracy"),
        ("unlearned", "layers/logit_lens/erasure", "attack/logit_lens/erasure"),
        ("target", "extraction/sample/value_leak_at_4", "attack/sample/target_model/value_leak_at_4"),
    ],
)
def test_names_are_readable(subject: str, name: str, expected: str) -> None:
    assert logged_name(subject, name) == expected


SUBJECTS = st.sampled_from(["unlearned", "target", "retain", "unlearned@relearn", "retain@relearn", "unlearned@prune"])
SETS = st.sampled_from(["forget", "retain", "holdout", "own_set", "recovered/forget", "recovered/retain"])
NAMES = st.one_of(
    st.tuples(SETS, st.sampled_from(["value_accuracy", "probability"])).map("/".join),
    st.sampled_from(["model_utility", "memo/answers", "layers/logit_lens/erasure", "facts_known", *FORGET_QUALITY]),
)


@given(st.tuples(SUBJECTS, NAMES), st.tuples(SUBJECTS, NAMES))
def test_no_two_numbers_have_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (logged_name(*one) == logged_name(*other)) == (one == other)


def test_every_number_has_the_direction_of_its_definition() -> None:
    shared = {"unit": "share", "text": "", "label": "", "order": 1, "main": True}
    definitions = (
        Definition(name="model_utility", id="model_utility.1", direction="higher", **shared),
        Definition(name="forget/value_accuracy", id="value_accuracy.3", direction="lower", **shared),
    )
    values = {"unlearned": {"model_utility": 0.5, "forget_rows": 3.0}, "unlearned@prune": {"forget/value_accuracy": 0}}
    assert logged_numbers(Results(definitions, values)) == [
        Number("model_utility", 0.5, "higher"),
        Number("forget_rows", 3.0, "none"),
        Number("attack/prune/value_accuracy", 0, "lower"),
    ]


def test_costs_are_those_of_unlearning_and_of_all_stages() -> None:
    target = {"stage": "finetune", "key": "a", "seconds": 10.0, "flops": 100, "peak_memory_mib": 900.0}
    first = {"stage": "unlearn", "key": "b", "seconds": 2.0, "flops": 20, "peak_memory_mib": 300.0}
    last = {"stage": "unlearn", "key": "c", "seconds": 3.0, "flops": 30, "peak_memory_mib": 300.0}
    gpu = last | {"peak_gpu_memory_mib": 700.0}
    assert {each.name: each.value for each in logged_costs([target, first, gpu], gpu)} == {
        "cost/all_stages_seconds": 15.0,
        "cost/unlearning_seconds": 5.0,
        "cost/unlearning_flops": 50.0,
        "cost/unlearning_peak_memory_mib": 700.0,
    }
    retrained = {each.name: each.value for each in logged_costs([target], target)}
    assert retrained["cost/unlearning_seconds"] == 10.0
    assert retrained["cost/unlearning_peak_memory_mib"] == 900.0
