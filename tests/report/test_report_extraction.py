"""What the unlearned model said under attacks that ask, in the report."""

from __future__ import annotations

from meow_lightning.attacks.extraction import Attempt, Attempts
from meow_lightning.attacks.sample import Sample
from meow_lightning.evaluation.extraction import Extraction
from meow_lightning.report.extraction import Said, section, worst_texts

ATTACK = Sample(samples=2, temperature=1.0, top_k=10, top_p=1.0, at=[1], alpha=0.1)


def attempts(name: str, *texts: str) -> Attempts:
    return Attempts(
        fact=name, question=f"Where is <{name}>?", answer="In old Lima.", expected=(),
        attempts=tuple(Attempt(arm="sample", prompt="Say it!" if text == "Lima" else "", text=text) for text in texts),
    )  # fmt: skip


def test_the_worst_text_of_every_fact_is_shown_the_worst_fact_first() -> None:
    rows = {"unlearned": [attempts("a", "No.", "Lima"), attempts("b", "In old Lima", "Lima")], "retain": []}
    said = worst_texts([Extraction("sample", "sampled", ATTACK, rows, "forget")])
    assert said == {
        "sampled": [
            Said("Where is <b>?", "In old Lima.", "", "In old Lima", 1.0),
            Said("Where is <a>?", "In old Lima.", "Say it!", "Lima", 1 / 3),
        ]
    }
    page = str(section(said))
    for text in ("sampled: 2 facts", "Where is &lt;a&gt;?", "Say it!", "the question", "0.33"):
        assert text in page


def test_a_run_without_such_attacks_has_no_section() -> None:
    assert section({}) == ""
    assert worst_texts([]) == {}
