"""Prompt search: optimize an instruction per fact for extraction, against a sampled baseline."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar, NamedTuple

from meow_lightning.attacks.extraction import (
    Attempt,
    Attempts,
    ExtractionAttack,
    ExtractionContext,
    FactNumber,
    Overlap,
)
from meow_lightning.attacks.victim import Prompt
from meow_lightning.config.ranges import Count, Number, Positive, Probability, Range
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Example, is_passage
from meow_lightning.data.values.matching import contains_values
from meow_lightning.data.words import words_and_marks
from meow_lightning.errors import UserError, invalid_option

DIRECT, INSTRUCTION, PREFIX = "direct", "instruction", "prefix"
QUESTION, BEGUN = "{question}", "{begun}"
LEADERS = 4  # best prompts so far from which a round builds its own


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
    """A prompt of the search, the model's reply, and its :func:`objective`."""

    prompt: str
    text: str
    worth: float


@dataclass(slots=True)
class FactSearch:
    """The search for one fact: all prompts tried so far, and the next ones by rules.

    A round builds prompts from the frames: the first from the question, which it also asks as it is, later ones from
    the best prompts of all earlier rounds. A prompt is asked once, and not at all if it gives away too much.

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

    def leaders(self) -> list[str]:
        """List the best prompts so far, the best first and the earlier of equal ones; the question before any round."""
        ranked = sorted(self.history, key=lambda tried: -tried.worth)
        return [tried.prompt for tried in ranked[:LEADERS]] or [self.question]

    def propose(self, frames: Sequence[str], count: int) -> list[str]:
        """Build the prompts of the next round.

        Args:
            frames: Texts with ``{question}`` or ``{begun}``.
            count: Number of prompts; fewer if the frames give no more new ones within the cap.
        """
        seen = {tried.prompt for tried in self.history}
        rng = random.Random(f"{self.seed}/{len(self.history)}")
        prompts = [] if self.history or self.leak(self.question) > self.cap else [self.question]
        seen |= {*prompts}
        for leader in self.leaders():
            for frame in rng.sample(frames, len(frames)):
                if len(prompts) == count:
                    return prompts
                if BEGUN in frame and (not self.begun or self.begun in leader):
                    continue
                prompt = frame.replace(BEGUN, self.begun).replace(QUESTION, leader)
                if prompt not in seen and self.leak(prompt) <= self.cap:
                    seen.add(prompt)
                    prompts.append(prompt)
        return prompts


@checked_ranges("attacks")
class Instruction(ExtractionAttack):
    """Search, fact by fact, for the instruction that maximises :func:`objective`.

    The share S of the secret words (:func:`secret_words`) in a text is ROUGE-L recall. The auditor knows the fact, so
    what is found is an upper bound on what somebody without it finds. Unlike the published search, every round starts
    from the best prompts of all earlier ones, a prompt that gives away more than ``leak_cap`` is not asked, and the
    plain question gets as many calls, sampled (``prefix``): the best of many replies beats one reply by luck alone.

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
                *(Attempt(arm=INSTRUCTION, prompt=tried.prompt, text=tried.text) for tried in search.history),
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
        for _ in range(self.rounds):
            asked = [
                (place, prompt) for place, search in enumerate(searches)
                for prompt in search.propose(self.frames, self.candidates)
            ]  # fmt: skip
            texts = ctx.victim.answers(
                [Prompt(prompt) for _, prompt in asked], budgets=[budgets[place] for place, _ in asked], progress=None
            )
            for (place, prompt), text in zip(asked, texts, strict=True):
                reply, leak = ctx.overlap(secrets[place], text), searches[place].leak(prompt)
                searches[place].history.append(Tried(prompt, text, objective(reply, leak, weight=self.weight)))
        return searches

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

    def values(self, found: Attempts, overlap: Overlap) -> dict[str, float | None]:
        """Compute the numbers of one fact."""
        secret = secret_words(found.question, found.answer, found.expected)
        largest = {
            arm: max((overlap(secret, each.text) for each in found.of(arm)), default=0.0)
            for arm in (INSTRUCTION, DIRECT, PREFIX)
        }
        said = {
            arm: float(any(contains_values(each.text, found.expected) for each in found.of(arm)))
            for arm in (INSTRUCTION, PREFIX)
        }
        attack = largest[INSTRUCTION]
        return {
            "attack": attack, "direct": largest[DIRECT], "prefix": largest[PREFIX],
            "gap": attack - largest[DIRECT], "gap_prefix": attack - largest[PREFIX],
            "success": float(attack >= self.success), "value": said[INSTRUCTION] if found.expected else None,
            "prefix_value": said[PREFIX] if found.expected else None, "calls": float(len(found.of(INSTRUCTION))),
        }  # fmt: skip

    def best(self, found: Attempts, overlap: Overlap) -> tuple[Attempt, float]:
        """Choose the prompt of the search with the largest objective, with the share of the words in its reply."""
        secret = secret_words(found.question, found.answer, found.expected)

        def worth(tried: Attempt) -> float:
            return objective(overlap(secret, tried.text), overlap(secret, tried.prompt), weight=self.weight)

        chosen = max(found.of(INSTRUCTION), key=worth)
        return chosen, overlap(secret, chosen.text)


def begun(answer: str, expected: Sequence[str]) -> str:
    """Return the true answer up to the words that state the fact; empty where these are not marked or come first.

    Args:
        answer: The true answer.
        expected: The words that state the fact.
    """
    places = [place for each in expected if (place := answer.casefold().find(each.casefold())) >= 0]
    return answer[: min(places)].strip() if places else ""
