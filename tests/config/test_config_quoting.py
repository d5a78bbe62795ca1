"""What people type is what the program gets, whatever letters it is made of."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from meow_lightning.config.quoting import quote_value, shell_word, text_options, unescape

ROOT = Path(__file__).resolve().parents[2]
TYPED = [
    "Müller.jsonl", "名前/事実.jsonl", "a#b", "a;b", "a&b", "a=b", "a(1).jsonl", "a,b.jsonl", "my facts.jsonl",
    "./model [v2]", "~/x", "it's here", "'tis", 'say "so"', "C:\\new\\", "a\\,b", "a|b", "x<y>", "[v2]", "{a: 1}",
    "123", "1e5", "true", " led by a blank", "two\nlines", "glob(*)", "range(0,2)", "50%!", "`x`", "^", "😀", "a:b",
    "[INST] {question} [/INST]", "Question: {question}\nAnswer:", "<|user|>\n{question}</s>", "plain/path-1.0_x@main",
]  # fmt: skip
OPTIONS = ("dataset.forget", "model.target", "inversion.path", "outputs", "+model.base")


def read(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_text_arrives_as_it_was_typed(option):
    for text in TYPED:
        word = quote_value(f"{option}={text}", multirun=False)
        assert read(word) == text
        assert quote_value(word, multirun=False) == word, "quotes around quotes"
        if text != "'tis":  # alone in its quotes it would be taken for them
            assert shell_word(word) == f"{option}={text}"


@pytest.mark.parametrize("option", ["model.prompt.template", "+model.prompt.answer_prefix", "inversion.prompt.user"])
def test_escapes_in_a_prompt_are_read_as_line_breaks_and_tabs(option):
    typed, asked = r"Question: {question}\nAnswer:", "Question: {question}\nAnswer:"
    for quotes in ("", "'", '"'):
        word = quote_value(f"{option}={quotes}{typed}{quotes}", multirun=False)
        assert read(word) == asked
        assert quote_value(word, multirun=False) == word
    assert shell_word(quote_value(f"{option}={asked}", multirun=False)) == f"{option}={typed}"
    several = quote_value(rf"{option}={{question}}\n,Q: {{question}}\t", multirun=True)
    override = OverridesParser.create().parse_override(several)
    assert [value.text for value in override.value().list] == ["{question}\n", "Q: {question}\t"]
    for text in TYPED:
        word = quote_value(f"{option}={text}", multirun=False)
        assert read(word) == unescape(text)
        assert quote_value(word, multirun=False) == word


def test_other_backslashes_are_characters():
    assert unescape(r"\n \r \t") == "\n \r \t"
    for text in (r"\d", r"a\ b", "\\", r"\\n", r"\'"):
        assert unescape(text) == text
    assert unescape(r"\\\n") == "\\\\\n"  # a doubled backslash, then a line break


@pytest.mark.parametrize(
    "word",
    [
        "model.base='quoted already'", 'model.base="a (b)"', "model.base=dir/${model.name}", "model.base=null",
        "model.target=", "model.base=plain", "seed=0,1", "seed=12", "trusted_packages=[os]", "optim.betas=[0.9,0.95]",
        "method.rounds.memorized_above={tiny: .5}", "goal=score,report", "dataset.split=forget01,forget05", "plan=true",
        "~memo.stride", "-m", "--cfg", "seed", "method=meow", "inversion.extra={a: b}", "memo.verify=3", "ä=1",
    ],
)  # fmt: skip
def test_values_that_need_no_quotes_get_none(word):
    assert quote_value(word, multirun=False) == word
    assert shell_word(word) in (word, word.replace("'", ""))


def test_invalid_values_are_quoted_too_and_reach_the_check_of_their_option():
    assert quote_value("seed=ä", multirun=False) == "seed='ä'"


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("model.target=one,two", ["one", "two"]),
        ("model.target=Müller (1),./b [v2],it's", ["Müller (1)", "./b [v2]", "it's"]),
        ("model.target='a,b',c", ["a,b", "c"]),
        ('model.target="a,b",ä', ["a,b", "ä"]),
        ("model.target=12,true,null", ["12", "true", None]),
        ("dataset.forget=a.jsonl,名.jsonl", ["a.jsonl", "名.jsonl"]),
        ("seed=0,1", [0, 1]),
        ("method=meow,grad_ascent", ["meow", "grad_ascent"]),
    ],
)
def test_a_comma_of_a_sweep_separates_texts(typed, values):
    override = OverridesParser.create().parse_override(quote_value(typed, multirun=True))
    assert override.is_sweep_override()
    assert [getattr(value, "text", value) for value in override.value().list] == values


def test_functions_of_a_sweep_stay():
    for word in ("seed=range(0,3)", "method=glob(*)", "model.target=glob(*)", "model.target=choice(a,b)"):
        assert quote_value(word, multirun=True) == word
    assert quote_value("model.target=one (1)", multirun=True) == "model.target='one (1)'"


def test_options_that_hold_a_text_come_from_types():
    assert {"dataset.forget", "dataset.folder", "outputs"} <= text_options("dataset")
    assert {"inversion.path", "inversion.base_url", "inversion.prompt.user"} <= text_options("inversion")
    assert {"model.target", "model.prompt.template"} <= text_options("model")
    assert {"optim.warmup", "optim.optimizer", "seed"} & (text_options("optim") | text_options("seed")) == set()
    assert "hydra.launcher.account" in text_options("hydra")


def run_py(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words, f"outputs={folder / 'out'}"], capture_output=True, text=True,
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120, check=False,
    )  # fmt: skip


def test_files_of_any_name_are_read_by_run_py(tmp_path):
    fact = json.dumps({"question": "Where was Ada Brook born?", "answer": "Ada Brook was born in Lima."})
    names = ["Müller.jsonl", "事実 #1; a=b & (c) [d].jsonl", "it's ~.jsonl"]
    for name in names:
        (tmp_path / name).write_text(fact, encoding="utf-8")
    template = "model.prompt.template=[INST] {question} [/INST]"
    words = ("status=true", "dataset=jsonl", template)
    alone = run_py(*words, f"dataset.forget={tmp_path}/{names[1]}", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    several = run_py("-m", *words, f"dataset.forget={','.join(names)}", folder=tmp_path)
    assert several.returncode == 0, several.stderr
    assert "3 runs" in several.stdout


def test_a_suggestion_can_be_typed_as_shown(tmp_path):
    done = run_py("dataset=./my facts.jsonl", folder=tmp_path)
    assert done.stderr == (
        "error: dataset=./my facts.jsonl is invalid: for your own files, set dataset=jsonl "
        "dataset.forget='./my facts.jsonl'\n"
    )
    done = run_py("dataset.forget=my", "facts #1.jsonl", folder=tmp_path)
    typed = shlex.split(done.stderr.rpartition(": ")[2])
    assert typed == ["dataset.forget=my facts #1.jsonl"]
