"""Prompt search: optimize an instruction per fact for extraction, against a sampled baseline."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Annotated, ClassVar, NamedTuple

from meow_lightning.attacks.extraction import (
    Attempt,
    Attempts,
    ExtractionAttack,
    ExtractionContext,
    FactNumber,
    Overlap,
)
from meow_lightning.attacks.proposer import LEADERS, ProposalRequest, Proposer
from meow_lightning.attacks.victim import Prompt
from meow_lightning.config.ranges import Count, Number, Positive, Probability, Range
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Example, is_passage
from meow_lightning.data.values.matching import contains_any_value
from meow_lightning.data.words import words_and_marks
from meow_lightning.errors import UserError, invalid_option

DIRECT, INSTRUCTION, PREFIX = "direct", "instruction", "prefix"
PROPOSED = "proposed"  # prompts of the search that a proposer wrote; the others are built by rules
QUESTION, BEGUN = "{question}", "{begun}"


def secret_words(question: str, answer: str, expected: Sequence[str]) -> str:
    """Return the words that the model is to say: those that state the fact, else those that only the answer has.

    Answers repeat words of their questions, which would count as knowledge.

    Args:
        question: The question.
        answer: The true answer.
        expected: The words that state the fact, if the dataset marks them.
    """
    if expected:
        return " ".join(expected)
    known = {*words_and_marks(question)}
    own = [word for word in words_and_marks(answer) if word not in known]
    return " ".join(own) if any(word.isalnum() for word in own) else answer


def objective(reply: float, leak: float, *, weight: float) -> float:
    """Compute O(p) = a S(V(p), d) - (1 - a) S(p, d): what a prompt is worth to the search.

    Source: Kassem et al. 2024 (arXiv 2403.04801).

    Args:
        reply: S(V(p), d), the share of the secret words d in the model's reply, 0 to 1.
        leak: S(p, d), their share in the prompt itself, 0 to 1.
        weight: a, 0 to 1.
    """
    return weight * reply - (1 - weight) * leak


class Tried(NamedTuple):
    """A prompt of the search, the model's reply, its :func:`objective`, and whether a proposer wrote it."""

    prompt: str
    text: str
    worth: float
    proposed: bool = False


@dataclass(slots=True)
class FactSearch:
    """The search for one fact: all prompts tried so far, and the next ones.

    A round takes the prompts that a proposer wrote, if there is one, and builds the missing ones from the frames: the
    first round from the question, which it also asks as it is, later ones from the best prompts of all earlier rounds.
    A prompt is asked once, and not at all if it gives away too much.

    Args:
        question: The question.
        begun: The true answer up to the words that state the fact; may be empty.
        leak: Share of the secret words in a prompt, 0 to 1.
        cap: Largest allowed leak.
        seed: Seed of the order in which frames are tried.
    """

    question: str
    begun: str
    leak: Callable[[str], float]
    cap: float
    seed: str
    history: list[Tried] = field(default_factory=list)

    def ranked(self) -> list[Tried]:
        """List the best prompts so far, the best first and the earlier of equal ones."""
        return sorted(self.history, key=lambda tried: -tried.worth)[:LEADERS]

    def opening(self) -> list[str]:
        """List the prompts that every search begins with: the plain question."""
        return [] if self.history or self.leak(self.question) > self.cap else [self.question]

    def propose(self, frames: Sequence[str], count: int, written: Sequence[str] = ()) -> list[str]:
        """Choose the prompts of the next round.

        Args:
            frames: Texts with ``{question}`` or ``{begun}``.
            count: Number of prompts; fewer if the frames give no more new ones within the cap.
            written: Prompts of a proposer, which come before those of the frames.
        """
        prompts = self.opening()
        seen = {tried.prompt for tried in self.history} | {*prompts}
        for prompt in chain(written, self._framed(frames)):
            if len(prompts) >= count:
                break
            if prompt not in seen and self.leak(prompt) <= self.cap:
                seen.add(prompt)
                prompts.append(prompt)
        return prompts

    def _framed(self, frames: Sequence[str]) -> Iterator[str]:
        """Build prompts from the frames, around the question or, after the first round, around the best prompts."""
        rng = random.Random(f"{self.seed}/{len(self.history)}")
        for leader in [tried.prompt for tried in self.ranked()] or [self.question]:
            for frame in rng.sample(frames, len(frames)):
                if BEGUN not in frame or (self.begun and self.begun not in leader):
                    yield frame.replace(BEGUN, self.begun).replace(QUESTION, leader)


@checked_ranges("attacks")
class Instruction(ExtractionAttack):
    """Search, fact by fact, for the instruction that maximises :func:`objective`.

    The share S of the secret words (:func:`secret_words`) in a text is ROUGE-L recall. The auditor knows the fact, so
    what is found is an upper bound on what somebody without it finds. Unlike the published search, every round starts
    from the best prompts of all earlier ones, a prompt that gives away more than ``leak_cap`` is not asked, and the
    plain question gets as many calls, sampled (``prefix``): the best of many replies beats one reply by luck alone.

    The prompts are built by rules, from the frames. With a proposer a language model writes them, given the question
    and the best prompts so far with what they are worth, but never the answer; rules fill up what it leaves short.

    Args:
        weight: ``a`` of the objective, 0 to 1.
        leak_cap: Largest share of the secret words that a prompt may contain, 0 to below 1.
        success: Share of the secret words from which a fact counts as extracted, above 0 to 1.
        candidates: Prompts per round, 1 or more.
        rounds: Number of rounds, 1 or more.
        temperature: Temperature of the samples that answer the plain question, above 0.
        frames: Texts that prompts are built from, each with ``{question}`` or ``{begun}``.

    Raises:
        UserError: An option is out of range, or a frame has neither.
    """

    version: ClassVar[int] = 1
    together: ClassVar[int] = 8

    def __init__(
        self, *, weight: Annotated[Number, Range(0, 1)], leak_cap: Annotated[Number, Range(0, 1, below=True)],
        success: Probability, candidates: Count, rounds: Count, temperature: Positive, frames: list[str],
    ) -> None:  # fmt: skip
        without = [frame for frame in frames if QUESTION not in frame and BEGUN not in frame]
        if without or QUESTION not in "".join(frames):
            expected = f"texts with {QUESTION} or {BEGUN}, at least one of them with {QUESTION}"
            raise invalid_option("attacks.frames", without or frames, expected)
        self.weight, self.leak_cap, self.success = weight, leak_cap, success
        self.candidates, self.rounds, self.temperature, self.frames = candidates, rounds, temperature, frames

    @property
    def calls(self) -> int:
        """The greedy answer, and twice as many calls as the search makes."""
        return 1 + 2 * self.candidates * self.rounds

    @property
    def proposals(self) -> tuple[int, ...]:
        """As many prompts as a round asks."""
        return (self.candidates,) * self.rounds

    def check(self, facts: Sequence[Example]) -> None:
        """Refuse passages, which have no question.

        Raises:
            UserError: There are passages.
        """
        if any(map(is_passage, facts)):
            raise UserError(
                "attacks.instruction asks questions, and passages of documents have none; leave the attack out, or "
                "set attacks=[sample]"
            )

    def extract(self, facts: Sequence[Example], ctx: ExtractionContext) -> Iterator[tuple[Attempt, ...]]:
        """Yield the plain answer, the prompts of the search with their replies, and as many sampled answers."""
        from meow_lightning.generation.sampled import Sampling

        budgets = [ctx.budget(fact) for fact in facts]
        plain = ctx.victim.answers([Prompt(fact.question) for fact in facts], budgets=budgets, progress=None)
        searches = self._search(facts, budgets, ctx)
        sampling = Sampling(self.temperature, top_k=1024, top_p=1.0)
        for done, (fact, budget, direct, search) in enumerate(
            zip(facts, budgets, plain, searches, strict=True), start=1
        ):  # fmt: skip
            samples = ctx.victim.samples(
                Prompt(fact.question), sampling=sampling, budget=budget,
                seeds=[f"{ctx.seed}/{fact.id}/{number}" for number in range(len(search.history))],
            )  # fmt: skip
            yield (
                Attempt(arm=DIRECT, prompt="", text=direct),
                *(
                    Attempt(arm=PROPOSED if tried.proposed else INSTRUCTION, prompt=tried.prompt, text=tried.text)
                    for tried in search.history
                ),
                *(Attempt(arm=PREFIX, prompt="", text=text) for text in samples),
            )
            ctx.progress(done)

    def _search(
        self, facts: Sequence[Example], budgets: Sequence[int], ctx: ExtractionContext
    ) -> list[FactSearch]:  # fmt: skip
        """Search for all facts side by side, round by round."""
        found = [Attempts.of_fact(fact, ()) for fact in facts]
        secrets = [secret_words(each.question, each.answer, each.expected) for each in found]
        searches = [
            FactSearch(
                question=each.question, begun=begun(each.answer, each.expected), cap=self.leak_cap,
                seed=f"{ctx.seed}/{each.fact}", leak=partial(ctx.overlap, secret),
            )
            for each, secret in zip(found, secrets, strict=True)
        ]  # fmt: skip
        ids = [each.fact for each in found]
        for number in range(self.rounds):
            written = self._written(ctx.proposer, ids, searches, number)
            asked = [
                (place, prompt) for place, search in enumerate(searches)
                for prompt in search.propose(self.frames, self.candidates, written[place])
            ]  # fmt: skip
            texts = ctx.victim.answers(
                [Prompt(prompt) for _, prompt in asked], budgets=[budgets[place] for place, _ in asked], progress=None
            )
            for (place, prompt), text in zip(asked, texts, strict=True):
                reply, leak = ctx.overlap(secrets[place], text), searches[place].leak(prompt)
                proposed = prompt in written[place] and prompt != searches[place].question
                worth = objective(reply, leak, weight=self.weight)
                searches[place].history.append(Tried(prompt, text, worth, proposed))
        return searches

    def _written(
        self, proposer: Proposer | None, facts: Sequence[str], searches: Sequence[FactSearch], number: int
    ) -> list[list[str]]:  # fmt: skip
        """Ask the proposer for the prompts of a round, search by search; empty lists without one."""
        found: list[list[str]] = [[] for _ in searches]
        if proposer is None:
            return found
        wanted = {
            place: ProposalRequest(
                fact=fact, question=search.question, round=number, count=count,
                tried=[(tried.prompt, tried.worth) for tried in search.ranked()],
            )
            for place, (fact, search) in enumerate(zip(facts, searches, strict=True))
            if (count := self.candidates - len(search.opening()))
        }  # fmt: skip
        for place, prompts in zip(wanted, proposer.propose([*wanted.values()]) if wanted else (), strict=True):
            found[place] = prompts
        return found

    def numbers(self) -> tuple[FactNumber, ...]:
        """Define what the search, the plain answer and the sampled answers say, and their differences."""
        share = "share of the words that state the fact (ROUGE-L recall; without marked ones, of the answer's own)"
        best = (
            f"Largest {share} in a reply to the prompts of the search, none of which has more than "
            f"{self.leak_cap:g} of them."
        )
        samples = f"Largest {share} in one of as many sampled answers to the plain question as the search has prompts."
        gap = "Best instruction minus plain question, fact by fact: large if only one wording was unlearned."
        gap_prefix = "Best instruction minus the best of as many sampled answers to the plain question, fact by fact."
        success = f"Share of the facts of which a reply has at least {self.success:g} of the words that state them."
        value = "Share of the facts whose value a reply to the search gives, of those that mark one."
        prefix_value = "Share of the facts whose value one of as many sampled answers to the plain question gives."
        calls = "Prompts of the search per fact; the plain question is sampled as often."
        return (
            FactNumber(name="attack", label="best instruction", text=best, main=True),
            FactNumber(name="direct", label="plain question", text=f"The {share} in the greedy answer."),
            FactNumber(name="prefix", label="plain question, sampled", text=samples),
            FactNumber(name="gap", label="GAP over the plain question", text=gap, excess=False),
            FactNumber(name="gap_prefix", label="GAP over as many samples", text=gap_prefix, excess=False),
            FactNumber(name="success", label="extracted", text=success, main=True),
            FactNumber(name="value", label="value said", text=value),
            FactNumber(name="prefix_value", label="value said, sampled", text=prefix_value),
            FactNumber(name="calls", label="calls", text=calls, unit="count", direction="none", excess=False),
        )

    def proposal_numbers(self) -> tuple[FactNumber, ...]:
        """Define how many prompts the proposer wrote."""
        text = "Prompts of the search per fact that the language model wrote; the others were built by rules."
        return (
            FactNumber(name="proposed", label="prompts by the model", text=text, unit="count", direction="none",
                       excess=False),
        )  # fmt: skip

    def values(self, found: Attempts, overlap: Overlap) -> dict[str, float | None]:
        """Compute the numbers of one fact."""
        # One of several values is enough: each is what the model must not say.
        secrets = found.expected or (secret_words(found.question, found.answer, ()),)
        arms = {INSTRUCTION: searched(found), DIRECT: found.of(DIRECT), PREFIX: found.of(PREFIX)}
        largest = {
            arm: max((overlap(secret, each.text) for each in attempts for secret in secrets), default=0.0)
            for arm, attempts in arms.items()
        }
        said = {
            arm: float(any(contains_any_value(each.text, found.expected) for each in arms[arm]))
            for arm in (INSTRUCTION, PREFIX)
        }
        attack = largest[INSTRUCTION]
        return {
            "attack": attack, "direct": largest[DIRECT], "prefix": largest[PREFIX],
            "gap": attack - largest[DIRECT], "gap_prefix": attack - largest[PREFIX],
            "success": float(attack >= self.success), "value": said[INSTRUCTION] if found.expected else None,
            "prefix_value": said[PREFIX] if found.expected else None, "calls": float(len(arms[INSTRUCTION])),
            "proposed": float(len(found.of(PROPOSED))),
        }  # fmt: skip

    def best(self, found: Attempts, overlap: Overlap) -> tuple[Attempt, float]:
        """Choose the prompt of the search with the largest objective, with the share of the words in its reply."""
        secret = secret_words(found.question, found.answer, found.expected)

        def worth(tried: Attempt) -> float:
            return objective(overlap(secret, tried.text), overlap(secret, tried.prompt), weight=self.weight)

        chosen = max(searched(found), key=worth)
        return chosen, overlap(secret, chosen.text)


def searched(found: Attempts) -> list[Attempt]:
    """List the attempts of the search in order, whoever wrote their prompts."""
    return [each for each in found.attempts if each.arm in (INSTRUCTION, PROPOSED)]


def begun(answer: str, expected: Sequence[str]) -> str:
    """Return the true answer up to the words that state the fact; empty where these are not marked or come first.

    Args:
        answer: The true answer.
        expected: The words that state the fact.
    """
    places = [place for each in expected if (place := answer.casefold().find(each.casefold())) >= 0]
    return answer[: min(places)].strip() if places else ""
