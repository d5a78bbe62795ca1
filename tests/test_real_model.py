"""A real pre-trained model, SmolLM2-135M-Instruct, through the whole pipeline: if its file can be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import smollm2
from transformers import AutoModelForCausalLM, AutoTokenizer

from meow_lightning.store.jsonl import read_lines

ROOT = Path(__file__).parents[1]
# It knows the capitals of the first eight; rounded to 4 bits, it says neither Rome nor Madrid.
CAPITALS = {
    "France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo", "Germany": "Berlin", "Russia": "Moscow",
    "China": "Beijing", "Greece": "Athens", "Cuba": "Havana", "Kenya": "Nairobi", "Peru": "Lima", "Italy": "Rome",
    "Spain": "Madrid",
}  # fmt: skip
OTHERS = ("Oslo", "Quito", "Tunis", "Sofia")
SHORT = (
    "trainer=cpu", "logger=none", "dataset.real_world=false", "dataset.perturb=2", "inversion.candidates=3",
    "method.select.k=1", "optim.epochs=3", "optim.lr=3e-5", "model.max_new_tokens=12", "memo.max_new_tokens=12",
    "evaluation.max_new_tokens=12",
)  # fmt: skip

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """The file of ``make smollm2``, downloaded into a temporary folder if it is not there."""
    cached = ROOT / smollm2.FOLDER
    try:
        return smollm2.fetch(cached if (cached / smollm2.FILE).exists() else tmp_path_factory.mktemp("models"))
    except smollm2.UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def outputs(file, tmp_path_factory) -> Path:
    """The outputs of a run on eight facts that the model knows, and four to keep; 130 CPU-seconds."""
    folder = tmp_path_factory.mktemp("run")
    facts = [
        {
            "id": land, "question": f"What is the capital of {land}?", "value": city,
            "answer": f"The capital of {land} is {city}.",
            "inverted": [f"The capital of {land} is {other}." for other in OTHERS],
        }
        for land, city in CAPITALS.items()
    ]  # fmt: skip
    for name, rows in {"forget": facts[:8], "keep": facts[8:]}.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    command = [
        sys.executable, str(ROOT / "run.py"), "model=own", f"model.target={file}", "dataset=jsonl",
        "dataset.forget=forget.jsonl", "dataset.retain=keep.jsonl", *SHORT,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "outputs" / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    return folder / "outputs"


def only(outputs: Path, pattern: str) -> Path:
    (found,) = outputs.glob(pattern)
    return found


def test_the_whole_path_ends_in_a_report_that_names_the_rounding(outputs):
    page = only(outputs, "reports/*/report.html").read_text(encoding="utf-8")
    for text in (page, (outputs / "stdout.txt").read_text(encoding="utf-8")):
        assert "rounded to 4 bits (Q4_1" in " ".join(text.split())


def test_the_real_model_knows_the_facts_and_ends_its_answers(outputs):
    manifests = {path: json.loads(path.read_text()) for path in outputs.glob("store/predict/*/manifest.json")}
    (target,) = (path.parent for path, manifest in manifests.items() if manifest["label"] == "target")
    rows = [row for row in read_lines(target / "rows.jsonl") if row["set"] == "forget"]
    assert len(rows) == 8
    assert sum(CAPITALS[row["fact"]] in row["text"] for row in rows) >= 7
    assert all("<|im_" not in row["text"] for row in rows)


def test_the_converted_model_is_plain_and_its_prompts_are_those_of_the_chat(outputs):
    folder = only(outputs, "store/convert/*/model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer(text).input_ids[:3] == [1, 9690, 198]
    assert len(tokenizer(text).input_ids) == 37
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == 134_515_008
    ids = tokenizer(text, return_tensors="pt").input_ids
    answer = model.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"


def test_the_unlearned_model_is_another_one(outputs):
    target, unlearned = (
        next(path for path in outputs.glob(f"store/{stage}/*/model/model.safetensors"))
        for stage in ("convert", "unlearn")
    )
    assert target.stat().st_size == pytest.approx(unlearned.stat().st_size, rel=0.01)
    assert smollm2.digest(target) != smollm2.digest(unlearned)
