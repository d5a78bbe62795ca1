"""TinyMem (Sakarvadia et al. 2025): number sequences by a rule, some of them with noise that can only be memorised."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated

from meow_lightning.config.ranges import Count, Range, Seed
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.checks import check_range
from meow_lightning.data.examples import EvalSet, Passage
from meow_lightning.errors import check_choice, invalid_option
from meow_lightning.types import Segments

TOKENIZER_ROWS = 2000
NOISE = 0.1  # published: .05 for each of one more and one less
SPLITS = ("forget", "twins", "retain", "held_out", "holdout")


@checked_ranges("dataset")
class TinyMem:
    """Arithmetic sequences x, x + c, x + 2c, ... mod m, written in digits; the first terms are shown and determine c.

    Sequences to forget differ from the rule: each term after those that are shown is off by one with probability .1, at
    least one of them. A model that follows the rule gives their clean twins; one that gives the noise has memorised it.
    All sequences differ in x or c, so that no two have the same prompt.

    Published data also has multiplication and backdoors, sequences of 20 terms mod 20,134, and noise in all of them, of
    which the clean twin's beginning is shown; here the noise begins after the terms that are shown.
    """

    name = "tinymem"
    public = True

    def __init__(
        self, *, forget: Count, retain: Count, held_out: Count, prefix_terms: Annotated[int, Range(2, 1000)],
        target_terms: Annotated[int, Range(1, 1000)], steps: list[Count], modulus: Annotated[int, Range(10, 10**6)],
        seed: Seed,
    ) -> None:  # fmt: skip
        """Generate all sequences.

        Args:
            forget: Number of noisy sequences to forget; as many others, which no model is trained on, are held out for
                membership attacks.
            retain: Number of clean sequences to keep.
            held_out: Number of clean sequences that no model is trained on, which measure what generalises.
            prefix_terms: Terms that the model is shown, 2 or more: fewer do not determine the rule.
            target_terms: Terms that it is trained and scored on, 1 or more.
            steps: Values of c, each from 1 and below the modulus.
            modulus: m, from 10.
            seed: Seed of starts and noise.

        Raises:
            UserError: An argument is out of range, or the rules have fewer sequences.
        """
        if not steps:
            raise invalid_option("dataset.steps", "[]", "at least one difference", did_you_mean="[7]")
        for step in steps:
            check_range("dataset.steps", step, 1, modulus - 1)
        rules = [(start, step) for step in dict.fromkeys(steps) for start in range(modulus)]
        sequences = 2 * forget + retain + held_out
        if sequences >= len(rules):
            expected = f"a number with more than {sequences} sequences, which modulus times the number of steps gives"
            least = sequences // (len(rules) // modulus) + 1
            raise invalid_option("dataset.modulus", modulus, expected, did_you_mean=least)
        self._prefix, self._terms = prefix_terms, prefix_terms + target_terms
        self._modulus, self._seed = modulus, seed
        Random(f"{seed}/tinymem/rules").shuffle(rules)
        counts = {"forget": forget, "holdout": forget, "held_out": held_out, "retain": retain}
        self._splits: dict[str, list[Passage]] = {}
        for name, count in counts.items():
            if name == "retain":
                self._stream = rules  # the base model's language: all rules that are neither noisy nor held out
            mine, rules = rules[:count], rules[count:]
            noisy = name in ("forget", "holdout")
            self._splits[name] = [self._sequence(name, rule, noisy=noisy) for rule in mine]
            if name == "forget":
                self._splits["twins"] = [self._sequence("twins", rule) for rule in mine]

    def facts(self, split: str) -> Sequence[Passage]:
        """Return the sequences of a split.

        Args:
            split: ``forget`` (noisy), ``twins`` (the same without noise), ``retain``, ``held_out`` or ``holdout``
                (noisy, never trained on); empty for the sets of the real world.

        Raises:
            UserError: Unknown split.
        """
        check_choice("split", split, (*SPLITS, "real_authors", "world_facts"))
        return list(self._splits.get(split, ()))

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets; the twins are what a model without the noise gives to the same prompts."""
        purposes = {
            "forget": "forget",
            "retain": "retain",
            "held_out": "utility",
            "twins": "near",
            "holdout": "holdout",
        }
        return {
            name: EvalSet(name, tuple(self._splits[name]), purpose)  # type: ignore[arg-type]
            for name, purpose in purposes.items()
        }

    def pretraining_examples(self, rows: int, seed: int) -> list[Passage]:
        """Sample clean sequences, of which those to keep are a part; only the two that determine the rule are shown.

        Args:
            rows: Number of rows, 0 or more.
            seed: Different seeds give different rows; the dataset's own seed also enters.
        """
        rng = Random(f"{self._seed}/tinymem/stream/{seed}")
        drawn = (rng.choice(self._stream) for _ in range(rows))
        return [self._sequence(f"stream/{row:06d}", rule, shown=2) for row, rule in enumerate(drawn)]

    def tokenizer_corpus(self) -> list[Segments]:
        """Return clean sequences, so that every term below the modulus may become a token."""
        return [sequence.segments for sequence in self.pretraining_examples(TOKENIZER_ROWS, self._seed)]

    def caveats(self) -> tuple[str, ...]:
        """Describe what is not measured."""
        return ("number sequences have no wrong answers: truth ratio, forget quality and model utility are missing",)

    def _sequence(self, split: str, rule: tuple[int, int], *, noisy: bool = False, shown: int | None = None) -> Passage:
        start, step = rule
        rng = Random(f"{self._seed}/tinymem/{start}/{step}")
        terms = [(start + place * step) % self._modulus for place in range(self._terms)]
        if noisy:
            targets = range(self._prefix, self._terms)
            for place in [each for each in targets if rng.random() < NOISE] or [rng.choice(targets)]:
                terms[place] = (terms[place] + rng.choice((-1, 1))) % self._modulus
        words = [str(term) for term in terms]
        prefix = len(" ".join(words[: self._prefix if shown is None else shown]))
        return Passage(f"{split}/{start}+{step}", " ".join(words), prefix, ends=True)
