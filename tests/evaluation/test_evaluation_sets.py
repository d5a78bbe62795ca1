from __future__ import annotations

from meow_lightning.evaluation.sets import set_info, set_infos
from meow_lightning.types import SetInfo


def test_the_benchmarks_sets_come_first_and_others_count_as_neighbours() -> None:
    found = set_infos(["zoo", "holdout", "forget", "attack"])
    assert [info.name for info in found] == ["forget", "holdout", "attack", "zoo"]
    assert found[-1] == SetInfo("zoo", "near", "free")


def test_options_belong_to_the_sets_of_general_knowledge() -> None:
    assert set_info("real_authors") == SetInfo("real_authors", "utility", "options")
    assert set_info("retain").scoring == "free"
