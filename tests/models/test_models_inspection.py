from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.model_families import save_family

from meow_lightning.errors import UserError
from meow_lightning.models import inspection as looking
from meow_lightning.models.inspection import Candidate, inspect_models

TEXTS = ["Where was Ada Brook born?", "Ada Brook was born in Lima."] * 10
AUTO = {"template": "auto", "answer_prefix": ""}
NESTED = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}{{ messages[0].content }}"
)
REPEAT = "{{ 'x' * 30000000000 }}{{ messages[0].content }}"
LONG = "{{ 'word ' * 900 }}{{ messages[0].content }}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_family("qwen2_5_1_5b_instruct", tmp_path / "model", texts=TEXTS)


def candidate(folder: Path, **changes) -> Candidate:
    settings = {"name": "model.target=X", "prompt": AUTO, "attention": "sdpa"}
    return Candidate(**{"weights": str(folder), "tokenizer": str(folder), **settings, **changes})


def templated(folder: Path, template: str | None, **changes: object) -> Path:
    path = folder / "tokenizer_config.json"
    settings = {key: value for key, value in json.loads(path.read_text()).items() if key != "chat_template"}
    path.write_text(json.dumps(settings | ({} if template is None else {"chat_template": template}) | changes))
    return folder


def refused(*candidates: Candidate) -> str:
    with pytest.raises(UserError) as seen:
        inspect_models(candidates)
    assert "\n" not in str(seen.value)
    return str(seen.value)


def test_usable_models_have_no_notes(folder) -> None:
    rows = [("Where was Ada Brook born?", "Ada Brook was born in Lima.")]
    assert inspect_models([candidate(folder, rows=rows), candidate(folder, name="model.retain=Y")]) == []


def test_a_teacher_without_a_chat_template_is_noted(folder) -> None:
    templated(folder, None)
    assert inspect_models([candidate(folder)]) == []
    (note,) = inspect_models([candidate(folder, name="inversion.model=X", chats=True)])
    assert note.startswith("inversion.model=X has no chat template, so it does not follow instructions: ")


def test_a_row_is_shown_as_the_model_reads_it(folder) -> None:
    template = "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    row = ("Where was Ada Brook born?", "Ada Brook was born in Lima.")
    (note,) = inspect_models([candidate(templated(folder, template), shown=row)])
    assert note == (
        r'model.target=X reads the first question as "<|im_start|>user\nWhere was Ada Brook born?<|im_end|>\n'
        r'<|im_start|>assistant\n" and its answer as "Ada Brook was born in Lima.<|im_end|>"'
    )
    (note,) = inspect_models([candidate(folder, shown=("x" * 480, "Lima."))])
    assert "xxx … xxx" in note
    assert len(note) < 600


def test_a_context_that_cuts_answers_off_is_noted(folder) -> None:
    rows = [("Where was Ada Brook born?", "Ada Brook was born in Lima.")]
    assert inspect_models([candidate(folder, rows=rows, budget=200)]) == []
    (note,) = inspect_models([candidate(folder, rows=rows, budget=600)])
    left = int(note.split(" leaves ")[1].split()[0])
    assert 400 < left < 512
    assert note == (
        f"model.target=X reads 512 tokens, so the longest question leaves {left} for its answer, fewer than "
        "evaluation.max_new_tokens=600: answers end there"
    )


def test_notes_of_the_encoder_are_reported_with_the_model(folder) -> None:
    switch = "{{ messages[0].content }}{% if not enable_thinking %}<think></think>{% endif %}"
    (note,) = inspect_models([candidate(templated(folder, switch))])
    assert note.startswith("model.target=X: its chat template supports reasoning")


def test_a_template_that_does_not_end(folder, monkeypatch) -> None:
    monkeypatch.setattr(looking, "TEMPLATE_SECONDS", 3)
    assert refused(candidate(templated(folder, NESTED))) == (
        "model.target=X: its chat template did not terminate within 3 seconds; set model.prompt.template to a text "
        "with {question} once, or use a model with a simpler template"
    )


def test_a_template_that_fills_the_memory(folder) -> None:
    assert refused(candidate(templated(folder, REPEAT))).startswith(
        "model.target=X: its chat template runs out of memory; set model.prompt.template to a text with"
    )


def test_a_template_that_fills_the_context(folder) -> None:
    text = refused(candidate(templated(folder, LONG)))
    assert text.startswith("model.target=X: its prompt with a short question takes ")
    assert "tokens and the model's context is 512; set model.prompt.template" in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            ("Where?", "In Lima.<|im_end|>"),
            "model.target=X: a text contains '<|im_end|>', which the tokenizer reads as a",
        ),
        (
            ("Where? " * 600, "In Lima."),
            "tokens, the model's context 512: shorten it or use a model with a longer context",
        ),
    ],
)
def test_rows_that_the_model_cannot_read(folder, row, said) -> None:
    assert said in refused(candidate(folder, rows=[("Who?", "Ada."), row]))


def test_a_model_that_is_not_whole(folder) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 96}))
    assert "has 6 tensors of shapes that differ from its config.json" in refused(candidate(folder))


def test_an_attention_that_the_model_does_not_know(folder) -> None:
    text = refused(candidate(folder, attention="wishful"))
    assert text.startswith("model.target=X cannot be used with model.attention=wishful: ")


def test_a_crash_of_the_inspection_is_not_a_user_error(folder, monkeypatch) -> None:
    monkeypatch.setattr(looking, "asdict", lambda each: {"nonsense": 1})
    with pytest.raises(RuntimeError, match=r"(?s)inspecting models ended with status 1.*nonsense"):
        inspect_models([candidate(folder)])
