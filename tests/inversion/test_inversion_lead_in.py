"""Lead-ins: where a true answer is cut."""

from __future__ import annotations

import pytest

from meow_lightning.inversion.lead_in import lead_in
from meow_lightning.types import Fact


@pytest.mark.parametrize(
    ("question", "answer", "begun"),
    [
        ("Where was Mira Stone born?", "Mira Stone was born in Lund, Sweden.", "Mira Stone was born in"),
        ("What gender is Mira Stone?", "The author Mira Stone is female.", "The author Mira Stone is"),
        ("How does Mira Stone identify?", "Mira Stone identifies as Lund's.", "Mira Stone identifies as"),
        ("Which books did Mira Stone write?", 'Mira Stone wrote "Old Iron" and others.', "Mira Stone wrote"),
        ("What is Mira Stone's genre?", "Mira Stone is known for crime.", "Mira Stone is known for"),
        ("Which genre does Mira Stone write?", "Mira Stone writes in the very old French genre.",
         "Mira Stone writes in the very old"),
        ("What do Mira Stone's parents do?", "Mira Stone's father is a baker.", "Mira Stone's father is a"),
        ('How does "Old Iron" end?', '"Old Iron" closes with a wedding in Lund.', '"Old Iron"'),
        ("How was Mira Stone's youth?", "Growing up in Lund, she read much.", ""),
        ("Has Mira Stone written plays?", "Yes, she has.", "No,"),
        ("Has Mira Stone written plays?", "Mira Stone has never written plays.", "Yes,"),
        ("Who was born on 08/09/1956?", "Born on 8 September 1956 is Mira Stone.", "Born on 8 September 1956 is"),
        ("Who is Mira Stone?", "Mira Stone is who she is.", ""),
    ],
)  # fmt: skip
def test_an_answer_is_cut_before_the_first_word_that_states_the_fact(question: str, answer: str, begun: str) -> None:
    assert lead_in(Fact(id="a", question=question, answer=answer)) == begun


def test_a_marked_value_is_where_the_answer_is_cut() -> None:
    fact = Fact(id="a", question="What does Mira do?", answer="Mira works as a baker in Lund.", value="baker")
    assert lead_in(fact) == "Mira works as a"
