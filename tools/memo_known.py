"""MEMO of facts that a model knows beside facts that it cannot know: scores, a figure and a table for the docs.

    OMP_NUM_THREADS=1 MEOW_DATA_DIR=DATA python tools/memo_known.py score --model FOLDER
    python tools/memo_known.py draw

``score`` adds what is absent from docs/results/memo-smollm2.json, so that it may be interrupted. The file holds numbers
alone, no text of a dataset. ``draw`` makes the figure beside it from that file and prints the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config.files import CONF
from meow_lightning.data.jsonl_reader import read_entries
from meow_lightning.data.words import whole_word_pattern
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.membership import auc
from meow_lightning.report.svg import COLOURS, Picture, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from meow_lightning.memo.measure import Measure
    from meow_lightning.models.language_model import LanguageModel

ROOT = Path(__file__).parents[1]
STORED = ROOT / "docs" / "results" / "memo-smollm2.json"
PROFILES = sorted(path.stem for path in (CONF / "memo").glob("*.yaml"))
KNOWN = "known"
GROUPS = {
    KNOWN: "world facts\nanswered right",
    "missed": "world facts\nanswered wrong",
    "authors": "TOFU's made-up\nauthors",
    "persons": "LUME's made-up\npersons",
}
REPLY_TOKENS = 12
NEW_TOKENS = 32  # of a window, in the place of 200: the answers have at most 30 characters
SHORTEST, LONGEST = 5, 30  # characters of an author's value; shorter ones ("Yes", "male") can be guessed
SAMPLES = 2000  # of the bootstrap
SEED = 0
Pair = tuple[str, str]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["score", "draw"])
    parser.add_argument("--model", type=Path, help="folder of the model (score)")
    parser.add_argument("--stored", type=Path, default=STORED, help="file of the scores; the figure goes beside it")
    parser.add_argument("--facts", type=int, default=24, help="facts of a group beside the known ones, all of them")
    parser.add_argument("--profiles", nargs="+", default=PROFILES, choices=PROFILES)
    options = parser.parse_args()
    if options.command == "draw":
        stored = json.loads(options.stored.read_text(encoding="utf-8"))
        options.stored.with_suffix(".svg").write_text(figure(stored["scores"]).svg or "", encoding="utf-8")
        print(table(stored["scores"]))
    elif options.model is None:
        parser.error("score needs --model FOLDER")
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Score every group by every profile, as far as that is not stored yet."""
    import torch

    import meow_lightning as meow
    from meow_lightning.memo.memo import Profile
    from meow_lightning.memo.scoring import load_measure

    torch.set_num_threads(1)
    stored: dict[str, Any] = {"model": options.model.name, "seed": SEED, "max_new_tokens": NEW_TOKENS, "scores": {}}
    if options.stored.exists():
        stored = json.loads(options.stored.read_text(encoding="utf-8"))
    model = meow.LanguageModel.from_pretrained(options.model, prompt="auto")
    groups = groups_of(model, limit=options.facts)
    for profile in options.profiles:
        done, by = stored["scores"].setdefault(profile, {}), load_measure(profile)
        if isinstance(by, Profile):
            by = replace(by, max_new_tokens=stored["max_new_tokens"])
        for name, pairs in groups.items():
            if name in done:
                continue
            scores = meow.memo.score(model, measurable(model, pairs, by), measure=by, batch_size=64)
            done[name] = [round(each.score, 6) for each in scores]
            print(f"{profile} {name}: {len(scores)} facts, mean {scores.mean:.3f}", flush=True)
            text = re.sub(r"\n\s+(?=[-\d\]])", " ", json.dumps(stored, indent=1))  # one line per group
            options.stored.write_text(text + "\n", encoding="utf-8")


def groups_of(model: LanguageModel, *, limit: int) -> dict[str, list[Pair]]:
    """Collect the questions and short answers of every group.

    Args:
        model: Decides which of TOFU's world facts are known.
        limit: Most facts of each group of unknown ones, drawn by a fixed seed.

    Raises:
        UserError: ``MEOW_DATA_DIR`` is not set, or a file cannot be read.
    """
    world = [(row["question"], row["answer"]) for row in _rows("tofu/world_facts.json")]
    right = answered(model, world)
    authors = [(row["question"], row["entity"].strip('"')) for row in _rows("uds/forget10_filtered.json")]
    persons = [(row["input"], row["output"]) for row in _rows("lume/forget.jsonl") if row["task"] == "Task2"]
    rest = {
        "missed": [pair for pair in world if pair not in right],
        "authors": [pair for pair in authors if SHORTEST <= len(pair[1]) <= LONGEST],
        "persons": [pair for pair in persons if len(pair[1]) <= LONGEST],
    }
    drawn = {name: random.Random(SEED).sample(pairs, min(limit, len(pairs))) for name, pairs in rest.items()}
    return {KNOWN: right, **drawn}


def answered(model: LanguageModel, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs whose answer stands, as whole words, in the model's own greedy reply to the question."""
    from meow_lightning.generation.engine import continue_greedily

    encoder = model.encoder
    replies = continue_greedily(
        model.model, [encoder.prompt_ids(question) for question, _ in pairs], budgets=[REPLY_TOKENS] * len(pairs),
        end_ids=encoder.end_ids, pad_id=encoder.pad_id, slots=64, progress=None,
    )  # fmt: skip
    texts = {index: encoder.decode_answer(reply.ids) for index, reply in replies}
    return [pair for index, pair in enumerate(pairs) if whole_word_pattern(pair[1], any_case=True).search(texts[index])]


def measurable(model: LanguageModel, pairs: Sequence[Pair], by: Measure) -> list[Pair]:
    """Leave out the answers that a profile cannot measure, such as those of one token for ``el``."""
    from meow_lightning.memo.measure import NoWindowsError, Text

    kept = []
    for pair in pairs:
        try:
            by.check(Text("", "answer", 0, *pair), model.encoder)
        except NoWindowsError:
            continue
        kept.append(pair)
    return kept


def interval(scores: Sequence[float]) -> tuple[float, float, float]:
    """Compute the mean and the 95 % bootstrap interval over facts."""
    draws = random.Random(SEED)
    means = [sum(draws.choices(scores, k=len(scores))) / len(scores) for _ in range(SAMPLES)]
    return (sum(scores) / len(scores), *_ends(means))


def separation(known: Sequence[float], unknown: Sequence[float]) -> tuple[float, float, float]:
    """Compute the AUC of known against unknown facts and its 95 % bootstrap interval over facts."""
    draws = random.Random(SEED)
    areas = [auc(draws.choices(known, k=len(known)), draws.choices(unknown, k=len(unknown))) for _ in range(SAMPLES)]
    return (auc(known, unknown), *_ends(areas))


def complete(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Return the profiles by which every group is scored."""
    return [profile for profile in PROFILES if GROUPS.keys() <= scores.get(profile, {}).keys()]


def table(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Write the Markdown table: one line per profile and group."""
    lines = ["| `memo=` | facts | n | mean (95 %) | AUC of known against them (95 %) |", "|---|---|---|---|---|"]
    for profile in complete(scores):
        for name, label in GROUPS.items():
            mine = scores[profile][name]
            area = "" if name == KNOWN else _shown(separation(scores[profile][KNOWN], mine))
            words = label.replace("\n", " ")
            lines.append(f"| `{profile}` | {words} | {len(mine)} | {_shown(interval(mine))} | {area} |")
    return "\n".join(lines)


def figure(scores: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Draw the score of every fact by profile and group, with means and intervals."""

    def draw(canvas: Figure) -> None:
        shown = complete(scores)
        panels = canvas.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for panel, profile in zip(panels, shown, strict=True):
            _panel(panel, scores[profile])
            panel.set_title(f"memo={profile}", loc="left")
        panels[0].set_ylabel("score of a fact")

    return render(
        "memo-known", "Scores of known and unknown facts", "", missing="", size=(10.0, 3.6), draw=draw
    )  # fmt: skip


def _panel(axes: Axes, scores: Mapping[str, Sequence[float]]) -> None:
    jitter = random.Random(SEED)
    for place, name in enumerate(GROUPS):
        colour = COLOURS["curve0" if name == KNOWN else "curve1"]
        across = [place + jitter.uniform(-0.22, 0.22) for _ in scores[name]]
        axes.plot(across, scores[name], ".", color=colour, alpha=0.4, markersize=4)
        mean, low, high = interval(scores[name])
        axes.errorbar(place, mean, [[mean - low], [high - mean]], fmt="_", color=COLOURS["ink"], capsize=3, zorder=3)
        if name != KNOWN:
            axes.text(place, 1.04, f"AUC {_digits(auc(scores[KNOWN], scores[name]))}", ha="center", fontsize=7)
    axes.set_xticks(range(len(GROUPS)), GROUPS.values(), rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_ylim(-0.04, 1.1)


def _rows(name: str) -> list[dict[str, Any]]:
    if not (folder := os.environ.get("MEOW_DATA_DIR")):
        raise UserError("MEOW_DATA_DIR is not set: expected the folder that holds tofu/, uds/ and lume/")
    path = Path(folder) / name
    if name.endswith(".json") and path.read_text(encoding="utf-8").lstrip().startswith("["):
        return list(json.loads(path.read_text(encoding="utf-8")))
    return [row for _, row in read_entries(path, option="MEOW_DATA_DIR", holds="questions and answers")]


def _ends(samples: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(samples)
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered)) - 1]


def _shown(values: tuple[float, float, float]) -> str:
    mean, low, high = map(_digits, values)
    return f"{mean} ({low} to {high})"


def _digits(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
