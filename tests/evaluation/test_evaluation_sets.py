from __future__ import annotations

from meow_lightning.evaluation.sets import BENCHMARK, benchmark_from, benchmark_of, set_info, set_infos
from meow_lightning.types import SetInfo


def test_the_benchmarks_sets_come_first_and_others_count_as_neighbours() -> None:
    found = set_infos(["zoo", "holdout", "forget", "attack"])
    assert [info.name for info in found] == ["forget", "holdout", "attack", "zoo"]
    assert found[-1] == SetInfo("zoo", "near", "free")


def test_options_belong_to_the_sets_of_general_knowledge() -> None:
    assert set_info("real_authors") == SetInfo("real_authors", "utility", "options")
    assert set_info("retain").scoring == "free"


def test_a_dataset_without_sets_of_its_own_has_the_benchmark_of_tofu() -> None:
    assert benchmark_of([]) == benchmark_of(BENCHMARK[:2]) == benchmark_of(BENCHMARK) == BENCHMARK
    assert benchmark_from({}) == BENCHMARK


def test_a_dataset_says_what_its_sets_are_for() -> None:
    zoo, retain = SetInfo("zoo", "near", "free"), SetInfo("retain", "retain", "options")
    made = benchmark_of([retain, zoo])
    assert [info.name for info in made] == [*(info.name for info in BENCHMARK), "zoo"]
    assert (made[1], made[-1]) == (retain, zoo)
    assert benchmark_from({"benchmark": [[info.name, info.purpose, info.scoring] for info in made]}) == made


def test_utility_sets_of_a_dataset_take_the_place_of_those_it_lacks() -> None:
    own = SetInfo("trivia", "utility", "options")
    assert [info.name for info in benchmark_of([own])] == ["forget", "retain", "holdout", "trivia"]
    both = [info.name for info in benchmark_of([BENCHMARK[2], own])]
    assert both == ["forget", "retain", "real_authors", "holdout", "trivia"]
