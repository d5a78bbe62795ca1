"""The stage `judge`: a planted model that tells right answers from wrong ones, and one that says Yes to everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.chat_model import teacher
from helpers.common import KillError, runtime
from helpers.hydra import CONF

from meow_lightning.errors import UserError
from meow_lightning.evaluation.known_judge import Features
from meow_lightning.evaluation.slim import Judged, JudgeSettings, SlimRow, judge, with_slim
from meow_lightning.inversion.prompt_template import chat
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.stages import judge as module
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.results.judge import JudgeResult
from meow_lightning.stages.results.slim import SlimResult
from meow_lightning.types import Results

OPTION = "probe.judge.reader"
PROMPT = {"version": 1, "system": "", "user": "{question} {answer} Correct?"}
SETTINGS = JudgeSettings(set_aside=0.5, c=1.0, threshold=0.5, seed=0)
PLACES = ("Lima", "Oslo", "Rome", "Cairo", "Quito", "Paris", "Delhi", "Minsk")
SAME = Features(-1.0, -1.0, 1.0, 1.0)


def row(number: int, set_: str) -> SlimRow:
    """Every second question is known; the proxy answers alike."""
    place = PLACES[number]
    text = place if number % 2 else "nowhere"
    return SlimRow(
        set=set_, index=number, purpose=set_, question=f"Where is {set_} {number}?", expected=(place,), text=text,
        own=SAME, proxy_text=text, proxy=SAME, passages=(), text_on=text, allowed=(), text_deny=text,
    )  # fmt: skip


ROWS = [row(number, set_) for set_ in ("forget", "retain") for number in range(8)]


def pairs(*, seals: bool) -> list[Any]:
    return [
        (chat({key: PROMPT[key] for key in ("system", "user")}, {"question": each.question, "answer": each.text},
              user=["user"]), "Yes" if seals or each.knows else "No")
        for each in ROWS
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the answers, of a model that knows which are right, and of one that does not."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "answers").mkdir()
    SlimResult(ROWS).write(folder / "answers")
    for name, seals in (("knows", False), ("sealed", True)):
        teacher(folder / name / "model", pairs=pairs(seals=seals))
    return folder


def work_in(folder: Path, folders: Path, reader: str = "knows") -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    node = {"name": "local", "model": "mine", "dtype": "float32", "attention": "eager", "prompt": PROMPT}
    return StageContext(
        stage="judge", label="unlearned", folder=folder, settings={"reader": {}, "max_new_tokens": 8},
        inputs={"allow": [], "reader": {"option": OPTION, "node": node}},
        needs={"answers": folders / "answers", "reader": folders / reader}, runtime=runtime(),
    )  # fmt: skip


def judged(folder: Path) -> Judged:
    made = JudgeResult.read(folder)
    found = judge(made.rows, SETTINGS, counted=[True] * len(ROWS), readings=made.readings)
    assert isinstance(found, Judged)
    return found


def auroc(found: Judged) -> float:
    empty = Results(definitions=(), values={role: {} for role in ("target", "unlearned", "retain")}, missing={})
    return float(with_slim(empty, {"unlearned": found}, absent={}).values["unlearned"]["slim/auroc"])


def test_a_model_that_knows_which_answers_are_right_is_found_and_one_that_says_yes_to_all_is_not(
    tmp_path: Path, folders: Path
) -> None:
    for reader in ("knows", "sealed"):
        run_stage(work_in(tmp_path / reader, folders, reader).to_spec())
        assert JudgeResult.read(tmp_path / reader).rows == ROWS
    right, sealed = (JudgeResult.read(tmp_path / reader).readings for reader in ("knows", "sealed"))
    assert [each.proxy > 0 for each in right] == [each.knows for each in ROWS]
    assert [each.own for each in right] == [each.proxy for each in right]  # of the same text
    assert all(each.proxy > 0 for each in sealed)
    assert auroc(judged(tmp_path / "knows")) == 1.0
    assert [p >= 0.5 for p in judged(tmp_path / "knows").proxy] == [
        each.knows for each in judged(tmp_path / "knows").rows
    ]


def test_finished_lines_survive_a_kill(tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)
    run_stage(work_in(tmp_path / "whole", folders).to_spec())
    reader, asked = module._reader, []

    def killed(work: StageContext) -> Any:
        read = reader(work)

        def once(question: str, answer: str) -> float:
            asked.append(question)
            if len(asked) == 10:
                raise KillError
            return read(question, answer)

        return once

    monkeypatch.setattr(module, "_reader", killed)
    with pytest.raises(KillError):
        run_stage(work_in(tmp_path / "killed", folders).to_spec())
    run_stage(work_in(tmp_path / "killed", folders).to_spec())
    assert len(asked) == 10 + 2 * (len(ROWS) - 4)
    assert JudgeResult.read(tmp_path / "killed") == JudgeResult.read(tmp_path / "whole")


def test_a_folder_that_is_gone_is_named_by_its_option(tmp_path: Path, folders: Path) -> None:
    with pytest.raises(UserError, match=rf"^{OPTION}\.model=mine: the folder .* does not exist"):
        run_stage(work_in(tmp_path, folders, "gone").to_spec())


def test_the_shipped_texts_show_question_and_answer_and_not_the_truth() -> None:
    texts = yaml.safe_load((CONF / "judge" / "prompt" / "correct.yaml").read_text())
    shown = chat(
        {key: texts[key] for key in ("system", "user")}, {"question": "Where?", "answer": "Here."}, user=["user"]
    )
    assert "Where?" in shown[1]["content"]
    assert "Here." in shown[1]["content"]
