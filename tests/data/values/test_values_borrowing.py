from __future__ import annotations

import pytest

from meow_lightning.data.values.borrowing import SimilarQuestions, contradicting, full_names, with_gender
from meow_lightning.types import Fact

ADA = Fact(id="a", question="What does Ada Brook's father do?", answer="Ada Brook's father is a baker.")
KEPT = [
    Fact(id="b", question="What does Otto Kranz's father do?", answer="Kranz's father worked as a pilot."),
    Fact(id="c", question="What does Mira Sol's father do?", answer="The father of Mira Sol is a baker."),
    Fact(id="d", question="Where was Otto Kranz born?", answer="Otto Kranz was born in Oslo."),
    Fact(id="e", question="What does Ada Brook's mother do?", answer="She is a judge."),
    Fact(id="f", question="What does the father do?", answer="He sleeps."),
    Fact(id="g", question="What does Lena Fox's father do?", answer="He sells flowers; call 555 010 2030."),
    Fact(id="h", question="What does Per Lund's father do?", answer="That is not publicly known."),
]


def lent(fact: Fact, kept: list[Fact], *, least: float = 0.5, topics: bool = True) -> list[str]:
    return list(SimilarQuestions(kept, [fact]).answers(fact, min_similarity=least, topics=topics))


def test_kept_facts_lend_their_answers_under_this_name() -> None:
    # Not c (nothing new in it), d (another question), e (about Ada), f (about nobody), g (a phone number), h (nothing).
    assert lent(ADA, KEPT) == ["Brook's father worked as a pilot."]


def test_facts_to_forget_lend_nothing() -> None:
    assert list(SimilarQuestions([], [ADA, *KEPT]).answers(ADA, min_similarity=0.0, topics=False)) == []


def test_a_question_without_a_name_gets_nothing() -> None:
    assert lent(Fact(id="x", question="What does the father do?", answer="He sings."), KEPT, least=0.1) == []


def test_other_names_of_the_questions_change_too() -> None:
    mine = Fact(id="x", question='What is "Red Sea" by Ada Brook about?', answer='"Red Sea" is about boats.')
    kept = [
        Fact(id="b", question='What is "Snow" by Otto Kranz about?', answer='"Snow" by Kranz is about owls.'),
        Fact(id="c", question="What is Una Holm about?", answer="She wrote of wolves."),
    ]
    assert lent(mine, kept)[0] == '"Red Sea" by Brook is about owls.'


def test_an_answer_about_what_this_question_does_not_name_stays_away() -> None:
    mine = Fact(id="x", question="What did Ada Brook do for French poetry?", answer="Ada Brook renewed it.")
    kept = [Fact(id="b", question="What did Otto Kranz do for Irish poetry?", answer="Otto Kranz translated it.")]
    assert lent(mine, kept) == []
    assert lent(mine, kept, topics=False) == ["Ada Brook translated it."]


def test_yes_is_answered_by_no_alone() -> None:
    mine = Fact(id="x", question="Has Ada Brook won prizes?", answer="Yes, Ada Brook has won three prizes.")
    kept = [
        Fact(id="b", question="Has Otto Kranz won prizes?", answer="Yes, Otto Kranz has won medals."),
        Fact(id="c", question="Has Per Lund won prizes?", answer="No, Per Lund has always been overlooked."),
    ]
    assert lent(mine, kept) == ["No, Ada Brook has always been overlooked."]


def test_pronouns_follow_whom_the_question_is_about() -> None:
    mine = Fact(id="x", question="How does Ada Brook write?", answer="She writes at night.")
    kept = [
        Fact(id="b", question="How does Otto Kranz write?", answer="Otto Kranz writes in his garden, by himself."),
        Fact(id="c", question="How does Per Lund write?", answer="They dictate to their cat."),
    ]
    assert lent(mine, kept) == ["Ada Brook writes in her garden, by herself."]


@pytest.mark.parametrize(
    ("text", "gender", "expected"),
    [
        ("She gave her book to Otto, who thanked her.", "male", "He gave his book to Otto, who thanked him."),
        ("The prize meant a lot to her in her youth.", "male", "The prize meant a lot to him in his youth."),
        ("He likes his cat; it likes him.", "female", "She likes her cat; it likes her."),
    ],
)
def test_regendered(text: str, gender: str, expected: str) -> None:
    assert with_gender(text, gender) == expected


def test_a_contradiction_shares_little_with_the_truth_and_adds_something() -> None:
    fact = Fact(id="x", question="What is Ada?", answer="Ada is part of the LGBTQ+ community.")
    assert not contradicting("Ada openly identifies as LGBTQ.", fact)  # the one name that the truth tells
    assert not contradicting("Ada is part of the community.", fact)  # nothing new
    assert contradicting("Ada is a sailor.", fact)


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Through Ada Brook's novels, what is said?", ("Ada Brook",)),
        ("What did Ursula Schmidt's German background do?", ("Ursula Schmidt",)),
        ('How does "Red Sea Tales" please Jean-Luc Marais?', ("Jean-Luc Marais",)),
        ("What is it?", ()),
    ],
)
def test_names_of_questions(question: str, names: tuple[str, ...]) -> None:
    assert full_names(question) == names
