"""That each panel shows what a run logs is held by tests/test_wandb.py."""

from __future__ import annotations

from meow_lightning.tracking.dashboard import METHOD, Panel, dashboard


def panels(**changes: object) -> list[Panel]:
    arguments = {"group": "", "attacks": ["relearn", "prune"], "profiles": ["clean", "ma"], **changes}
    return [panel for section in dashboard(**arguments).sections for panel in section.panels]  # type: ignore[arg-type]


def test_it_has_the_views_that_people_compare_methods_by() -> None:
    found = {(panel.kind, panel.x, panel.numbers[0]) for panel in panels()}
    assert ("scatter", "model_utility", "forget_quality/log10_p") in found
    assert ("scatter", "retain/value_accuracy", "forget/value_accuracy") in found
    assert ("line", "unlearn_unlearned/step", "unlearn_unlearned/loss") in found
    assert ("bar", "", "target_model/memo/answers") in found
    assert ("bar", "", "cost/unlearning_seconds") in found
    assert [panel.options for panel in panels() if panel.kind == "parallel"] == [
        (METHOD, "seed", "optim.lr", "optim.epochs")
    ]


def test_attacks_and_measures_of_memorization_are_those_of_the_program() -> None:
    shown = {name for panel in panels() for name in panel.logged}
    assert {"attack/relearn/value_accuracy", "attack/prune/retain_model/value_accuracy"} <= shown
    assert {"unlearn_unlearned/memo/clean/true_answers", "unlearn_unlearned/memo/ma/true_answers"} <= shown
    assert not [name for panel in panels(attacks=[]) for name in panel.logged if name.startswith("attack/")]


def test_titles_are_distinct_within_a_section_and_groups_name_the_dashboard() -> None:
    for section in dashboard(group="", attacks=[], profiles=[]).sections:
        titles = [panel.title for panel in section.panels]
        assert len(titles) == len(set(titles))
    assert dashboard(group="tiny_loop", attacks=[], profiles=[]).name == "Unlearning: tiny_loop"
