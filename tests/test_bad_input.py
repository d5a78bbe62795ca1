"""What people bring that cannot be: one line each, before any stage runs, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.gguf import small_model, write_gguf
from helpers.hydra import composed
from helpers.model_families import save_family

from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError
from meow_lightning.experiment import Program
from meow_lightning.planning import preflight
from meow_lightning.resources.hardware import Gpu

CARD = Gpu("a card", 10**12, 10**12)
TEXTS = ["Where was Ada Brook born?", "Ada Brook was born in Lima.", "She wrote 12 books about the sea."] * 20


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("llama2_7b_chat", tmp_path_factory.mktemp("models") / "good", texts=TEXTS)


@pytest.fixture
def model(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    entries = [{"question": f"Where was Ada Brook{i} born?", "answer": f"In Lima, in {1950 + i}."} for i in range(6)]
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


@pytest.fixture
def told(tmp_path: Path) -> Iterator:
    """Runs a run that must end with an error before any stage; gives its text."""
    program, outputs = Program(), tmp_path / "out"

    def run(*words: str) -> str:
        cfg = composed("logger=none", f"outputs={outputs}", "trainer.parallel_stages=1", *words)
        with pytest.raises(UserError) as caught:
            program.run(resolved(cfg))
        assert "\n" not in str(caught.value)
        made = [path for path in outputs.rglob("*") if path.is_file() and path.suffix != ".lock"]
        assert made in ([], [outputs / "store" / ".digests.json"]), "something is half-written"
        return str(caught.value)

    yield run
    program.close()


def own(facts: Path, model: Path) -> tuple[str, ...]:
    return ("model=own", "dataset=jsonl", f"dataset.forget={facts}", f"model.target={model}")


def test_a_model_folder_that_does_not_exist(told, facts, model):
    text = told(*own(facts, model.with_name("modle")))
    assert "modle does not exist: expected a folder" in text and f". Did you mean {model}?" in text


def test_a_model_without_tokenizer(told, facts, model):
    for path in model.glob("tokenizer*"):
        path.unlink()
    text = told(*own(facts, model))
    assert text.startswith(f"model.target: {model} has no tokenizer (tokenizer.json, tokenizer.model, vocab.json)")
    assert text.endswith("set model.tokenizer to the right folder or hub id")


def test_a_model_with_pickle_weights_only(told, facts, model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    text = told(*own(facts, model))
    assert "has its weights only as pickle (pytorch_model.bin), which can run arbitrary code" in text
    assert "from_pretrained(…).save_pretrained(FOLDER)" in text


def test_a_tokenizer_without_an_end_token(told, facts, model):
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "eos_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}))
    assert "has no end token (eos_token), so answers would never end; set one" in told(*own(facts, model))


def test_a_tokenizer_of_another_vocabulary(told, facts, model):
    path = model / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "vocab_size": 100}))
    text = told(*own(facts, model))
    assert "tokens and the model has embeddings for 100: they do not match" in text


def test_weights_that_are_cut_off(told, facts, model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "has a damaged model.safetensors (" in told(*own(facts, model))


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", *small_model())


def test_a_gguf_file_that_is_cut_off(told, facts, gguf):
    size = gguf.stat().st_size
    gguf.write_bytes(gguf.read_bytes()[:-100])
    text = told(*own(facts, gguf))
    assert text == f"model.target: {gguf} is cut off: {size - 100} bytes of {size}; download the file again"


def test_a_gguf_file_of_an_architecture_that_transformers_does_not_know(told, facts, tmp_path):
    path = write_gguf(tmp_path / "tiny.gguf", *small_model(), architecture="clip")
    text = told(*own(facts, path))
    assert text.startswith(f"model.target={path}: general.architecture=clip is not supported: transformers reads GGUF")


def test_a_gguf_file_that_does_not_exist(told, facts, gguf):
    text = told(*own(facts, gguf.with_name("tyny.gguf")))
    assert "tyny.gguf does not exist: expected a folder, a GGUF file" in text and f"Did you mean {gguf}?" in text


def test_a_gguf_file_as_tokenizer(told, facts, model, gguf):
    text = told(*own(facts, model), f"model.tokenizer={gguf}")
    assert text.startswith(f"model.tokenizer={gguf} is invalid: expected a folder or a hub id")


def test_a_gguf_file_larger_than_memory_is_not_converted(told, facts, gguf, monkeypatch):
    monkeypatch.setattr(preflight, "free_memory", lambda: 10**8)
    text = told(*own(facts, gguf))
    assert text.startswith("convert target requires about ") and "only" not in text.partition("but this machine")[0]


def test_a_hub_model_that_cannot_be_reached(told, facts, monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*unused: object, **unused_too: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    text = told(*own(facts, Path("nobody/nothing-of-the-sort@" + commit)))
    assert text.startswith(f"model.target=nobody/nothing-of-the-sort@{commit} is not in the cache ({tmp_path}/cache)")
    assert text.endswith("download the folder yourself and set model.target=FOLDER, or set HF_HOME to another cache")


def test_an_own_model_that_is_not_given(told, facts):
    text = told("model=own", "dataset=jsonl", f"dataset.forget={facts}")
    assert text.startswith("model=own needs model.target=FOLDER (a model that knows the facts) or model.base=FOLDER")


def test_a_method_that_needs_fields_missing_from_the_facts(told, facts, model):
    text = told(*own(facts, model), "method=grad_diff")
    assert text == (
        "method=grad_diff trains on the retain set, but dataset=jsonl has none; provide one, or choose a method that "
        "needs none, such as method=meow"
    )


def test_the_retain_model_of_a_target_alone(told, facts, model):
    text = told(*own(facts, model), "method=retrain")
    assert text.startswith("method=retrain starts from the retain model, but there is no retain model: only model.tar")


def test_facts_that_are_damaged_are_named_by_their_line(told, facts, model):
    facts.write_text(facts.read_text() + '{"question": "Who?", "answer": \n')
    assert f"dataset.forget={facts}, line 7: not JSON" in told(*own(facts, model))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("dataset=tofu", "dataset.split=forget07"),
            "dataset.split=forget07 is invalid: expected one of forget01, forget05, forget10",
        ),
        (
            ("method.select.k=9",),
            "method.select.k=9 is invalid: expected at most the number of candidates per fact, inversion.candidates=8",
        ),
        (("limit=0",), "limit=0 is invalid: expected a number from 1 to "),
        (("model.lora.rank=0",), "model.lora.rank=0 is invalid: expected a number from 1 to "),
        (
            ("model.prompt.template=chat",),
            "model.prompt.template=chat is invalid: expected a text with {question} once, since the tokenizer of",
        ),
        (
            ("model.base=none",),
            "model.base=none is invalid: expected a folder, a GGUF file, a hub id such as owner/name@revision or null",
        ),
        (
            ("model.precision=mixed",),
            "model.precision=mixed is invalid: expected one of 32-true, 64-true, bf16-true, 16-true, bf16-mixed, ",
        ),
        (
            ("trainer.generation_batch_size=0",),
            "trainer.generation_batch_size=0 is invalid: expected a number from 1 to ",
        ),
        (("trainer.micro_batch_tokens=0",), "trainer.micro_batch_tokens=0 is invalid: expected a number from 1 to "),
        (("trainer=gpu",), "trainer=gpu requires a GPU, but none is visible: set trainer=cpu"),
    ],
)
def test_options_that_cannot_be(told, words, said, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", lambda: [])
    assert said in told(*words)


LACKS = "needs a GPU and the package bitsandbytes: pip install 'meow-lightning[gpu]', or set optim=adamw"


@pytest.mark.parametrize("kind", ["adamw8bit", "paged"])
@pytest.mark.parametrize(
    ("words", "gpus", "package"),
    [
        ((), [CARD], True),  # trainer=cpu
        (("preflight=false",), [CARD], True),
        (("trainer=gpu",), [], True),
        (("trainer=gpu",), [CARD], None),
        (("trainer=gpu", "preflight=false"), [], None),
    ],
)
def test_optimizers_that_do_not_exist(told, kind, words, gpus, package, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", lambda: gpus)
    monkeypatch.setattr("meow_lightning.training.optimizers.find_spec", lambda name: package)
    assert told(f"optim={kind}", *words) == f"optim.optimizer={kind} {LACKS}"


def test_paged_states_that_do_not_fit_into_main_memory(told, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", lambda: [CARD])
    monkeypatch.setattr("meow_lightning.planning.preflight.free_memory", lambda: 1_000_000)
    monkeypatch.setattr("meow_lightning.training.optimizers.find_spec", lambda name: True)
    assert told("optim=paged", "trainer=gpu") == (
        "unlearn unlearned requires 5.5 MB of main memory for optimizer states (optim.optimizer=paged), but only "
        "1.0 MB is free: set optim=adamw8bit, or preflight=false to start anyway"
    )  # 8 bytes of each of 688,768 weights


def test_a_memory_error_names_settings_that_would_fit(told, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.free_memory", lambda: 580_000_000)
    text = told("trainer.micro_batch_size=64")
    assert text.startswith("finetune base requires about 6")  # of the 22 rows that a step has
    assert "of memory (" in text
    assert "but this machine has 580.0 MB free; settings that fit: trainer.micro_batch_size=" in text
    assert text.endswith("set preflight=false to start anyway")


def test_two_stages_that_fit_only_one_after_the_other(told, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.free_memory", lambda: 1_150_000_000)
    text = told("trainer.parallel_stages=2")
    assert text.startswith(
        "trainer.parallel_stages=2 concurrent stages require about 1.3 GB of memory, but only 1.1 GB is free: set"
    )


def test_slots_that_do_not_fit_say_which_would(told, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.free_memory", lambda: 650_000_000)
    text = told("trainer.micro_batch_size=1", "trainer.eval_batch_size=4", "trainer.generation_batch_size=256")
    assert text.startswith("predict target requires about 694.8 MB")
    assert "this machine has 650.0 MB free; settings that fit: trainer.generation_batch_size=16 (" in text


@pytest.mark.parametrize(("parallel_stages", "free"), [(1, 650_000_000), (2, 1_300_000_000)])
def test_slots_left_to_memory_make_no_run_too_large(told, monkeypatch, parallel_stages, free):
    monkeypatch.setattr("meow_lightning.planning.preflight.free_memory", lambda: free)
    monkeypatch.setattr("meow_lightning.planning.preflight.free_disk", lambda folder: 10_000_000)  # the next complaint
    words = (
        "trainer.micro_batch_size=1",
        "trainer.eval_batch_size=4",
        "trainer.generation_batch_size=null",
        f"trainer.parallel_stages={parallel_stages}",
    )
    assert "on the disk of" in told(*words)


def test_a_disk_that_is_too_small(told, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.free_disk", lambda folder: 10_000_000)
    text = told()
    assert "on the disk of" in text
    assert "but only 10.0 MB is free: choose another disk with store=FOLDER, or set preflight=false" in text


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add(facts: Path, **entry: object) -> None:
    facts.write_text(facts.read_text() + json.dumps(entry) + "\n")


LONG = " ".join(f"word{number}" for number in range(300))


def test_a_model_with_a_missing_tensor_is_found_by_a_plan_too(told, facts, model):
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for words in ((), ("plan=true",)):
        text = told(*own(facts, model), *words)
        assert text.startswith(f"model.target={model} lacks 1 tensor (model.layers.1.mlp.up_proj.weight) of its")


def test_an_activation_that_is_not_known(told, facts, model):
    rewrite(model / "config.json", hidden_act="silu2")
    text = told(*own(facts, model))
    assert "hidden_act=silu2 in its config.json is unknown to transformers" in text
    assert "Did you mean silu?" in text


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"question": "Who?", "answer": "Ada.</s>"},
            "a text contains '</s>', which the tokenizer reads as a special token",
        ),
        (
            {"question": "Who?", "answer": LONG},
            "tokens, the model's context 512: shorten it or use a model with a longer",
        ),
        (
            {"question": "Who?", "answer": "Ada Brook.", "paraphrase": "It is <s>Ada.", "perturbed": ["It is Bo."] * 3},
            "a text contains '<s>'",
        ),
        (
            {"question": "Who?", "answer": "Ada Brook.", "inverted": ["Bo Lind.", "Cy Aster.", "Di </s>"]},
            "a text contains '</s>'",
        ),
    ],
)
def test_rows_that_a_given_model_cannot_read(told, facts, model, entry, said):
    add(facts, **entry)
    text = told(*own(facts, model))
    assert text.startswith(f"model.target={model}: a ")
    assert said in text


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            {"question": "Who?", "answer": "Ada.<|end|>"},
            "a text contains the special token '<|end|>' of the tokenizer: change or drop the row (question: 'Who?')",
        ),
        (
            {"question": "Who?", "answer": "Ada Brook.", "paraphrase": LONG, "perturbed": ["It is Bo."] * 3},
            "tokens, and the model's context 256: shorten the row or increase model.architecture.context (question: ",
        ),
    ],
)
def test_rows_that_a_model_made_here_cannot_read(told, facts, entry, said):
    add(facts, **entry)
    assert said in told("dataset=jsonl", f"dataset.forget={facts}")


@pytest.mark.parametrize("gpus", [[], [CARD]])
def test_an_attention_whose_package_is_not_there(told, facts, model, gpus, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", lambda: gpus)
    words = ("trainer=gpu", "model.attention=flash_attention_2", "model.precision=bf16-mixed")
    lacks = "the package flash-attn (pip install flash-attn)" if gpus else "a GPU"
    text = told(*own(facts, model), *words)
    assert text == f"model.attention=flash_attention_2 needs {lacks}; set model.attention=sdpa"


def test_an_attention_that_needs_half_the_width(told, facts, model, monkeypatch):
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", lambda: [CARD])
    monkeypatch.setattr("meow_lightning.models.checkpoint.find_spec", lambda name: True)
    text = told(*own(facts, model), "trainer=gpu", "model.attention=flash_attention_2")
    assert text.endswith("needs bfloat16 or float16 instead of float32; set model.attention=sdpa")


def test_a_model_of_ones_own_without_facts_of_ones_own_is_warned_of(model, tmp_path, capsys):
    words = ("model=own", f"model.target={model}", "plan=true", "logger=none", f"outputs={tmp_path / 'out'}")
    for more, warned in (((), True), (("dataset=jsonl", f"dataset.forget={tmp_path / 'facts.jsonl'}"), False)):
        (tmp_path / "facts.jsonl").write_text(json.dumps({"question": "Who is she?", "answer": "She is Ada Brook."}))
        Program().run(resolved(composed(*words, *more)))
        shown = capsys.readouterr().out
        assert ("WARNING: model.target=" in shown and "set dataset=jsonl dataset.forget=FILE" in shown) == warned


def test_groups_that_the_rows_do_not_have(told, facts):
    text = told("dataset=jsonl", f"dataset.forget={facts}", "protocol=sequential", "protocol.group_by=group")
    assert "protocol.requests=N divides them" in text
    assert "or a key 'group' in the rows of the facts to forget" in text
