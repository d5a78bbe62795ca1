"""A small task of lm-evaluation-harness on local files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meow_lightning.evaluation.local_questions import LocalQuestions

WORDS = ("Lima", "sea", "books", "Ada", "born", "12")
QUESTIONS = 12
FILES = {"test": {"questions": "quiz.jsonl", "label": "labels.lst"}}
CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "Question: {{goal}}\nAnswer:",
    "doc_to_choice": "{{[sol1, sol2]}}", "doc_to_target": "label",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
    "metadata": {"version": 1.0},
}  # fmt: skip


def write_quiz(folder: Path, *, long: str = "") -> None:
    """Write questions of different lengths, the last one with a long beginning, and their labels."""
    rows = [
        {
            "goal": f"{long if number == QUESTIONS - 1 else ''}Where was {WORDS[number % 6]} {number}?",
            "sol1": f"{WORDS[(number + 1) % 6]} was {WORDS[number % 5]}.",
            "sol2": " ".join(WORDS[: 1 + number % 4]),
        }
        for number in range(QUESTIONS)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "labels.lst").write_text("".join(f"{number * 7 % 3 % 2}\n" for number in range(QUESTIONS)))


def quiz(folder: Path) -> LocalQuestions:
    """Locate the questions of :func:`write_quiz`."""
    return LocalQuestions(task="quiz", files=FILES, folder=str(folder))
