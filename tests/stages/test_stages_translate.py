"""The stage `translate`: what is asked, what is left out and why, and what a kill and a limit cost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.common import runtime
from helpers.fake_server import Request, Scripted
from helpers.hydra import CONF

from meow_lightning.data.encoding import digest_of, fingerprint
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.prompts import PROMPT_ATTACK, prompt_transform, translated_questions
from meow_lightning.stages.results.translate import TranslateResult
from meow_lightning.stages.translate import TRANSLATED_FIELDS

OPTION = "attacks.translation.translator"
DATASET: dict[str, Any] = {
    "split": "forget05", "authors": 20, "candidates": 4, "phrasings": 1, "retain_eval": 4, "seed": 0
}  # fmt: skip
FACTS = Fictional(**DATASET).facts("forget")
NODE: dict[str, Any] = {
    key: value
    for key, value in yaml.safe_load((CONF / "translator" / "endpoint.yaml").read_text()).items()
    if key not in ("defaults", "name", "languages", "questions")
}
NODE |= {"model": "m", "key_env": None, "seed": 0, "retries": 0}
NODE["prompt"] = yaml.safe_load((CONF / "translator" / "prompt" / "translate.yaml").read_text())


def work_in(folder: Path, server: Scripted, *, private: bool = False, **changes: Any) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    how = {"questions": "forget", "languages": ["French", "Spanish"]} | changes
    node = NODE | {"base_url": server.base_url} | how.pop("node", {})
    facts = translated_questions(Fictional(**DATASET), how)
    return StageContext(
        stage="translate", label="translation", folder=folder,
        settings={"translator": {"model": "m"}, **how, "facts": digest_of(facts, TRANSLATED_FIELDS)},
        inputs={
            "dataset": {"_target_": "meow_lightning.data.fictional.Fictional", **DATASET}, "allow": [], "limit": None,
            "content": fingerprint(Fictional(**DATASET)), "reuse": True, "private": private,
            "translator": {"option": OPTION, "node": node, "paid": True},
        },
        needs={}, runtime=runtime(),
    )  # fmt: skip


def asked(request: Request) -> tuple[str, str]:
    found = re.search(r"Translate into (\w+): (.*)", request.question)
    assert found
    return found[1], found[2]


def translated(request: Request) -> str:
    """Translate all but three questions: one reply is empty, one the question itself, one says the answer."""
    language, question = asked(request)
    place = [fact.question for fact in FACTS].index(question)
    if language == "French" and place < 3:
        return ["", f"French: {question}", f"{question.split()[-1]} oui {FACTS[place].value} ?"][place]
    return f"{language} {place} ?"


def test_what_is_empty_untranslated_or_tells_the_value_is_left_out_by_name(tmp_path: Path) -> None:
    with Scripted(translated) as server:
        work = work_in(tmp_path, server)
        notes = run_stage(work.to_spec())["notes"]
        assert {asked(each) for each in server.asked} == {
            (language, fact.question) for fact in FACTS for language in ("French", "Spanish")
        }
        assert not any(fact.answer in json.dumps(each.json) for fact in FACTS for each in server.asked)
    found = TranslateResult.read(tmp_path)
    reasons = {row.fact: row.reason for row in found.rows if row.language == "French" and row.reason}
    assert reasons == {FACTS[0].id: "empty", FACTS[1].id: "untranslated", FACTS[2].id: "gives the value away"}
    assert found.usable == {
        fact.id: [*[f"French {place} ?"] * (place > 2), f"Spanish {place} ?"] for place, fact in enumerate(FACTS)
    }
    for place, reason in enumerate(("empty", "untranslated", "gives the value away")):
        assert (
            f"1 of {len(FACTS)} translations into French are left out, {reason}: {FACTS[place].question!r}" in notes
        )  # fmt: skip
    assert not any("Spanish" in note for note in notes)


def test_notes_on_private_texts_name_no_question(tmp_path: Path) -> None:
    with Scripted(translated) as server:
        notes = run_stage(work_in(tmp_path, server, private=True).to_spec())["notes"]
    assert f"1 of {len(FACTS)} translations into French are left out, empty: translations.jsonl names them" in notes
    assert not any(fact.question in note for fact in FACTS for note in notes)


def test_a_killed_stage_and_one_at_its_limit_send_the_rest_alone(tmp_path: Path) -> None:
    every = 2 * len(FACTS)
    with Scripted(translated) as server:
        with pytest.raises(UserError, match=rf"^{OPTION}\.max_requests=3 is used up after 3 requests"):
            run_stage(work_in(tmp_path, server, node={"max_requests": 3}).to_spec())
        assert len(server.asked) == 3
        run_stage(work_in(tmp_path, server).to_spec())
        assert len(server.asked) == every
    assert len(TranslateResult.read(tmp_path).rows) == every


def test_a_model_that_translates_nothing_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    with Scripted(lambda request: asked(request)[1]) as server:
        with pytest.raises(UserError, match=rf"^{OPTION} translated none of the {len(FACTS)} questions to forget"):
            run_stage(work_in(tmp_path, server).to_spec())
        server_all = work_in(tmp_path / "all", server, questions="all")
    assert len(translated_questions(Fictional(**DATASET), server_all.settings)) > len(FACTS)


def test_stages_ask_what_was_translated_and_plans_as_many(tmp_path: Path) -> None:
    with Scripted(translated) as server:
        run_stage(work_in(tmp_path, server).to_spec())
    written = {"questions": "forget", "languages": ["French", "Spanish"]}
    attack = {"_target_": "meow_lightning.attacks.translation.Translation", "path": None, "template": "<{translation}>"}
    settings = {"model": {PROMPT_ATTACK: {"attack": attack, "seed": 0, "written": written}}}
    data, inputs = Fictional(**DATASET), {"allow": []}
    ways = prompt_transform(settings, inputs, data, translations=tmp_path)
    assert [way.question for way in ways(FACTS[3])] == ["<French 3 ?>", "<Spanish 3 ?>"]
    assert [way.question for way in ways(FACTS[0])] == ["<Spanish 0 ?>"]
    assert (ways(FACTS[3])[0].answer, ways(data.facts("retain")[0])) == (FACTS[3].answer, [])
    planned = prompt_transform(settings, inputs, data, translations=None)
    assert [len(planned(fact)) for fact in FACTS] == [2] * len(FACTS)
