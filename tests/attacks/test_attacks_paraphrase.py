"""Other wordings: the dataset's own before frames, and none that gives the value away."""

from __future__ import annotations

from dataclasses import replace

from meow_lightning.attacks.paraphrase import Paraphrase
from meow_lightning.types import Fact

ADA = Fact("a", "Where is Ada?", "In Lima.", value="Lima", rewordings=("Which place has Ada?", "Where is Ada?"))
ATTACK = Paraphrase(frames={"kind": "Please: {question}", "none": None})


def asked(fact: Fact, attack: Paraphrase = ATTACK) -> list[str]:
    return [way.question for way in attack.transform_example(fact, [])]


def test_the_datasets_wordings_come_before_frames_and_the_question_itself_is_none() -> None:
    assert asked(ADA) == ["Which place has Ada?"]
    assert asked(replace(ADA, rewordings=())) == ["Please: Where is Ada?"]


def test_a_wording_that_gives_the_value_away_is_not_used() -> None:
    telling = replace(ADA, rewordings=("Is Ada in lima?",))
    assert asked(telling) == ["Please: Where is Ada?"]
    # the question itself gives it: the wording gives no more
    assert asked(replace(telling, question="Who is in Lima?")) == ["Is Ada in lima?"]
    assert asked(replace(telling, value=None)) == ["Is Ada in lima?"]


def test_without_frames_a_question_without_another_wording_is_left_out() -> None:
    assert asked(replace(ADA, rewordings=()), Paraphrase(frames={})) == []
