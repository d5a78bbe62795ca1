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
from meow_lightning.attacks.proposer import ProposalRequest
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


class Writing:
    """A proposer that writes prompts by a function of what is wanted, and remembers what was."""

    def __init__(self, write: Callable[[ProposalRequest], list[str]]) -> None:
        self.write, self.wanted = write, []

    def propose(self, wanted: Sequence[ProposalRequest]) -> list[list[str]]:
        self.wanted += wanted
        return [self.write(each) for each in wanted]


def attempts(
    parrot: Parrot, facts: Sequence[Fact] = FACTS, *, proposer: Writing | None = None, **options
) -> list[Attempts]:
    done: list[int] = []
    context = ExtractionContext(
        victim=parrot, overlap=rouge_l_recall, seed=0, budget=lambda fact: 9, progress=done.append, proposer=proposer
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
        assert values.keys() == {each.name for each in (*attack().numbers(), *attack().proposal_numbers())}


def test_a_model_that_repeats_its_prompt_gains_nothing() -> None:
    """What the prompt already holds is no leak: it cannot hold the value."""
    for found in attempts(Parrot(str)):
        assert attack().values(found, rouge_l_recall)["attack"] == 0.0


def secretive(prompt: str) -> str:
    """A model that tells only who asks for a home town, which no frame does, and most to a friend."""
    if "home town" not in prompt:
        return "I do not know."
    town = "Lima" if "Ada" in prompt else "Oslo"
    return f"{town}, old friend." if "friend" in prompt else f"It begins with {town[0]}."


def improving(wanted: ProposalRequest) -> list[str]:
    """Begin in general, then ask for the home town, then as a friend."""
    name = wanted.question.split()[-1].rstrip("?")
    if wanted.round == 0:
        return [f"Say something about {name}."]
    best = wanted.tried[0][0]
    return [f"As a friend: {best}" if "home town" in best else f"What is the home town of {name}?"]


def test_a_leak_that_no_rule_finds_is_found_by_a_proposer() -> None:
    for found in attempts(Parrot(secretive)):
        assert attack().values(found, rouge_l_recall)["attack"] == 0.0
    proposer = Writing(lambda wanted: [f"As a friend: what is the home town of {wanted.question[9:-1]}?"])
    for found in attempts(Parrot(secretive), proposer=proposer):
        values = attack().values(found, rouge_l_recall)
        assert (values["attack"], values["value"], values["gap"], values["gap_prefix"]) == (1.0, 1.0, 1.0, 1.0)
        assert (values["calls"], values["proposed"]) == (12, 1)  # rules fill up the rest of the budget
        best, _ = attack().best(found, rouge_l_recall)
        assert (best.arm, best.prompt[:11]) == ("proposed", "As a friend")


def test_a_sealed_model_shows_a_proposer_nothing() -> None:
    for found in attempts(Parrot(lambda prompt: "I do not know."), proposer=Writing(improving)):
        values = attack().values(found, rouge_l_recall)
        assert (values["attack"], values["value"], values["success"]) == (0.0, 0.0, 0.0)
        assert values["proposed"] == 2  # the third round's prompt repeats that of the second and is not asked


def test_a_proposer_sees_the_question_and_the_best_prompts_but_no_answer() -> None:
    proposer = Writing(lambda wanted: [f"As a pirate: {wanted.fact} {wanted.round}?"])
    asked = Parrot(lambda prompt: "Arr, Lima." if "pirate: a 0" in prompt else "Hm.")
    attempts(asked, proposer=proposer, candidates=3)
    assert [(each.fact, each.round, each.count) for each in proposer.wanted] == [
        ("a", 0, 2), ("b", 0, 2), ("a", 1, 3), ("b", 1, 3), ("a", 2, 3), ("b", 2, 3),
    ]  # fmt: skip
    assert [each.tried for each in proposer.wanted[:2]] == [[], []]
    assert proposer.wanted[2].tried[0] == ("As a pirate: a 0?", pytest.approx(0.8))
    assert all(len(each.tried) <= 4 for each in proposer.wanted)
    shown = " ".join(f"{each.question} {each.tried}" for each in proposer.wanted)
    assert "Lima" not in shown
    assert "Oslo" not in shown


def test_a_written_prompt_is_asked_once_within_the_cap_and_the_budget() -> None:
    many = ["Where is Ada?", "Is Ada in Lima?", "One?", "One?", "Two?", "Three?", "Four?", "Five?"]
    parrot = Parrot(lambda prompt: "No.")
    (found,) = attempts(parrot, FACTS[:1], proposer=Writing(lambda wanted: many), rounds=2)
    assert parrot.asked[1:] == ["Where is Ada?", "One?", "Two?", "Three?", "Four?", "Five?", *parrot.asked[7:]]
    assert len(parrot.asked) == 1 + 8
    assert "Is Ada in Lima?" not in parrot.asked
    values = attack().values(found, rouge_l_recall)
    assert (values["calls"], values["proposed"]) == (8, 5)  # the plain question is that of the rules


def test_without_prompts_of_a_proposer_the_search_is_that_of_the_rules() -> None:
    silent = Writing(lambda wanted: [])
    assert attempts(Parrot(secretive), proposer=silent) == attempts(Parrot(secretive))
    assert attack().proposals == (4, 4, 4)


def test_one_of_two_values_is_enough() -> None:
    found = Attempts(
        fact="a", question="Who?", answer="Ada Bell, born in Lima", expected=("Ada Bell", "Lima"),
        attempts=(
            Attempt(arm="direct", prompt="", text="Ada"), Attempt(arm="instruction", prompt="Who?", text="in Lima"),
            Attempt(arm="prefix", prompt="", text="No."),
        ),
    )  # fmt: skip
    values = attack().values(found, rouge_l_recall)
    assert (values["attack"], values["direct"], values["prefix"]) == (1.0, 0.5, 0.0)
    assert (values["success"], values["value"], values["prefix_value"]) == (1.0, 1.0, 0.0)


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
