"""Wrong answers without any language model: numbers and names give way to others, else whole answers are borrowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from random import Random

from meow_lightning.types import Fact
from meow_lightning.words import whole

BORROWED = 64  # answers that one fact borrows from: more make no better wrong answers, only slower ones
SHARE = 4  # wrong answers take a quarter of what the rules find, since inversion rules live on the same finds
_NUMBER = re.compile(r"\d+")
# Several capital words anywhere, or one inside a sentence: a sentence's first word alone is no name.
_NAME = re.compile(r"\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)+|(?<=[a-z0-9,;:] )[A-Z][\w'-]+")


def swapped_answers(answer: str, borrowed: Sequence[str], *, count: int, dice: Random) -> list[str]:
    """Up to ``count`` texts other than ``answer``, none twice unless ``borrowed`` holds one twice.

    An answer with numbers gets other numbers, at most 40 and at most half of the old one away (2 are always allowed);
    names become names that occur in ``borrowed``. An answer with neither gives way to whole texts of ``borrowed``.

    Args:
        answer: The text to change.
        borrowed: Answers to other questions.
        count: Most texts wanted, 0 or more.
        dice: Where chance comes from.
    """
    known = sorted({name for other in borrowed for name in names(other)} - set(names(answer)))
    if _NUMBER.search(answer) or (known and names(answer)):
        # Twice as many draws as wished for, since chance repeats itself.
        drawn = [_swapped(answer, known, dice) for _ in range(2 * count)]
        return [text for text in dict.fromkeys(drawn) if text != answer][:count]
    return dice.sample(borrowed, min(count, len(borrowed)))


def wrong_answers(fact: Fact, borrowed: Sequence[str], *, count: int, dice: Random) -> list[str]:
    """Up to ``count`` wrong answers to measure with, in the phrasing of the fact's paraphrase where it has one.

    None is the true answer, its paraphrase, an inverted answer or another of them, and none holds the fact's value or
    one of its alternatives. Where the rules find few, only a quarter of them is taken, but one at least: what
    evaluation measures with is closed to inversion, which would find nothing else.

    Args:
        fact: The fact; its own answer may be among ``borrowed``.
        borrowed: Answers of other facts.
        count: Most answers wanted, 0 or more.
        dice: Where chance comes from.
    """
    # Dice of their own, so that another fact in the file changes no answer that has numbers alone to swap.
    drawn = Random(dice.random()).sample(borrowed, min(BORROWED, len(borrowed)))
    pool = [text for text in drawn if text != fact.answer]
    phrasing = fact.answer if fact.paraphrase is None else fact.paraphrase
    wanted = SHARE * count + len(fact.inverted)
    found = _fitting(swapped_answers(phrasing, pool, count=wanted, dice=dice), fact)
    if not found:  # as when the value is neither a number nor a name, so that every swap left it in place
        found = _fitting(dice.sample(pool, len(pool)), fact)
    return found[: min(count, max(1, len(found) // SHARE))]


def named(text: str) -> bool:
    """Whether a text holds a name that could give way to another."""
    return bool(names(text))


def normal(text: str) -> str:
    """A text for comparing: lower case, single blanks, no punctuation at its ends."""
    return re.sub(r"\s+", " ", text).strip(" .,;:!?\"'").lower()


@lru_cache(maxsize=8192)
def names(text: str) -> tuple[str, ...]:
    """The names in a text, as far as capitals tell: several capital words, or one inside a sentence."""
    return tuple(_NAME.findall(text))


def _fitting(texts: Iterable[str], fact: Fact) -> list[str]:
    """The texts that say something else than the fact, each once."""
    true = [normal(text) for text in (fact.answer, fact.paraphrase or "")]
    # An alternative that the true answer names anyway rules nothing out.
    other = [words for words in map(normal, fact.alternatives) if not any(map(whole(words).search, true))]
    closed = [whole(words) for words in (normal(fact.value or ""), *other) if words]
    seen = {*true, *map(normal, fact.inverted)}
    kept = []
    for text in texts:
        plain = normal(text)
        if plain and plain not in seen and not any(word.search(plain) for word in closed):
            kept.append(text)
            seen.add(plain)
    return kept


def _swapped(answer: str, known: Sequence[str], dice: Random) -> str:
    def number(found: re.Match[str]) -> str:
        old = int(found.group())
        step = dice.choice([-1, 1]) * dice.randint(1, max(2, min(40, old // 2)))
        return str(max(0, old + step) if old else abs(step))

    swapped = _NUMBER.sub(number, answer)
    return _NAME.sub(lambda _: dice.choice(known), swapped) if known else swapped
