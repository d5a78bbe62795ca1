from __future__ import annotations

from meow_lightning.config.options import option_types
from meow_lightning.config.schema import RunConfig
from meow_lightning.tracking.disclosure import OPTIONS, shareable

SECRET = "zanzibarium"


def test_numbers_and_names_of_choices_go_and_texts_stay() -> None:
    options = {
        "seed": 3,
        "outputs": f"/home/{SECRET}",
        "disclaimer": SECRET,
        "trusted_packages": [SECRET],
        "dataset": {"name": "jsonl", "_target_": SECRET, "forget": f"/{SECRET}.jsonl", "perturb": 5, "own": SECRET},
        "model": {
            "name": "own", "target": f"/{SECRET}", "tokenizer": SECRET, "precision": "32-true",
            "prompt": {"template": f"{SECRET} {{question}}", "answer_prefix": SECRET, "system": SECRET, "date": SECRET},
            "released_checkpoints": {"tofu": {"target": SECRET}}, "lora": {"rank": 8, "alpha": 32.0},
            "finetune": {"lr": 1e-5, "betas": [0.9, 0.999], "also": [SECRET], "warmup": "epoch"},
        },
        "method": {"name": "meow", "lr": {"default": 1e-5}, "select": {"k": 3, "strategy": "largest"}, "why": SECRET},
        "inversion": {
            "name": "endpoint", "model": SECRET, "base_url": SECRET, "context": SECRET, "candidates": 4,
            "extra": {"user": SECRET, "number": 4171}, "prompt": {"version": 1, "system": SECRET}, "path": SECRET,
        },
        "optim": {"name": "adamw", "lr": 5e-5, "epochs": None, "warmup": "epoch", "betas": [0.9, 0.95]},
        "evaluation": {"retain_predictions": f"/{SECRET}.json", "bootstrap_samples": 1000, "protocol": "none"},
        "logger": {"name": "wandb", "mode": "auto", "project": SECRET, "group": SECRET},
    }  # fmt: skip
    assert shareable(options) == {
        "seed": 3,
        "dataset": {"name": "jsonl", "perturb": 5},
        "model": {
            "name": "own", "precision": "32-true", "lora": {"rank": 8, "alpha": 32.0},
            "finetune": {"lr": 1e-5, "betas": [0.9, 0.999]},
        },
        "method": {"name": "meow", "lr": {"default": 1e-5}, "select": {"k": 3, "strategy": "largest"}},
        "inversion": {"name": "endpoint", "candidates": 4},
        "optim": {"name": "adamw", "lr": 5e-5, "epochs": None, "warmup": "epoch", "betas": [0.9, 0.95]},
        "evaluation": {"bootstrap_samples": 1000, "protocol": "none"},
        "logger": {"name": "wandb", "mode": "auto"},
    }  # fmt: skip


def test_every_option_on_the_list_is_one_that_the_program_knows() -> None:
    known = {option for option, _ in option_types(RunConfig, "")}
    free = ("dataset.", "inversion.", "memo.", "method.")  # their options are those of the class that they name
    assert [each for each in sorted(OPTIONS) if "." in each and not each.startswith(free) and each not in known] == []
    assert {each for each in OPTIONS if "." not in each} <= set(RunConfig.model_fields)
