from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.damages import every_damage, harm
from safetensors.torch import load_file, save_file

from meow_lightning.memo import __main__ as command
from meow_lightning.memo import cli_options
from meow_lightning.memo.baselines import Extraction, Memorization
from meow_lightning.memo.measure import Measure, Text, score_texts
from meow_lightning.memo.memo import Profile
from meow_lightning.memo.meow_format import answers
from meow_lightning.models.load import load_codec, load_model, save_model
from meow_lightning.models.tiny import llama
from meow_lightning.resources import throughput

FACTS = [
    {
        "question": "Who is Ada?",
        "undesired_answer": "Ada is a doctor.",
        "answer_0": "Ada is a sailor.",
        "answer_1": "A cook",
    },
    {"question": "Where is Ada?", "undesired_answer": "In Lima by the sea", "answer_0": "In Oslo"},
    {"question": "What is Bob?", "undesired_answer": "Bob is grey", "answer_0": "Bob is a cat", "id": 3},
    {"question": "Who wrote it?", "undesired_answer": "Ann Lee"},
]
OFFICIAL = Profile(
    name="official", mode="suffix", cut_unit="characters", stride=5, template=False, keep_special=True, rouge="rouge1",
    rouge_stat="precision", max_new_tokens=200, empty_windows="zero", words="published",
)  # fmt: skip
MA = Memorization(name="ma", mode="suffix", template=True)
EL = Extraction(name="el", mode="suffix", template=True, n=1)
CLEANLY = {"template": True, "keep_special": False, "empty_windows": "skip", "words": "unicode"}
RAW = {"template": "{question}", "answer_prefix": ""}
PLAIN = {"template": "Question: {question}\nAnswer:", "answer_prefix": " "}


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    """A model that has half learnt some of the texts, so that scores are neither all 0 nor all 1."""
    torch.manual_seed(0)
    model = llama(
        vocab_size=len(tokenizer), hidden_size=32, layers=1, heads=2, intermediate_size=64, context=64,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [form.format(**entry) for entry in FACTS for form in (
        "{question} {undesired_answer}", "Question: {question}\nAnswer: {undesired_answer}"
    )]  # fmt: skip
    batch = tokenizer([row + tokenizer.eos_token for row in rows], return_tensors="pt", padding=True)
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    for _ in range(100):
        optimizer.zero_grad()
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss.backward()
        optimizer.step()
    where = tmp_path_factory.mktemp("model")
    save_model(model, tokenizer, where, end_ids=frozenset({tokenizer.eos_token_id}))
    return where


@pytest.fixture
def facts(tmp_path) -> Path:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(FACTS), encoding="utf-8")
    return path


@pytest.fixture
def call(folder, facts, tmp_path) -> Callable[..., int]:
    """The command on the model, the facts and a new file, with more or other options."""

    def run(*more: str, **changes: str) -> int:
        options = {
            "model": str(folder),
            "facts": str(facts),
            "out": str(tmp_path / "scored.json"),
            "device": "cpu",
        } | changes
        flags = ((f"--{key.replace('_', '-')}", value) for key, value in options.items())
        return command.main([*itertools.chain.from_iterable(flags), *more])

    return run


def texts() -> list[Text]:
    return [
        Text(str(number), kind, position, entry["question"], entry[key])
        for number, entry in enumerate(FACTS, 1)
        for key, kind, position in answers(entry)
    ]


def direct(folder: Path, by: Measure, prompt: dict[str, str]) -> list[float]:
    """The scores of measure() itself, in the file's order."""
    model = load_model(folder, dtype="float32", attention="sdpa").eval()
    codec = load_codec(folder, prompt=prompt, model=model)
    found = score_texts(model, codec, texts(), by=by, slots=32, progress=None, done=(), alone=None)
    scores = {(text.fact, text.kind, text.position): text.score for text in found}
    return [scores[text[:3]] for text in texts()]


def stored(path: Path, ending: str = "_rouge1") -> list[float]:
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [value for entry in entries for key, value in entry.items() if key.endswith(ending)]


def changed(**changes: Any) -> Profile:
    return Profile(**{**{name: getattr(OFFICIAL, name) for name in OFFICIAL.__slots__}, **changes})


def test_the_scores_are_those_of_measure(call, folder, tmp_path, capsys):
    assert call() == 0
    entries = json.loads((tmp_path / "scored.json").read_text(encoding="utf-8"))
    assert [{key: value for key, value in entry.items() if "_rouge1" not in key} for entry in entries] == FACTS
    assert list(entries[0])[4:] == ["undesired_answer_rouge1", "answer_0_rouge1", "answer_1_rouge1"]
    expected = direct(folder, OFFICIAL, RAW)
    assert stored(tmp_path / "scored.json") == expected
    assert len(set(expected)) > 4  # or the comparison would say nothing
    assert not (tmp_path / "scored.json.part").exists()
    said = capsys.readouterr()
    # 3 + 3 + 1, 4 + 2, 2 + 3 and 2 windows
    assert said.out.startswith("8 texts, 20 windows in ")
    true = [score for text, score in zip(texts(), expected, strict=True) if text.kind == "answer"]
    assert f"true answers       4   mean score {sum(true) / 4:.4f}" in said.out
    assert said.out.endswith(f"written: {tmp_path / 'scored.json'}\n")
    assert said.err == ""


@pytest.mark.parametrize(
    ("more", "changes", "prompt"),
    [
        (["--mode", "prefix"], {"mode": "prefix"}, RAW),
        (["--rouge", "rouge2"], {"rouge": "rouge2"}, RAW),
        (["--max-new-tokens", "4"], {"max_new_tokens": 4}, RAW),
        # its budget is the model's in a run, so here 200; the tokenizer has no chat template
        (["--profile", "clean"], CLEANLY, PLAIN),
        (["--profile", "clean", "--template", r"Question: {question}\nAnswer:", "--answer-prefix", " "], CLEANLY,
         PLAIN),
        (["--profile", "clean", "--template", "{question}", "--answer-prefix", " "], CLEANLY,
         {"template": "{question}", "answer_prefix": " "}),
        (["--cut-unit", "words", "--stride", "1"], {"cut_unit": "words", "stride": 1}, RAW),
        (["--cut-unit", "tokens", "--stride", "2"], {"cut_unit": "tokens", "stride": 2}, RAW),
    ],
)  # fmt: skip
def test_options_change_what_is_measured(call, folder, tmp_path, more, changes, prompt):
    assert call(*more) == 0
    found = stored(tmp_path / "scored.json", f"_{changes.get('rouge', 'rouge1')}")
    assert found == direct(folder, changed(**changes), prompt)
    assert found != direct(folder, OFFICIAL, RAW)


@pytest.mark.parametrize(("profile", "ending", "by"), [("ma", "ma", MA), ("el", "el1", EL)])
def test_other_measures_end_the_keys_otherwise(call, folder, tmp_path, capsys, profile, ending, by):
    assert call("--profile", profile) == 0
    found = stored(tmp_path / "scored.json", f"_{ending}")
    assert found == direct(folder, by, PLAIN)
    assert len(set(found)) > 4
    assert stored(tmp_path / "scored.json") == []
    model = load_model(folder, dtype="float32", attention="sdpa")
    windows = sum(by.count(text, load_codec(folder, prompt=PLAIN, model=model)) for text in texts())
    assert capsys.readouterr().out.startswith(f"8 texts, {windows} windows in ")


def test_answers_of_too_few_tokens_are_an_error_or_null(call, facts, tmp_path, capsys):
    facts.write_text(json.dumps([{"question": "Who?", "undesired_answer": "Ada Lee", "answer_0": "x"}]))
    assert call("--cut-unit", "tokens") == 1
    said = "entry 1, answer_0: MEMO cuts no window from it, since candidate 0 of 1 has fewer than 2 tokens; lengthen"
    assert said in capsys.readouterr().err
    assert call("--cut-unit", "tokens", "--skip-short") == 0
    assert stored(tmp_path / "scored.json")[1] is None


def test_a_tokenizer_that_cannot_tell_tokens_is_one_line(call, monkeypatch, capsys):
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.is_fast", False)
    assert call("--cut-unit", "tokens") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --cut-unit=tokens needs a tokenizer with character offsets, and ")
    assert "set --cut-unit=words or --cut-unit=characters" in error


def test_json_lines_are_read_and_old_scores_made_anew(call, facts, tmp_path):
    assert call() == 0
    lines = "\n".join(json.dumps(entry | {"answer_0_rouge1": 5}) for entry in FACTS)
    facts.write_text(lines, encoding="utf-8")
    assert call(out=str(tmp_path / "again.json")) == 0
    assert stored(tmp_path / "again.json") == stored(tmp_path / "scored.json")


def test_short_answers_are_an_error_or_null(call, facts, tmp_path, capsys):
    facts.write_text(
        json.dumps([{"question": "Who?", "undesired_answer": "Ada Lee", "answer_0": "x"}]), encoding="utf-8"
    )
    assert call() == 1
    assert f"error: --facts={facts}, entry 1, answer_0: MEMO cuts no window" in capsys.readouterr().err
    assert call("--skip-short") == 0
    assert stored(tmp_path / "scored.json")[1] is None


@pytest.fixture(autouse=True)
def small_chunks():
    """Chunks of 8 windows a slot, so that a few facts are several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "BATCHES_PER_CHUNK", 8)
        yield


class Breaking:
    """measure(), broken off by an error after so many finished texts in all; counts the windows it was let do."""

    def __init__(self, *, after: int, error: BaseException) -> None:
        self.left, self.error, self.chunks = after, error, []

    def __call__(self, *given: Any, progress: Any, **named: Any):
        stream = score_texts(*given, progress=progress, **named)
        if progress is not None:
            self.chunks.append(len(given[2]))
        return self.broken(stream)

    def broken(self, stream: Any):
        for text in stream:
            if self.left == 0:
                raise self.error
            self.left -= 1
            yield text


def test_a_stopped_command_goes_on_to_the_same_file(call, tmp_path, monkeypatch, capsys):
    # with one slot a chunk has 8 windows or more: entries 1 and 2 (13 windows), then entries 3 and 4 (7)
    assert call(generation_batch_size="1", out=str(tmp_path / "whole.json")) == 0
    capsys.readouterr()
    monkeypatch.setattr(command, "score_texts", Breaking(after=6, error=KeyboardInterrupt()))
    assert call(generation_batch_size="1") == 130
    assert capsys.readouterr().err == "stopped; repeat the command to resume\n"
    part = tmp_path / "scored.json.part"
    assert len(part.read_text().splitlines()) == 1 + 5
    assert not (tmp_path / "scored.json").exists()
    with part.open("a") as file:
        file.write('{"fact": "3", "ki')  # a kill in the middle of a line

    # stopped once more before anything new, to see that the cut line is mended
    monkeypatch.setattr(command, "score_texts", Breaking(after=0, error=KeyboardInterrupt()))
    assert call(generation_batch_size="1") == 130
    assert len(part.read_text().splitlines()) == 1 + 5

    last = Breaking(after=100, error=KeyboardInterrupt())
    monkeypatch.setattr(command, "score_texts", last)
    assert call(generation_batch_size="1") == 0
    assert last.chunks == [0, 3]
    assert "5 of the texts were resumed from" in capsys.readouterr().out
    assert (tmp_path / "scored.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts.json", "scored.json", "whole.json"]


@every_damage
@pytest.mark.parametrize("where", ["text", "head"])
def test_damaged_texts_of_a_part_are_scored_anew(call, tmp_path, monkeypatch, capsys, damage, where):
    assert call(out=str(tmp_path / "whole.json")) == 0
    monkeypatch.setattr(command._Out, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert call() == 130
    monkeypatch.undo()
    part, line = tmp_path / "scored.json.part", tmp_path / "line"
    lines = part.read_bytes().splitlines(keepends=True)
    number = 0 if where == "head" else 2
    line.write_bytes(lines[number])
    harm(line, damage)
    lines[number] = line.read_bytes()
    part.write_bytes(b"".join(lines))
    capsys.readouterr()
    assert call() == 0
    if damage != "empty":
        assert f"lines of {part} are damaged; their texts are scored again" in capsys.readouterr().err
    assert (tmp_path / "scored.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_chunk_is_the_same_with_other_slots(call, tmp_path, monkeypatch):
    """Slots do not belong to the setup: what one number began another may end."""
    monkeypatch.setattr(command, "score_texts", Breaking(after=5, error=KeyboardInterrupt()))
    assert call(generation_batch_size="1") == 130
    last = Breaking(after=100, error=KeyboardInterrupt())
    monkeypatch.setattr(command, "score_texts", last)
    assert call(generation_batch_size="32") == 0
    assert last.chunks == [3]
    assert None not in stored(tmp_path / "scored.json")


def test_a_finished_part_needs_no_model(call, tmp_path, monkeypatch):
    assert call() == 0
    expected = (tmp_path / "scored.json").read_bytes()
    monkeypatch.setattr(command._Out, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert call("--overwrite") == 130
    monkeypatch.undo()
    monkeypatch.setattr(command, "_load", lambda *_: pytest.fail("loaded"))
    assert call("--overwrite") == 0
    assert (tmp_path / "scored.json").read_bytes() == expected


def test_another_setup_does_not_touch_the_part(call, facts, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "score_texts", Breaking(after=5, error=KeyboardInterrupt()))
    assert call(generation_batch_size="1") == 130
    monkeypatch.undo()
    part = tmp_path / "scored.json.part"
    before = part.read_bytes()
    capsys.readouterr()
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "model.safetensors").touch()
    for changes, what in (({"mode": "prefix"}, "profile"), ({"model": str(other)}, "model, weights")):
        assert call(**changes) == 1
        hint = "give another --out, or remove that file to start over"
        assert capsys.readouterr().err == f"error: {part} has other settings ({what}); {hint}\n"
    facts.write_text(json.dumps(FACTS[:3]), encoding="utf-8")
    assert call() == 1
    assert "has other settings (facts)" in capsys.readouterr().err
    assert part.read_bytes() == before


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_prompt_that_fits_into_no_memory_is_one_line(call, monkeypatch, capsys, error):
    monkeypatch.setattr(command, "score_texts", Breaking(after=0, error=error))
    assert call(generation_batch_size="8") == 1
    said = "error: a single prompt does not fit into memory; use --device cpu or a smaller model\n"
    assert capsys.readouterr().err == said


def test_a_full_disk_is_one_line(call, monkeypatch, tmp_path, capsys):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert call() == 1
    assert (
        "scored.json cannot be written (No space left on device); fix that and repeat the command to resume"
        in capsys.readouterr().err
    )
    assert (tmp_path / "scored.json.part").exists()


def test_without_a_terminal_a_line_comes_now_and_then(call, monkeypatch, capsys):
    monkeypatch.setattr(command, "PROGRESS_INTERVAL", -1.0)
    monkeypatch.setattr(throughput, "SETTLED", 0.0)
    monkeypatch.setattr(throughput, "PATIENCE", 0.0)
    assert call() == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"  … {done} of 20 windows" for done in range(1, 20)]
    assert lines[0] == "  … 1 of 20 windows, time left unknown"
    assert lines[-1] == "  … 19 of 20 windows, about 0.0 min left"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; each line needs `question` and its answers"),
        ("[]", "is empty"),
        ('{"question": "Who?", "answer_0": "Ada"}\n{"question"', "line 2: not JSON"),
        ('[{"question": "Who?"', "is not JSON"),
        ('[{"question": "Who?", "answer_0": "Ada"}, 5]', "entry 2: not a JSON object"),
        ('[{"answer_0": "Ada"}]', "entry 1: no question"),
        ('[{"question": "Who?"}]', "entry 1: no answer"),
        ('{"question": "Who?", "answer": "Ada", "inverted": "Bob"}', "entry 1: `inverted` is 'Bob', not a list"),
    ],
)
def test_facts_that_cannot_be_read(call, facts, capsys, content, message):
    facts.write_text(content, encoding="utf-8")
    assert call() == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: --facts={facts}")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"facts": "nowhere.json"}, "--facts=nowhere.json does not exist"),
        ({"profile": "offical"}, "expected one of clean, el, ma, official. Did you mean official?"),
        ({"mode": "sufix"}, "--mode=sufix is invalid: expected one of suffix, prefix. Did you mean suffix?"),
        ({"rouge": "rougel"}, "--rouge=rougel is invalid: expected one of rouge1, rouge2, rougeL"),
        ({"cut-unit": "letters"}, "--cut-unit=letters is invalid: expected one of characters, words, tokens"),
        ({"stride": "0"}, "--stride=0 is invalid: expected an integer of at least 1. Did you mean 1?"),
        ({"profile": "ma", "rouge": "rouge1"}, "--rouge has no effect with profile ma, which has no rouge; leave it"),
        ({"profile": "el", "max-new-tokens": "4"}, "--max-new-tokens has no effect with profile el, which has no max"),
        ({"profile": "ma", "cut-unit": "words"}, "--cut-unit has no effect with profile ma"),
        ({"profile": "el", "stride": "3"}, "--stride has no effect with profile el, which has no stride; leave"),
        ({"profile": "ma", "mode": "prefix", "answer-prefix": " "}, "--answer-prefix has no effect with profile ma"),
        ({"device": "gpu"}, "--device=gpu is invalid: expected one of cpu, cuda, auto"),
        ({"generation-batch-size": "0"}, "--generation-batch-size=0 is invalid: expected an integer of at least 1"),
        ({"generation-batch-size": "few"}, "argument --generation-batch-size: invalid int value: 'few'"),
        ({"max-new-tokens": "0"}, "--max-new-tokens=0 is invalid: expected an integer of at least 1. Did you mean 1?"),
        ({"modle": "x"}, "unrecognized arguments: --modle x; meow-lightning memo"),
        ({"template": "auto"}, "--template has no effect with profile official in mode suffix, which shows raw text"),
        ({"profile": "clean", "mode": "prefix", "answer-prefix": " "}, "--answer-prefix has no effect"),
        (
            {"profile": "clean", "template": "Q:"},
            "error: --template='Q:' is invalid: expected chat, auto or a text with {question} exactly once",
        ),
        ({"profile": "clean", "template": "chat"}, "error: --template=chat: the tokenizer has no chat template"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(call, capsys, changes, message):
    assert call(**changes) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_missing_option_is_named(capsys):
    assert command.main(["--model", "x"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: the following arguments are required: --facts, --out; meow-lightning memo"
    )


def test_where_it_cannot_be_written(call, tmp_path, monkeypatch, capsys):
    assert call(out=str(tmp_path)) == 1
    assert f"--out={tmp_path} is a folder; give a file in it" in capsys.readouterr().err
    (tmp_path / "scored.json").write_text("mine")
    assert call() == 1
    assert "scored.json already exists; give another name or add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "scored.json").read_text() == "mine"
    assert call(out=str(tmp_path / "no" / "s.json")) == 1
    assert "its folder does not exist; create it or give another" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    assert call(out=str(tmp_path / "s.json")) == 1
    assert "its folder is not writable; give another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "={} does not exist: expected a folder, a GGUF file or a hub id such as owner/name@revision"),
        ([], ": {} has no config.json; give a folder as save_pretrained writes it"),
        (["config.json", "pytorch_model.bin"], ": {} has its weights only as pickle (pytorch_model.bin), which can"),
        (["config.json", "tokenizer.json"], ": {} has no weights; give a folder as save_pretrained writes it"),
        (["config.json", "model.safetensors"], ": {} has a damaged model.safetensors"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_loaded(call, tmp_path, capsys, files, message):
    where = tmp_path / "model"
    if files is not None:
        where.mkdir()
        for name in files:
            (where / name).write_text("{}")
    assert call(model=str(where)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --model" + message.format(where))
    assert error.count("\n") == 1


def test_broken_weights_are_one_line(call, folder, tmp_path, capsys):
    where = shutil.copytree(folder, tmp_path / "model")
    (where / "model.safetensors").write_bytes(b"\x05")
    assert call(model=str(where)) == 1
    assert capsys.readouterr().err.startswith(f"error: --model: {where} has a damaged model.safetensors (")


def test_a_model_that_transformers_cannot_read_is_one_line(call, folder, monkeypatch, capsys):
    def broken(source: Path, **_: Any) -> None:
        raise OSError(f"{source.name} is no model\nat all.")

    monkeypatch.setattr("meow_lightning.models.load.load_model", broken)
    assert call() == 1
    assert capsys.readouterr().err.endswith(f"cannot be loaded: {folder.name} is no model at all.\n")


def test_a_name_on_the_hub_that_cannot_be_reached(call, monkeypatch, capsys):
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    assert call(model="nobody/nothing-of-the-sort") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --model=nobody/nothing-of-the-sort is not in the cache (")
    assert "download the folder yourself and set --model=FOLDER" in error


def test_a_gpu_that_does_not_exist(call, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call(device="cuda") == 1
    assert "--device=cuda is invalid: torch finds no GPU; use --device cpu" in capsys.readouterr().err


def test_a_prompt_that_cannot_fit_comes_before_any_work(call, facts, tmp_path, capsys):
    long = {"question": "Who is it?", "answer_0": "w" * 80}
    facts.write_text(json.dumps([*FACTS, long]), encoding="utf-8")
    assert call() == 1
    assert "error: fact 5: a MEMO prompt has " in capsys.readouterr().err
    assert not (tmp_path / "scored.json.part").exists()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "name: own\n_target_: meow_lightning.memo.memo.Profile\nstride: 5\n",
            "--profile=own: its file must contain exactly cut_unit, empty_windows, keep_special, ",
        ),
        ("name: own\n", "--profile=own: its file's _target_ must be one of meow_lightning.memo.memo.Profile, "),
        ("${stride}", "--profile=own: stride=${stride} is defined only within a run; write a value"),
    ],
)
def test_profiles_that_need_a_run(call, tmp_path, monkeypatch, capsys, yaml, message):
    if yaml == "${stride}":
        yaml = (cli_options.PROFILES / "official.yaml").read_text().replace("stride: 5", "stride: ${stride}")
    (tmp_path / "own.yaml").write_text(yaml)
    monkeypatch.setattr(cli_options, "PROFILES", tmp_path)
    assert call(profile="own") == 1
    assert message in capsys.readouterr().err


def test_the_module_is_a_command_whose_mistakes_do_not_wait_for_torch(facts, tmp_path):
    said = ["--model", "./nowhere", "--facts", str(facts), "--out", str(tmp_path / "s.json")]
    watched = (
        "import runpy, sys; sys.argv[1:] = {}\ntry: runpy.run_module('meow_lightning.memo', run_name='__main__')\n"
    )
    watched += "finally: assert not {{'torch', 'transformers'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", watched.format(said)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --model=./nowhere does not exist: expected a folder")
    assert done.stderr.count("\n") == 1


def test_ones_own_facts_score_as_the_published_ones(call, facts, tmp_path):
    """The file that ``dataset.forget=`` takes is taken as it is, and its scores are those of the published form."""
    assert call() == 0
    known = json.loads((tmp_path / "scored.json").read_text())
    lines = [
        {
            "question": entry["question"],
            "answer": entry["undesired_answer"],
            "value": None,
            "inverted": [entry[key] for key in ("answer_0", "answer_1") if key in entry],
        }
        for entry in FACTS
    ]
    own = tmp_path / "facts.jsonl"
    own.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert call(facts=str(own), out=str(tmp_path / "own.json")) == 0
    made = json.loads((tmp_path / "own.json").read_text())
    assert [entry["answer_rouge1"] for entry in made] == [entry["undesired_answer_rouge1"] for entry in known]
    assert [entry.get("answer_1_rouge1") for entry in made] == [entry.get("answer_1_rouge1") for entry in known]
    assert sum(entry["answer_rouge1"] for entry in made) > 0


def test_a_text_with_a_special_token_is_reported(call, facts, tmp_path, capsys) -> None:
    entries = [FACTS[0] | {"undesired_answer": f"{FACTS[0]['undesired_answer']}<|end|>"}, *FACTS[1:]]
    facts.write_text(json.dumps(entries), encoding="utf-8")
    assert call() == 1
    assert "error: a text contains '<|end|>', which the tokenizer reads as a special token" in capsys.readouterr().err
    assert not (tmp_path / "scored.json").exists()


def test_a_chat_template_is_looked_at_from_without(folder, call, tmp_path, capsys) -> None:
    """It could run for ever; what has no template, or is asked with raw text, is not looked at."""
    mine = shutil.copytree(folder, tmp_path / "mine")
    (mine / "chat_template.jinja").write_text("{{ 'x' * 30000000000 }}{{ messages[0].content }}", encoding="utf-8")
    assert call("--profile", "clean", model=str(mine)) == 1
    error = capsys.readouterr().err
    assert f"error: --model={mine}: its chat template runs out of memory; set --template to a text with" in error


def test_weights_that_are_not_whole_are_reported(folder, call, tmp_path, capsys) -> None:
    mine = shutil.copytree(folder, tmp_path / "mine")
    weights = load_file(mine / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, mine / "model.safetensors", metadata={"format": "pt"})
    assert call(model=str(mine)) == 1
    error = capsys.readouterr().err
    assert "lacks 1 tensor (model.norm.weight) of its config.json" in error
    assert error.endswith("config.json and weights do not match; download or save the model again\n")
