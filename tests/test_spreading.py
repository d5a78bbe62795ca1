"""The same numbers from one process and from two, however these share rows and weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.common import runtime
from helpers.curves import learned
from helpers.distributed import METHODS, THREADS, Case, Trained, job, model, train
from helpers.quiz import CHOICE, FILES, QUESTIONS, quiz, write_quiz
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from meow_lightning.config.schema import MethodConfig
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.stages import ability
from meow_lightning.stages.base import StageContext

CONF = Path(__file__).resolve().parent.parent / "conf"
MAIN = ("one", "retain", "paired", "dual", "frozen", "pulled")
COPIES = [Case(method, "ddp", "float64", micro) for method in MAIN for micro in (1, 2, 4)]
COPIES += [Case("transport", "ddp", "float64", 2)]
MICROS = (1, 2, 4, 1, 2, 4, 1, 2)
SHARDS = [Case(method, "fsdp", "float64", micro) for method, micro in zip(METHODS, MICROS, strict=True)]
ROUNDED = [Case("retain", strategy, "float32", 2) for strategy in ("ddp", "fsdp")]
KILLED = Case("dual", "fsdp", "float32", 2, "kill")
UNDISTURBED = Case("dual", "fsdp", "float32", 2)
FROM_TWO_TO_ONE = Case("retain", "fsdp", "float64", 4, "kill")
THRIFTY = Case("retain", "fsdp", "float64", 2, "checkpointing")
ROBUST = [
    Case("frozen", "ddp", "float64", 2, "sam"), Case("pulled", "fsdp", "float64", 4, "sam"),
    Case("paired", "ddp", "float64", 1, "worst"), Case("frozen", "fsdp", "float64", 2, "top"),
    Case("frozen", "fsdp", "float64", 1, "sam-worst"),
]  # fmt: skip
ADAPTED = Case("retain", "ddp", "float64", 2, "fila")
LIMIT = 7  # facts of each set: odd, so that one of two processes has more of them
DATASET = {"split": "forget10", "authors": 20, "candidates": 4, "phrasings": 1, "retain_eval": 16, "seed": 0}
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
MODEL = {"dtype": "float32", "precision": "32-true", "attention": "sdpa", "prompt": PROMPT, "lora": None}
RECIPE = {
    "lr": 1e-3, "epochs": 2, "global_batch_size": 5, "betas": [0.9, 0.999], "eps": 1e-8, "max_grad_norm": 1.0,
    "weight_decay": 0.01, "warmup": 2, "schedule": "linear",
}  # fmt: skip
EVALUATION = {
    "max_new_tokens": 6,
    "selection_fraction": 0.0,
    "truth_ratio_mean": "geometric",
    "bootstrap_samples": 10,
    "confidence_level": 0.9,
}


def start(folder: Path) -> Path:
    """A model that knows nothing, in a folder as a stage leaves it."""
    tokenizer = tokenizer_from(
        [text for pair in Fictional(**DATASET).tokenizer_corpus()[:200] for text in pair], vocab_size=400
    )
    torch.manual_seed(0)
    made = llama(
        vocab_size=len(tokenizer), hidden_size=16, layers=2, heads=2, intermediate_size=32, context=256,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    save_model(made, tokenizer, folder / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    return folder


def node_of(method: str) -> dict[str, Any]:
    """The settings of a shipped method."""
    node = yaml.safe_load((CONF / "method" / f"{method}.yaml").read_text())
    return MethodConfig.model_validate(node).keyed


def works(
    folder: Path, begin: Path, *, devices: int, method: dict[str, Any] | None = None, strategy: str = "fsdp",
    evaluated: Path | None = None,
) -> dict[str, StageContext]:  # fmt: skip
    """The stages that share their work, on the first facts of every set; ``evaluated`` is ``begin`` by default."""
    memo = yaml.safe_load((CONF / "memo" / "clean.yaml").read_text()) | {"max_new_tokens": 6}
    del memo["verify"]
    inputs = {
        "dataset": {"_target_": "meow_lightning.data.fictional.Fictional", **DATASET}, "allow": ["helpers"],
        "limit": LIMIT, "content": fingerprint(LimitedDataset(dataset=Fictional(**DATASET), limit=LIMIT)), "memo": memo,
        "evaluation": EVALUATION,
    }  # fmt: skip
    write_quiz(folder / "quiz", long="She wrote 12 books about the sea. " * 600)  # a block of its own
    inputs |= {"files": FILES, "folder": str(folder / "quiz"), "trains": True}
    settings: dict[str, dict[str, Any]] = {
        "ability": {
            "task": "quiz", "config": CHOICE, "data": quiz(folder / "quiz").digests(), "num_fewshot": None,
            "limit": None,
        },
        "predict": {"evaluation": {"max_new_tokens": 6, "gradients": []}, "sets": ["forget", "retain"]},
        "score": {"memo": {key: value for key, value in memo.items() if key != "name"}},
        "unlearn": {"method": method or node_of("npo_kl"), "recipe": RECIPE, "seed": 0},
        "attack": {
            "attack": {"_target_": "meow_lightning.attacks.relearn.Relearn", "data": "forget", "share": 0.7},
            "recipe": RECIPE, "seed": 0,
        },
    }  # fmt: skip
    how = runtime(
        devices=devices, strategy=strategy, micro_batch_size=2, checkpoint_seconds=0.0, memo_every_steps=3,
        memo_facts=3, evaluate_every_epochs=1,
    )  # fmt: skip
    found = {}
    for name, own in settings.items():
        (folder / name).mkdir(parents=True)
        found[name] = StageContext(
            stage=name, label="", folder=folder / name, settings={"model": MODEL, **own}, inputs=inputs,
            needs={"start": begin} if name == "unlearn" else {"model": evaluated or begin}, runtime=how,
        )  # fmt: skip
    return found


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """As many threads here as in each of the two processes, whatever OMP_NUM_THREADS says."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}


@pytest.fixture(scope="module")
def two(folders: dict[str, Path]) -> dict[Case, Trained]:
    """What two processes end with: every test of this file looks at one job."""
    cases = [*COPIES, *SHARDS, *ROBUST, *ROUNDED, KILLED, UNDISTURBED, FROM_TWO_TO_ONE, THRIFTY, ADAPTED]
    begin = start(folders["one"] / "start")
    for work in works(folders["one"], begin, devices=1).values():
        run_stage(work.to_spec())
    return job(folders["two"], cases, list(works(folders["two"], begin, devices=2).values()), devices=2)


@pytest.fixture(scope="module")
def one(folders: dict[str, Path]) -> Any:
    """What one process ends with; asked for many times."""
    known: dict[Case, Trained] = {}

    def find(method: str, dtype: str = "float64", micro: int = 64, more: str = "") -> Trained:
        case = Case(method, "auto", dtype, micro, more)
        return known.get(case) or known.setdefault(case, train(case, folders["one"], devices=1))

    return find


def apart(first: Trained, second: Trained) -> float:
    assert first.weights.keys() == second.weights.keys()
    return max((weight - second.weights[name]).abs().max().item() for name, weight in first.weights.items())


def curve(points: list[dict[str, float]]) -> list[float]:
    return [point["loss"] for point in points if "loss" in point]


@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("method", MAIN)
def test_micro_batches_change_no_weight(one, method: str, micro: int) -> None:
    assert apart(one(method), one(method, micro=micro)) < 1e-9
    moved = {name: weight - one(method).weights[name] for name, weight in model("float64").named_parameters()}
    assert min(weight.abs().max().item() for weight in moved.values()) > 1e-3
    assert len(one(method).points) == 20


@pytest.mark.ddp
@pytest.mark.parametrize("case", [*COPIES, *SHARDS, THRIFTY], ids=lambda case: case.name)
def test_two_processes_end_with_the_weights_of_one(one, two: dict[Case, Trained], case: Case) -> None:
    assert apart(one(case.method), two[case]) < 1e-9
    assert curve(two[case].points) == pytest.approx(curve(one(case.method).points), rel=1e-9)
    assert two[case].state == pytest.approx(one(case.method).state, rel=1e-9)


@pytest.mark.parametrize("case", ROBUST, ids=lambda case: case.name)
def test_micro_batches_change_no_weight_of_a_robust_training(one, case: Case) -> None:
    assert apart(one(case.method, more=case.more), one(case.method, micro=2, more=case.more)) < 1e-9
    assert apart(one(case.method, more=case.more), one(case.method)) > 1e-4


@pytest.mark.ddp
@pytest.mark.parametrize("case", ROBUST, ids=lambda case: case.name)
def test_two_processes_perturb_and_aggregate_as_one_does(one, two: dict[Case, Trained], case: Case) -> None:
    alone = one(case.method, more=case.more)
    assert apart(alone, two[case]) < 1e-9
    assert curve(two[case].points) == pytest.approx(curve(alone.points), rel=1e-9)


@pytest.mark.ddp
def test_two_processes_start_and_train_adapters_as_one_does(two: dict[Case, Trained], folders: dict[str, Path]) -> None:
    alone = train(Case("retain", "auto", "float64", 1, "fila"), folders["one"], devices=1)
    assert any("lora_" in name for name in alone.weights)
    assert apart(alone, two[ADAPTED]) < 1e-9


@pytest.mark.ddp
@pytest.mark.parametrize("case", ROUNDED, ids=lambda case: case.name)
def test_two_processes_have_the_loss_curve_of_one_in_float32(one, two: dict[Case, Trained], case: Case) -> None:
    alone = one("retain", "float32")
    assert curve(two[case].points) == pytest.approx(curve(alone.points), rel=1e-5)
    assert apart(alone, two[case]) < 1e-5


@pytest.mark.ddp
def test_a_killed_sharded_training_goes_on_bit_identically(two: dict[Case, Trained]) -> None:
    assert [point["step"] for point in two[KILLED].points] == list(range(7, 21))
    assert learned(two[KILLED].points) == learned(two[UNDISTURBED].points)[6:]
    assert two[KILLED].state == two[UNDISTURBED].state != {"mu": 1.0}
    assert apart(two[KILLED], two[UNDISTURBED]) == 0


@pytest.mark.ddp
def test_one_process_goes_on_with_what_two_left(one, two: dict[Case, Trained], folders: dict[str, Path]) -> None:
    left = folders["two"] / FROM_TWO_TO_ONE.name / "last.ckpt"
    assert left.exists()
    place = folders["one"] / "after" / Case("retain", "auto", "float64", 2).name
    place.mkdir(parents=True)
    (place / "last.ckpt").write_bytes(left.read_bytes())
    after = train(Case("retain", "auto", "float64", 2), folders["one"] / "after", devices=1)
    assert [point["step"] for point in after.points] == list(range(7, 21))
    assert apart(after, one("retain")) < 1e-9


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.ddp
def test_two_processes_answer_every_question_once(two, folders: dict[str, Path]) -> None:
    first, second = (lines(folder / "predict" / "rows.jsonl") for folder in folders.values())
    assert [(row["set"], row["index"]) for row in second] == [
        (name, index) for name in ("forget", "retain") for index in range(LIMIT)
    ]
    for alone, shared in zip(first, second, strict=True):
        assert shared["text"] == alone["text"]
        assert shared["truth"]["hits"] == alone["truth"]["hits"]
        assert shared["truth"]["logps"] == pytest.approx(alone["truth"]["logps"], abs=1e-5)


@pytest.mark.ddp
def test_two_processes_measure_the_same_ability_to_the_last_bit(two, folders: dict[str, Path]) -> None:
    for name in ability.Ability.outputs:
        first, second = ((folder / "ability" / name).read_bytes() for folder in folders.values())
        assert second == first
    assert len(lines(folders["two"] / "ability" / ability.ANSWERS)) == QUESTIONS


@pytest.mark.ddp
def test_two_processes_relearn_the_same_weights(two, folders: dict[str, Path]) -> None:
    first, second = (load_file(folder / "attack" / "model" / "model.safetensors") for folder in folders.values())
    before = load_file(folders["one"] / "start" / "model" / "model.safetensors")
    assert second.keys() == first.keys()
    assert max((second[name] - weight).abs().max().item() for name, weight in first.items()) < 1e-5
    assert max((first[name] - weight).abs().max().item() for name, weight in before.items()) > 1e-3


@pytest.mark.ddp
def test_two_processes_score_every_text_once(two, folders: dict[str, Path]) -> None:
    first, second = (lines(folder / "score" / "scores.jsonl") for folder in folders.values())
    assert len(second) == len({row["fact"] for row in second}) == LIMIT
    assert second == first


@pytest.mark.ddp
def test_a_sharded_training_leaves_an_ordinary_model(two, folders: dict[str, Path]) -> None:
    alone, shared = (folder / "unlearn" / "model" for folder in folders.values())
    assert {path.name for path in shared.iterdir()} == {path.name for path in alone.iterdir()}
    assert (shared / "config.json").read_text() == (alone / "config.json").read_text()
    first, second = (load_file(folder / "model.safetensors") for folder in (alone, shared))
    assert first.keys() == second.keys()
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-5
    loaded = AutoModelForCausalLM.from_pretrained(shared)
    assert loaded(torch.ones((1, 3), dtype=torch.long)).logits.isfinite().all()


@pytest.mark.ddp
def test_callbacks_of_a_sharded_training_see_the_whole_model(two, folders: dict[str, Path]) -> None:
    first, second = (lines(folder / "unlearn" / "metrics.jsonl") for folder in folders.values())
    seen = [name for point in second for name in point]
    assert "memo/clean/true_answers" in seen
    assert "eval/model_utility" in seen
    for alone, shared in zip(first, second, strict=True):
        watched = [name for name in alone if "/" in name and "seconds" not in name and "loss" not in name]
        assert alone.keys() == shared.keys()
        assert [shared[name] for name in watched] == pytest.approx([alone[name] for name in watched], abs=1e-5)
