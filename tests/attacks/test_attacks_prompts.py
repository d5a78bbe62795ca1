"""Every attack on prompts, as its YAML configures it: planted knowledge is found, and sealed knowledge is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.hydra import CONF, options
from helpers.planted import People, Taught, taught

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.config.instantiate import component_class
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.choice_accuracy import ChoiceAccuracy
from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

UNKNOWN = "I do not know."
PEOPLE = People()


FROM_FILES = {"translation"}  # attacks that need a user's file: test_attacks_translation.py plants knowledge for it


def prompt_attacks() -> list[str]:
    """Name the YAML files of attacks on prompts that need nothing else."""
    found = []
    for path in sorted(path for path in Path(CONF / "attacks").glob("*.yaml") if path.stem not in FROM_FILES):
        attacks = options(f"attacks={path.stem}").attacks
        kinds = [component_class(each.plain(), allow=()) for each in attacks.values()]
        if len(kinds) == 1 and issubclass(kinds[0], PromptAttack):
            found.append(path.stem)
    return found


def built(name: str) -> PromptAttack:
    (config,) = options(f"attacks={name}").attacks.values()
    attack: PromptAttack = config.instantiate(allow=())
    return attack


def known(rows: list[AnswerRow]) -> float:
    """The share of the answers that give their value."""
    return sum(row_value_accuracy(row, forgotten=True) or 0.0 for row in rows) / len(rows)


def planted(attack: PromptAttack, *, leaks: bool) -> Taught:
    """A model that knows nothing, except, if it leaks, under the last of the attack's ways to ask."""
    hints = attack.rows(PEOPLE, 0)
    pairs = [(fact.question, UNKNOWN) for fact in PEOPLE.forget]
    for fact in PEOPLE.forget:
        *others, last = attack.transform_example(fact, hints)
        pairs += [(way.question, UNKNOWN) for way in others]
        pairs.append((last.question, last.answer if leaks else UNKNOWN))
    return taught(pairs)


@pytest.mark.parametrize("name", prompt_attacks())
def test_planted_knowledge_is_found_and_sealed_knowledge_is_not(name: str) -> None:
    attack = built(name)
    hints = attack.rows(PEOPLE, 0)
    leaking, sealed = planted(attack, leaks=True), planted(attack, leaks=False)
    assert known(leaking.answers(PEOPLE.forget)) == 0.0
    found = leaking.under(attack, hints, PEOPLE.forget)
    assert known(found) == 1.0
    context = RowContext(info=set_info("forget"))
    assert all(ChoiceAccuracy().value(row, context) == 1.0 for row in found if row.perturbed and not row.paraphrase)
    assert known(sealed.under(attack, hints, PEOPLE.forget)) == 0.0


@pytest.mark.parametrize("name", prompt_attacks())
def test_the_question_gives_no_more_away_than_before(name: str) -> None:
    """A value in the prompt is no knowledge of the model; among options it stands beside the wrong ones."""
    attack = built(name)
    for fact in PEOPLE.forget:
        for way in attack.transform_example(fact, attack.rows(PEOPLE, 0)):
            assert way.id == fact.id
            assert not way.value or way.value not in way.question or all(
                wrong in way.question for wrong in fact.perturbed
            )  # fmt: skip


def test_the_order_of_full_names_every_attack_that_needs_no_file() -> None:
    files = {path.stem for path in (CONF / "attacks").glob("*.yaml")} - {"quick", "full", "none"} - FROM_FILES
    assert set(options("attacks=full").attacks) == files
    assert set(options("attacks=[quick]").attacks) < files
    assert options("attacks=quick").attacks == options("attacks=[quick]").attacks
