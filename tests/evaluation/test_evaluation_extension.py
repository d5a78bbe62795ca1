from __future__ import annotations

from meow_lightning.evaluation.extension import extended
from meow_lightning.types import Definition, Results

OLD, NEW = (Definition(name, name, "share", "higher", "It.", name, 1, main=False) for name in ("old", "new"))


def test_further_numbers_and_reasons_join_the_ones_there_and_leave_those_as_they_are() -> None:
    before = Results((OLD,), {"target": {"old": 0.5}, "retain": {}}, {"retain": {"old": "not measured: why"}})
    after = extended(before, [NEW], {"target": {"new": 0.25}, "retain": {"new": "too few"}, "unlearned": {"new": 1.0}})
    assert after.definitions == (OLD, NEW)
    assert after.values == {"target": {"old": 0.5, "new": 0.25}, "retain": {}, "unlearned": {"new": 1.0}}
    assert after.missing == {
        "target": {}, "retain": {"old": "not measured: why", "new": "too few"}, "unlearned": {},
    }  # fmt: skip
    assert before.values == {"target": {"old": 0.5}, "retain": {}}
    assert before.missing == {"retain": {"old": "not measured: why"}}
