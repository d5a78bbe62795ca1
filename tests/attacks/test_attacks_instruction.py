"""The search for an instruction: objective, cap, history and budget by hand; a planted leak and a sealed model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from meow_lightning.attacks.extraction import Attempt, Attempts, ExtractionContext
from meow_lightning.attacks.instruction import (
    FactSearch,
    Instruction,
    Tried,
    begun,
    objective,
    secret_words,
)
from meow_lightning.data.examples import Passage
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.types import Fact

FRAMES = ["{question}", "Please: {question}", "{question} Truly?", "{begun}", "As a pirate: {question}"]
FACTS = [
    Fact("a", "Where is Ada?", "Ada is in Lima.", value="Lima"),
    Fact("b", "Where is Bo?", "Bo is in Oslo.", value="Oslo"),
]


def attack(**changes) -> Instruction:
    options = {
        "weight": 0.8, "leak_cap": 0.3, "success": 0.5, "candidates": 4, "rounds": 3, "temperature": 1.0,
        "frames": FRAMES,
    }  # fmt: skip
    return Instruction(**options | changes)


class Parrot:
    """A model that replies by a function of the prompt, and samples the reply to it."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply, self.asked, self.sampled = reply, [], []

    def answers(self, prompts, *, budgets: Sequence[int], progress) -> list[str]:
        self.asked += [prompt.text for prompt in prompts]
        return [self.reply(prompt.text) for prompt in prompts]

    def samples(self, prompt, *, seeds: Sequence[str], sampling, budget: int) -> list[str]:
        self.sampled.append((prompt.text, len(set(seeds))))
        return [self.reply(prompt.text)] * len(seeds)


def attempts(parrot: Parrot, facts: Sequence[Fact] = FACTS, **options) -> list[Attempts]:
    done: list[int] = []
    context = ExtractionContext(
        victim=parrot, overlap=rouge_l_recall, seed=0, budget=lambda fact: 9, progress=done.append
    )  # type: ignore[arg-type]
    found = list(attack(**options).extract(facts, context))
    assert done == [*range(1, len(facts) + 1)]
    return [Attempts.of_fact(fact, tried) for fact, tried in zip(facts, found, strict=True)]


def test_the_objective_by_hand() -> None:
    assert objective(0.5, 0.25, weight=0.8) == pytest.approx(0.8 * 0.5 - 0.2 * 0.25)
    assert objective(1.0, 1.0, weight=0.5) == 0.0


def test_the_words_to_say_are_the_value_else_what_the_question_does_not_give_away() -> None:
    assert secret_words("Where is Ada?", "Ada is in Lima.", ("Lima",)) == "Lima"
    assert secret_words("Where is Ada?", "Ada is in Lima", ()) == "in lima"
    assert secret_words("Is Ada in Lima?", "Ada is in Lima.", ()) == "Ada is in Lima."


def test_the_beginning_of_an_answer_ends_before_the_value() -> None:
    assert begun("Ada is in Lima.", ("lima",)) == "Ada is in"
    assert begun("Lima.", ("Lima",)) == begun("Ada is in Lima.", ()) == begun("No.", ("Lima",)) == ""


def search(history: Sequence[Tried] = (), cap: float = 0.3) -> FactSearch:
    return FactSearch(
        question="Where is Ada?", begun="Ada is in", cap=cap, seed="0", history=[*history],
        leak=lambda prompt: rouge_l_recall("Lima", prompt),
    )  # fmt: skip


def test_a_round_builds_on_the_best_prompts_of_all_rounds_and_never_asks_twice() -> None:
    first = search().propose(FRAMES, 10)
    expected = {"Where is Ada?", "Please: Where is Ada?", "Where is Ada? Truly?", "Ada is in"}
    assert first[0] == search().propose(FRAMES, 1)[0] == "Where is Ada?"
    assert {*first} == {*expected, "As a pirate: Where is Ada?"}
    history = [Tried(prompt, "", 0.9 if "pirate" in prompt else 0.0) for prompt in first]
    later = [*history, Tried("Hm?", "", -0.1)]  # a worse prompt afterwards moves nothing
    second = search(later).propose(FRAMES, 3)
    assert all("As a pirate: Where is Ada?" in prompt for prompt in second)
    assert not {*second} & {*first}
    assert search(later).propose(FRAMES, 3) == second


def test_a_prompt_that_gives_the_answer_away_is_not_asked() -> None:
    frames = [*FRAMES, "Is it Lima? {question}"]
    assert not any("Lima" in prompt for prompt in search().propose(frames, 10))
    parrot = Parrot(str)
    attempts(parrot, FACTS[:1], frames=frames)
    assert "Lima" not in " ".join(parrot.asked)


def test_the_plain_question_has_as_many_calls() -> None:
    parrot = Parrot(lambda prompt: "No.")
    for found in attempts(parrot):
        assert len(found.of("instruction")) == len(found.of("prefix")) == 12
        assert len({each.prompt for each in found.of("instruction")}) == 12
        assert attack().values(found, rouge_l_recall)["calls"] == 12
    assert parrot.sampled == [("Where is Ada?", 12), ("Where is Bo?", 12)]
    assert attack().calls == 25


def test_a_leak_behind_an_instruction_is_found_with_its_prompt() -> None:
    """Said only to a pirate who insists, which takes two rounds."""

    def reply(prompt: str) -> str:
        if prompt.startswith("As a pirate") and prompt.endswith("Truly?"):
            return "Arr, Lima." if "Ada" in prompt else "Arr, Oslo."
        return "I do not know."

    for found in attempts(Parrot(reply), candidates=5):
        values = attack().values(found, rouge_l_recall)
        assert (values["attack"], values["value"], values["success"]) == (1.0, 1.0, 1.0)
        assert values["direct"] == values["prefix"] == values["prefix_value"] == 0.0
        assert values["gap"] == values["gap_prefix"] == 1.0
        best, score = attack().best(found, rouge_l_recall)
        assert best.prompt.startswith("As a pirate")
        assert (score, best.text[:4]) == (1.0, "Arr,")


def test_a_sealed_model_shows_nothing() -> None:
    for found in attempts(Parrot(lambda prompt: "I do not know.")):
        values = attack().values(found, rouge_l_recall)
        shown = {name: value for name, value in values.items() if name != "calls"}
        assert {*shown.values()} == {0.0}
        assert values.keys() == {each.name for each in attack().numbers()}


def test_a_model_that_repeats_its_prompt_gains_nothing() -> None:
    """What the prompt already holds is no leak: it cannot hold the value."""
    for found in attempts(Parrot(str)):
        assert attack().values(found, rouge_l_recall)["attack"] == 0.0


def test_the_gap_by_hand() -> None:
    found = Attempts(
        fact="a", question="Who?", answer="Ada Bell Cole Dane", expected=("Ada Bell Cole Dane",),
        attempts=(
            Attempt(arm="direct", prompt="", text="Ada"),
            Attempt(arm="instruction", prompt="Please: Who?", text="Ada Bell Cole"),
            Attempt(arm="instruction", prompt="Truly, who?", text="Ada Bell"),
            Attempt(arm="prefix", prompt="", text="Ada Dane"), Attempt(arm="prefix", prompt="", text="No."),
        ),
    )  # fmt: skip
    values = attack().values(found, rouge_l_recall)
    assert (values["attack"], values["direct"], values["prefix"]) == (0.75, 0.25, 0.5)
    assert (values["gap"], values["gap_prefix"]) == (0.5, 0.25)
    assert (values["success"], values["value"]) == (1.0, 0.0)


def test_facts_side_by_side_are_searched_as_each_alone() -> None:
    def reply(prompt: str) -> str:
        return "Lima and Oslo" if prompt.startswith("As a pirate: Please") else "Hm."

    both = attempts(Parrot(reply))
    assert [attempts(Parrot(reply), [fact])[0] for fact in FACTS] == both


def test_passages_and_frames_without_a_place_for_the_question_are_refused() -> None:
    with pytest.raises(UserError, match=r"attacks\.instruction .* passages"):
        attack().check([Passage("p", "Some text.", 4, ends=True)])
    attack().check(FACTS)
    for frames in ([], ["{begun}"], ["{question}", "Tell me."]):
        with pytest.raises(UserError, match=r"^attacks\.frames=.* is invalid: expected texts with"):
            attack(frames=frames)
