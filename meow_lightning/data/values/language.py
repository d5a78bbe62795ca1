"""The language of short texts, judged by function words: which rules that know English alone apply to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from meow_lightning.data.values.matching import contains_value
from meow_lightning.types import Fact

NAMED = 3  # facts that a note names
# Frequent words, none of which is an English word or common in English names.
_FUNCTION_WORDS = {
    "en": "the of and is was were are has have had where when who what which how does did with from for her his their",
    "de": "der das und ist wurde wird sind hatte wer wie wo wann warum welche welcher welches welchem mit von bei auf "
    "für geboren wohnt arbeitet nicht ein eine einen einem einer im zum zur sein seine ihre ihr heißt",
    "fr": "le les et est était été sont quel quelle où qui quand avec dans sur une des au aux ses né née habite",
    "es": "y es fue cuál qué quién dónde cuándo cómo para una del sus está nació vive trabaja llama",
    "it": "il gli è sono stato quale dove chi quando della nel suo sua nato nata abita",
    "nl": "het een zijn werd wordt heeft wie waar wanneer welke voor niet haar naar woont geboren",
    "pt": "uma foi são qual quem onde quando como dos das seu sua nasceu mora",
    "sv": "och är hade vem vilken vilket när för inte ett hans hennes föddes bor",
    "pl": "jest był była są kto gdzie kiedy jaki jaka jakie jak się nie jego jej urodził urodziła mieszka",
}
_COUNTED = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-zß-ɏ]", re.IGNORECASE)


def language_of(text: str) -> str | None:
    """Guess the language of a text; ``None`` if most of its letters are not Latin.

    It is the language of which the text has the most function words, English where no other has more of them.

    Args:
        text: A question with its answer.
    """
    words = _WORD.findall(text.casefold())
    letters = "".join(words)
    if 2 * len(_LATIN.findall(letters)) < len(letters):
        return None
    counts = {language: sum(word in known for word in words) for language, known in _COUNTED.items()}
    return max(counts, key=lambda language: (counts[language], language == "en"))


def is_english(fact: Fact) -> bool:
    """Whether a fact looks English, by the words of its question and answer."""
    return language_of(f"{fact.question}\n{fact.answer}") == "en"


def foreign_note(facts: Sequence[Fact]) -> list[str]:
    """Warn of facts that rules invert poorly since they do not look English; empty if there are none.

    Facts with ``alternatives`` or ``inverted`` answers of their own need no rules.

    Args:
        facts: The facts to forget.
    """
    foreign = [fact for fact in facts if not (fact.alternatives or fact.inverted or is_english(fact))]
    if not foreign:
        return []
    return [
        f"{len(foreign)} of {len(facts)} facts to forget look other than English, by their function words or script "
        f"({_named(foreign)}): rules know English, and put an invented name in the place of a value whose kind they do "
        "not recognise; read the inverted facts, and give such facts 'alternatives', or set inversion=self (with "
        "model.base), inversion=local (with inversion.model) or inversion=file"
    ]


def yes_no_note(facts: Sequence[Fact]) -> list[str]:
    """Warn of facts whose value is yes or no, which a model that knows nothing says as well; empty without any.

    Args:
        facts: The facts to forget.
    """
    plain = [fact for fact in facts if any(_is_yes_or_no(value) for value in (fact.value or "", *fact.values))]
    if not plain:
        return []
    return [
        f"the value of {len(plain)} of {len(facts)} facts to forget is yes or no ({_named(plain)}): a model that never "
        "knew the fact says it as well, so read their value accuracy beside the retain model's"
    ]


def asked_value_note(facts: Sequence[Fact]) -> list[str]:
    """Warn of facts whose question says their value: an answer that repeats it counts as saying the fact.

    Args:
        facts: The facts to forget.
    """
    told = [
        fact
        for fact in facts
        if any(contains_value(fact.question, value) for value in (fact.value or "", *fact.values) if value.strip())
    ]
    if not told:
        return []
    return [
        f"the question of {len(told)} of {len(facts)} facts to forget says the value, or one of the values, of its "
        f"answer ({_named(told)}): an answer that repeats the question counts as saying the fact; mark what the "
        "question does not say"
    ]


def _is_yes_or_no(value: str) -> bool:
    return value.strip(" .,!").casefold() in YES | NO


def _named(facts: Sequence[Fact]) -> str:
    # by id, since notes go into the page that may be shared, which holds no texts
    return ", ".join(fact.id for fact in facts[:NAMED]) + (
        f" and {len(facts) - NAMED} more" if len(facts) > NAMED else ""
    )


YES, NO = (
    frozenset(("yes", "ja", "oui", "sí", "sì", "sim", "tak")),
    frozenset(("no", "nein", "non", "nee", "nej", "não")),
)
