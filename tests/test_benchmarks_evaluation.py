"""The benchmark of evaluations runs from beginning to end, its ways give equal numbers, and it notices other ones."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meow_lightning.generation.batching import Continuation
from meow_lightning.types import AnswerRow, Fact, Likelihood

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = ["--split", "forget01", "--questions", "3", "--steps", "60", "--max-new-tokens", "40", "--wide", "1", "--cache"]


def tables(output: str) -> list[list[dict[str, str]]]:
    """The lines of every table in an output, by column."""
    found: list[list[dict[str, str]]] = []
    for block in output.split("\n\n"):
        lines = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| ")]
        found += [[dict(zip(lines[0], line, strict=True)) for line in lines[1:]]] if lines else []
    return found


def test_every_way_has_a_row_with_the_plain_numbers(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MEOW_DATA_DIR"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "evaluation.py"), *SMALL, str(tmp_path)],
        env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("this project's fictional authors: 3 forget, 3 retain, 3 real_authors, 3 world_facts")
    assert "says 100% of the forget set" in done.stdout
    whole, scoring = tables(done.stdout)
    assert [row["way"] for row in whole] == ["published", "plain", "ours"]
    assert all(row["texts differ"] == "0" and float(row["off"]) <= 1e-4 for row in whole)
    assert all(float(row["CPU-s"]) > 0 for row in whole)
    trunk = {row["way"]: int(row["trunk"]) for row in whole}
    # rows of 200: four sets' true answers, two sets' paraphrases, wrong answers, options again, two more passes
    assert trunk["published"] == 200 * (4 * 3 + 2 * 3 + 2 * 3 * 5 + 2 * 3 * 3 + 2 * 3 + 2 * 3)
    assert trunk["ours"] < trunk["plain"] < trunk["published"] / 2
    assert [(row["model"], row["before the question"]) for row in scoring[::4]] == [
        ("tiny", "nothing"), ("tiny", "45 tokens"), ("wide", "nothing"), ("wide", "45 tokens"),
    ]  # fmt: skip
    assert [row["way"] for row in scoring] == 4 * ["padded", "packed", "shared", "chosen"]
    assert all(float(row["off"]) <= 1e-4 for row in scoring)
    positions = [int(row["trunk"]) for row in scoring[-4:]]
    assert positions[0] > positions[1] > 1.4 * positions[2]


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("evaluation_numbers", "evaluation_ways", "evaluation_sharing")
    return SimpleNamespace(**{name.partition("_")[2]: importlib.import_module(name) for name in names})


class PromptEncoder:
    """Digits for tokens."""

    end_id, context, pad_id, end_ids = 0, 99, 1, frozenset({0})

    def prompt_ids(self, question: str) -> list[int]:
        return [int(each) for each in question]

    def decode_answer(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))


def row(*said: int, hits: Sequence[int] = (1, 1, 1), logps: Sequence[float] = (-1.0, -2.0, -3.0)) -> AnswerRow:
    sure = Likelihood((5, 6, 0), logps, hits, (-1.0,) * 3, (1.0,) * 3)
    return AnswerRow(
        set="forget", index=0, fact="f", question="23", answer="5 6", value=None, truth=sure, paraphrase=None,
        perturbed=(sure,), generated=said, text=PromptEncoder().decode_answer(said), stop="end",
    )  # fmt: skip


def model(*, gap: float) -> Any:
    """Two best logits that far apart, wherever one asks."""
    return lambda **_: SimpleNamespace(logits=torch.tensor([[[0.0, 1.0 + gap, 1.0]]]))


@pytest.mark.parametrize(("gap", "outcome"), [(1.0, (1, 0)), (5e-5, (0, 1))])
def test_another_text_is_noticed_and_a_tie_forgiven(modules: Any, gap: float, outcome: tuple[int, int]) -> None:
    plain, mine = [(row(5, 6), 9)], [(row(5, 7), 9)]
    differ, ties, off = modules.numbers.held_against(model(gap=gap), PromptEncoder(), mine, plain)
    assert (differ, ties) == outcome
    assert (off > 0.1) == bool(differ)


@pytest.mark.parametrize("gap", [1.0, 5e-5])
def test_another_hit_is_noticed_and_a_tie_forgiven(modules: Any, gap: float) -> None:
    plain, mine = [(row(5), 9)], [(row(5, hits=(1, 0, 1)), 9)]
    differ, ties, off = modules.numbers.held_against(model(gap=gap), PromptEncoder(), mine, plain)
    assert (differ, ties, off > 0.1) == ((0, 0, True) if gap == 1.0 else (0, 1, False))


def test_numbers_are_compared_as_a_share_of_the_plain_ones(modules: Any) -> None:
    plain, mine = [(row(5), 9)], [(row(5, logps=(-1.0, -2.0, -3.003)), 9)]
    _, _, off = modules.numbers.held_against(model(gap=1.0), PromptEncoder(), mine, plain)
    # The largest is Min-K%++'s mean of (logp + 1): it goes from -2 to -2.003; the mean of all is .0005 off.
    assert off == pytest.approx(1.5e-3)


def test_texts_are_compared_as_far_as_both_budgets_go(modules: Any) -> None:
    long = row(5, 6, 7, 8)
    short = replace(row(5, 6), stop="length")
    assert modules.numbers.held_against(model(gap=1.0), PromptEncoder(), [(long, 9)], [(short, 2)])[:2] == (0, 0)
    assert modules.numbers.held_against(model(gap=1.0), PromptEncoder(), [(long, 9)], [(short, 3)])[:2] == (1, 0)
    assert modules.numbers.parting((5, 6), (5, 6)) == [5, 6]
    assert modules.numbers.parting((5, 6), (5,)) == [5]


def test_tokens_after_the_end_token_are_dropped(modules: Any) -> None:
    assert modules.ways.said([4, 5, 0, 1, 1], frozenset({0})) == Continuation((4, 5), 0)
    assert modules.ways.said([4, 5], frozenset({0})) == Continuation((4, 5), None)


def test_a_straightforward_pass_pads_and_measures_answers(modules: Any) -> None:
    from meow_lightning.types import Encoded

    seen: list[torch.Tensor] = []

    class Encoder(PromptEncoder):
        def encode(self, question: str, answer: str) -> Encoded:
            ids = self.prompt_ids(question)
            return Encoded((*ids, *map(int, answer.split()), self.end_id), len(ids))

    def ask(**given: Any) -> Any:
        seen.append(given["labels"])
        return SimpleNamespace(logits=torch.nn.functional.one_hot(given["input_ids"].roll(-1, 1), 10).float())

    way = modules.ways.Way(size=2, width=6, length=None, again=False)
    fact = Fact("f", "23", "5 6")
    asked = [(fact, "5 6"), (fact, "7"), (fact, "8")]
    found = modules.ways.passed(ask, Encoder(), asked, modules.ways.hits_of, way)
    assert found == [[[1, 1, 1]], [[1, 1]], [[1, 1]]]
    assert [each.shape[1] for each in seen] == [6, 6]
    assert seen[0][0].tolist() == [-100, -100, 5, 6, 0, -100]
