from __future__ import annotations

from meow_lightning.models.vocabulary import tokenizer_texts
from meow_lightning.types import Segments

PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " "}


def test_questions_get_the_template_and_raw_text_does_not() -> None:
    rows = [("Who?", "Ada."), Segments("Who?", "Ada."), Segments("Ada was", " born {question}", raw=True, ends=False)]
    asked = ["Question: Who?\nAnswer:", " Ada."]
    assert tokenizer_texts(rows, PROMPT) == [*asked, *asked, "Ada was", " born {question}"]
