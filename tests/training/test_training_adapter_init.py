from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.common import KillAfter, KillError, cpu
from transformers import AutoModelForCausalLM, GPT2Config, PhiConfig, PreTrainedModel

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.methods.loku import Loku
from meow_lightning.models.logprobs import answer_nll, scored_logits
from meow_lightning.models.lora import adapted_layers, merge_adapters, with_lora
from meow_lightning.training.adapter_init import DAMPING, fisher_row_weights, initialise_adapters
from meow_lightning.training.fit import checkpoint_step, fit
from meow_lightning.training.module import GRID, Optim, TrainingModule
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import Encoded

ROWS = {
    "forget": [Encoded((5, 6, 7, 8, 9, 10), 2), Encoded((11, 12, 13, 14), 1), Encoded((20, 21, 22), 1)],
    "retain": [Encoded((15, 16, 17), 1), Encoded((20, 21, 22, 23, 24), 3)],
}
SIZES = {"vocab_size": 300, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}


@pytest.fixture(params=["llama", "phi", "gpt2"])
def plain(request, tiny) -> PreTrainedModel:
    """A small random model of each family; GPT-2's weights are transposed, and its queries, keys and values one."""
    torch.manual_seed(0)
    if request.param == "phi":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        return AutoModelForCausalLM.from_config(PhiConfig(**SIZES, **sizes)).eval()
    if request.param == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2Config(**SIZES, n_embd=16, n_layer=1, n_head=2)).eval()
    return tiny.eval()


def adapted(model: PreTrainedModel, *, rank: int = 3) -> torch.nn.Module:
    return with_lora(model, rank=rank, alpha=6.0, dropout=0.0, seed=0)


def initialised(model: PreTrainedModel, init: str = "fila", *, grid: float = 0.0) -> torch.nn.Module:
    made = adapted(model)
    weights = fisher_row_weights(made, ROWS, pad_id=1) if init == "fila" else None
    initialise_adapters(made, row_weights=weights, seed=0, grid=grid)
    return made


def logits(model: torch.nn.Module) -> torch.Tensor:
    return scored_logits(model, collate(ROWS["forget"], pad_id=1))[0].detach()


def squares(model: PreTrainedModel, name: str, rows: list[Encoded]) -> torch.Tensor:
    """Mean of the squared gradients of single rows, by plain autograd."""
    total: Any = 0
    for row in rows:
        model.zero_grad()
        answer_nll(model, collate([row], pad_id=1)).sum().backward()
        total = total + model.get_parameter(name).grad ** 2
    return total / len(rows)


def test_row_weights_are_the_importance_for_the_forget_set_alone(plain) -> None:
    exact = copy.deepcopy(plain).double()
    found = fisher_row_weights(adapted(copy.deepcopy(exact)), ROWS, pad_id=1)
    assert len(found) == len(adapted_layers(adapted(copy.deepcopy(plain))))
    for name, row_weights in found.items():
        weight = name.removeprefix("base_model.model.") + ".weight"
        forget, retain = (squares(exact, weight, ROWS[each]) for each in ("forget", "retain"))
        ratios = forget / (retain + DAMPING * retain.mean())
        expected = ratios.sum(0 if plain.config.model_type == "gpt2" else 1).sqrt()
        torch.testing.assert_close(row_weights, expected, rtol=1e-6, atol=0, msg=name)


def test_rows_do_not_mix_and_their_order_does_not_matter(tiny) -> None:
    model = adapted(tiny.double())
    together = fisher_row_weights(model, ROWS, pad_id=1)
    alone = [fisher_row_weights(model, ROWS | {"forget": [row]}, pad_id=1) for row in ROWS["forget"]]
    turned = fisher_row_weights(model, {name: rows[::-1] for name, rows in ROWS.items()}, pad_id=1)
    for name, weights in together.items():
        mean = torch.stack([each[name] ** 2 for each in alone]).mean(0)
        torch.testing.assert_close(weights**2, mean)
        torch.testing.assert_close(weights, turned[name])


def test_the_pass_leaves_the_model_as_it_was(tiny) -> None:
    model = adapted(tiny)
    before = {name: (weight.clone(), weight.requires_grad) for name, weight in model.named_parameters()}
    fisher_row_weights(model, ROWS, pad_id=1)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0])
        assert weight.requires_grad == before[name][1]
        assert weight.grad is None
        assert not weight._post_accumulate_grad_hooks


def test_gradients_that_are_not_finite_are_reported(tiny) -> None:
    with torch.no_grad():
        tiny.get_parameter("model.layers.0.mlp.up_proj.weight")[0, 0] = math.inf
    with pytest.raises(UserError, match=r"^model\.lora\.init=fila: gradients of .* set model\.precision=32-true"):
        fisher_row_weights(adapted(tiny), ROWS, pad_id=1)


def test_a_retain_set_without_gradients_leaves_the_importance_of_the_forget_set(tiny, monkeypatch) -> None:
    model = adapted(tiny.double())
    with monkeypatch.context() as patched:
        patched.setattr("meow_lightning.training.adapter_init.DAMPING", 1e9)  # the retain importance vanishes beside it
        damped = fisher_row_weights(model, ROWS, pad_id=1)
    silent = fisher_row_weights(model, ROWS | {"retain": [Encoded((15, 16), 2)]}, pad_id=1)  # no scored token
    for name, weights in silent.items():
        assert weights.isfinite().all()
        torch.testing.assert_close(weights / weights.sum(), damped[name] / damped[name].sum(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("init", ["pissa", "fila"])
def test_at_first_it_answers_as_the_plain_model(plain, init: str) -> None:
    expected, before = logits(plain), {name: weight.clone() for name, weight in plain.state_dict().items()}
    model = initialised(plain, init)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)
    for layer in adapted_layers(model).values():
        assert layer.up.abs().max() > 1e-3, "B is not zero"
        assert layer.down.abs().max() > 1e-3
    merged = merge_adapters(model).state_dict()
    assert merged.keys() == before.keys()
    for name, weight in before.items():
        torch.testing.assert_close(merged[name], weight, rtol=0, atol=1e-5, msg=name)


def test_the_base_is_the_residual_and_gets_no_gradient(tiny) -> None:
    before = copy.deepcopy(tiny)
    model = initialised(tiny)
    answer_nll(model, collate(ROWS["forget"], pad_id=1)).sum().backward()
    for name, layer in adapted_layers(model).items():
        start = before.get_parameter(name.removeprefix("base_model.model.") + ".weight")
        assert layer.base.grad is None
        assert not torch.allclose(layer.base, start, atol=1e-3)
        torch.testing.assert_close(layer.base + layer.scale * layer.up @ layer.down, start, rtol=0, atol=1e-6)
        assert layer.up.grad.abs().max() > 0
        assert layer.down.grad.abs().max() > 0


def test_fila_and_pissa_move_different_parts(tiny) -> None:
    fila, pissa = (adapted_layers(initialised(copy.deepcopy(tiny), init)) for init in ("fila", "pissa"))
    for name, layer in fila.items():
        assert not torch.allclose(layer.up @ layer.down, pissa[name].up @ pissa[name].down, atol=1e-3)


def test_directions_beyond_the_rank_of_a_weight_start_as_default_ones(tiny) -> None:
    before = adapted_layers(adapted(copy.deepcopy(tiny), rank=20))
    model = adapted(tiny, rank=20)  # the weights are 16 wide
    initialise_adapters(model, row_weights=None, seed=0, grid=0.0)
    for name, layer in adapted_layers(model).items():
        assert torch.equal(layer.down[16:], before[name].down[16:])
        assert not layer.up[:, 16:].any()
        assert layer.up[:, :16].any(0).all()


def test_in_half_precision_only_the_residual_is_rounded(tiny) -> None:
    tiny = tiny.to(torch.bfloat16)
    before = copy.deepcopy(tiny)
    model = initialised(tiny)
    for name, layer in adapted_layers(model).items():
        start = before.get_parameter(name.removeprefix("base_model.model.") + ".weight").float()
        assert layer.up.dtype == layer.down.dtype == torch.float32
        gap = (layer.base.float() + layer.scale * layer.up @ layer.down - start).abs()
        assert (gap <= 2**-8 * layer.base.float().abs() + 1e-7).all()


def test_reproducible_adapters_lie_on_the_grid_and_the_residual_fits_them(tiny) -> None:
    tiny = tiny.double()
    before = copy.deepcopy(tiny)
    for name, layer in adapted_layers(initialised(tiny, grid=GRID)).items():
        start = before.get_parameter(name.removeprefix("base_model.model.") + ".weight")
        assert all(torch.equal((each / GRID).round() * GRID, each) for each in (layer.up, layer.down))
        torch.testing.assert_close(layer.base + layer.scale * layer.up @ layer.down, start, rtol=0, atol=1e-14)


def train(model: torch.nn.Module, folder: Path, *, kill: int = 99) -> bool:
    """Three steps of the project's own loop; false when the run was killed."""
    rng = random.Random(0)
    rows = {
        name: [Encoded(tuple(rng.choices(range(2, 290), k=rng.randint(4, 9))), 2) for _ in range(6)]
        for name in ("forget", "retain")
    }
    optim = Optim(
        optimizer="adamw", lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_grad_norm=1.0, warmup=0,
        schedule="constant", grid=0.0,
    )  # fmt: skip
    streams = {name: StreamData(each) for name, each in rows.items()}
    plan = BatchPlan(streams=streams, global_batch_size=2, batch_tokens=None, epochs=1, seed=1, paired=())
    method = Loku(retain="ce", retain_weight=1.0)
    prepare_method(
        method, model, rows=rows, seed=0, pad_id=1, micro_batch_size=1, micro_batch_tokens=None, may_attach=False
    )
    module = TrainingModule(model=model, method=method, plan=plan, optim=optim, log_every=1, reference=None)
    try:
        fit(module, folder=folder, machine=cpu("32-true", 1, 0.0), pad_id=1, callbacks=[KillAfter(kill)],
            write=lambda point: None)  # fmt: skip
    except KillError:
        return False
    return True


def test_a_killed_run_resumes_with_the_same_adapters_and_residual_weights(tiny, tmp_path: Path) -> None:
    whole, broken, resumed = (initialised(copy.deepcopy(tiny)) for _ in range(3))
    start = copy.deepcopy(whole)
    assert train(whole, tmp_path / "whole")
    assert not train(broken, tmp_path / "killed", kill=2)
    assert checkpoint_step(tmp_path / "killed" / "last.ckpt") == 1
    assert train(resumed, tmp_path / "killed")
    for name, weight in resumed.named_parameters():
        assert torch.equal(weight, whole.get_parameter(name)), name
        assert torch.equal(weight, start.get_parameter(name)) == ("lora_" not in name), name


def test_the_merged_model_is_saved_as_a_plain_one(tiny, tmp_path: Path) -> None:
    model = initialised(tiny)
    assert train(model, tmp_path / "training")
    trained = logits(model.eval())
    merge_adapters(model).save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").glob("*adapter*"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(loaded), trained, rtol=0, atol=1e-5)
