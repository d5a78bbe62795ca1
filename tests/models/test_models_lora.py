from __future__ import annotations

import copy
import random
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.common import KillAfter, KillError, cpu
from transformers import AutoModelForCausalLM, PhiConfig, PreTrainedModel, Qwen2Config

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.errors import UserError
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.methods.finetune import FineTune
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.models.lora import enable_checkpointing, merge_adapters, with_lora
from meow_lightning.training.fit import checkpoint_step, fit
from meow_lightning.training.module import Optim, TrainingModule
from meow_lightning.types import Encoded, TokenBatch

FAMILIES = ("llama", "phi", "qwen2")
SIZES = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
# Adapter weights of rank 3: 3 * sum over adapted layers of (inputs + outputs).
# llama, 1 layer: q k v o 4 * (16 + 16); gate up down 3 * (16 + 32): 3 * (128 + 144) = 816
# phi, 2 layers: q k v dense 4 * (16 + 16); fc1 fc2 2 * (16 + 24): 3 * 2 * (128 + 80) = 1248
# qwen2, 2 layers, one key-value head of width 8: q o 2 * 32, k v 2 * 24, gate up down 3 * 40: 3 * 2 * 232 = 1392
ADAPTER_WEIGHTS = {"llama": 816, "phi": 1248, "qwen2": 1392}


@pytest.fixture(params=FAMILIES)
def plain(request, tiny) -> PreTrainedModel:
    """A small random model of each family, in training mode; heads tied to the embeddings (llama) or not."""
    torch.manual_seed(0)
    if request.param == "phi":
        return AutoModelForCausalLM.from_config(PhiConfig(**SIZES)).train()
    if request.param == "qwen2":
        return AutoModelForCausalLM.from_config(Qwen2Config(**SIZES, num_key_value_heads=1)).train()
    return tiny


def lora(model: PreTrainedModel, *, dropout: float = 0.0, seed: int = 0) -> torch.nn.Module:
    return with_lora(model, rank=3, alpha=6.0, dropout=dropout, seed=seed)


def some_rows(to_rows) -> TokenBatch:
    return to_rows([([5, 6, 7, 8, 9, 10], 2), ([11, 12, 13, 14], 1), ([20, 21, 22, 23, 24], 3)], pad_id=1)


def loss_of(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    return cross_entropy(model, rows, stream="learn", weight=1.0).sum / rows.loss_mask_BT.sum()


def adapters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name}


def train(model: torch.nn.Module, rows: TokenBatch, *, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, rows).backward()
        optimizer.step()


def gradients(model: torch.nn.Module, rows: TokenBatch) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(7)  # for dropout
    loss = loss_of(model, rows)
    loss.backward()
    return loss.item(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_train_all_of_them_and_nothing_else(plain, to_rows, checkpointing: bool) -> None:
    before = {name: weight.clone() for name, weight in plain.state_dict().items()}
    model = lora(plain)
    assert sum(w.numel() for w in model.parameters() if w.requires_grad) == ADAPTER_WEIGHTS[plain.config.model_type]
    if checkpointing:
        enable_checkpointing(model)
    start = {name: weight.detach().clone() for name, weight in adapters(model).items()}
    rows = some_rows(to_rows)
    train(model, rows)
    assert set(gradients(model, rows)[1]) == set(start)
    assert all(weight.grad.abs().max() > 0 for weight in adapters(model).values())
    assert all((weight - start[name]).abs().max() > 1e-3 for name, weight in adapters(model).items())
    frozen = {name.replace(".base_layer", ""): weight for name, weight in model.get_base_model().state_dict().items()}
    assert all(torch.equal(frozen[name], weight) for name, weight in before.items())


def test_head_and_embeddings_have_no_adapter(plain) -> None:
    model = lora(plain)
    assert type(plain.lm_head) is torch.nn.Linear
    assert not [name for name in adapters(model) if "lm_head" in name or "embed" in name]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointing_changes_neither_loss_nor_gradients(plain, to_rows, dropout: float) -> None:
    kept, rows = lora(plain, dropout=dropout), some_rows(to_rows)
    train(kept, rows)
    again = copy.deepcopy(kept)
    enable_checkpointing(again)
    passes = 0

    def count(*unused: Any) -> None:
        nonlocal passes
        passes += 1

    next(m for name, m in again.named_modules() if name.endswith("layers.0.self_attn")).register_forward_hook(count)
    loss, grads = gradients(kept, rows)
    other_loss, other_grads = gradients(again, rows)
    assert passes == 2  # forward, and once more in the backward pass
    assert other_loss == pytest.approx(loss, abs=1e-6)
    assert set(grads) == set(other_grads) == set(adapters(kept))
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=0, atol=1e-6)
    if dropout:
        kept.eval()
        assert gradients(kept, rows)[0] != loss  # there was dropout to keep


def test_checkpointing_a_plain_model_gives_the_gradients_of_without(plain, to_rows) -> None:
    rows = some_rows(to_rows)
    loss, grads = gradients(plain, rows)
    grads = {name: grad.clone() for name, grad in grads.items()}
    enable_checkpointing(plain)
    other_loss, other_grads = gradients(plain, rows)
    assert other_loss == pytest.approx(loss, abs=1e-6)
    assert set(grads) == set(other_grads)
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=0, atol=1e-6)


def test_checkpointing_does_not_rest_on_the_input_needing_a_gradient(plain, to_rows) -> None:
    model, rows = lora(plain), some_rows(to_rows)
    expected = gradients(model, rows)[1]
    expected = {name: grad.clone() for name, grad in expected.items()}
    enable_checkpointing(model)
    model.disable_input_require_grads()
    found = gradients(model, rows)[1]
    assert set(found) == set(expected) == set(adapters(model))
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=1e-6)


def test_cache_is_refused_in_training_alone(plain) -> None:
    model, ids = lora(plain), torch.tensor([[5, 6, 7, 8]])
    assert model(input_ids=ids).past_key_values.get_seq_length() == 4
    enable_checkpointing(model)
    cache = model(input_ids=ids).past_key_values
    assert cache is None or cache.get_seq_length() == 0
    model.eval()
    assert model(input_ids=ids).past_key_values.get_seq_length() == 4
    assert merge_adapters(model).config.use_cache is True


def test_checkpointing_by_the_name_of_older_transformers() -> None:
    asked: list[dict[str, bool]] = []
    older = SimpleNamespace(supports_gradient_checkpointing=True, gradient_checkpointing_enable=asked.append)
    enable_checkpointing(older)
    assert asked == [{"use_reentrant": False}]


def test_unsupported_gradient_checkpointing_is_reported(tiny) -> None:
    tiny.supports_gradient_checkpointing = False
    text = r"^trainer\.gradient_checkpointing=true is invalid: .* models of type llama; "
    with pytest.raises(UserError, match=text):
        enable_checkpointing(lora(tiny))


def test_no_warning_reaches_the_user(tiny, to_rows) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lora(tiny)
        enable_checkpointing(model)
        loss_of(model, some_rows(to_rows)).backward()
        merge_adapters(model)


def test_at_first_it_answers_as_the_plain_model(plain, to_rows) -> None:
    rows = some_rows(to_rows)
    expected, ids = scored_logits(plain, rows)
    logits, other_ids = scored_logits(lora(plain, dropout=0.5), rows)
    assert torch.equal(logits, expected)
    assert torch.equal(ids, other_ids)


def test_scored_logits_are_those_of_the_whole_forward_pass(plain, to_rows) -> None:
    model, ids = lora(plain), [5, 6, 7, 8, 9]
    train(model, some_rows(to_rows))
    logits, scored = scored_logits(model, to_rows([(ids, 2)], width=8, pad_id=1))
    assert scored.tolist() == [7, 8, 9]
    torch.testing.assert_close(logits, model(input_ids=torch.tensor([ids])).logits[0, 1:4], rtol=0, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_merged_model_is_the_plain_one_with_other_weights(plain, to_rows, checkpointing: bool) -> None:
    next(plain.parameters()).requires_grad_(False)  # whoever froze it wants it so
    kind, config, rows = type(plain), copy.deepcopy(plain.config.to_dict()), some_rows(to_rows)
    keys, trainable = list(plain.state_dict()), {name: w.requires_grad for name, w in plain.named_parameters()}
    model = lora(plain)
    if checkpointing:
        enable_checkpointing(model)
    first = scored_logits(model, rows)[0].detach()
    train(model, rows)
    adapted = scored_logits(model, rows)[0].detach()
    result = merge_adapters(model)
    assert type(result) is kind
    assert list(result.state_dict()) == keys
    assert {name: weight.requires_grad for name, weight in result.named_parameters()} == trainable
    assert set(trainable.values()) == {True, False}
    assert result.config.to_dict() == config
    assert not hasattr(result, "peft_config")
    assert not [name for name, module in result.named_modules() if "peft" in type(module).__module__]
    torch.testing.assert_close(scored_logits(result, rows)[0].detach(), adapted, rtol=0, atol=1e-5)
    assert (adapted - first).abs().max() > 1e-2


def test_saved_folder_loads_without_peft(plain, to_rows, tokenizer, tmp_path, monkeypatch) -> None:
    model, rows = lora(plain), some_rows(to_rows)
    train(model, rows)
    adapted = scored_logits(model.eval(), rows)[0].detach()
    merge_adapters(model).save_pretrained(tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if "adapter" in path.name]
    assert "peft" not in (tmp_path / "config.json").read_text()
    for name in [name for name in sys.modules if name.split(".")[0] == "peft"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError):
        import peft  # noqa: F401
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(scored_logits(loaded, rows)[0].detach(), adapted, rtol=0, atol=1e-5)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == plain.config.tie_word_embeddings


def test_merging_a_plain_model_is_refused(tiny) -> None:
    with pytest.raises(
        ValueError, match=r"^LlamaForCausalLM has no adapters to merge: pass the model that with_lora returned$"
    ):
        merge_adapters(tiny)


def test_adapters_may_follow_adapters(tiny, to_rows) -> None:
    rows = some_rows(to_rows)
    enable_checkpointing(tiny)
    for seed in (0, 1):
        model = lora(tiny, seed=seed)
        train(model, rows)
        adapted = scored_logits(model, rows)[0].detach()
        tiny = merge_adapters(model)
        torch.testing.assert_close(scored_logits(tiny, rows)[0].detach(), adapted, rtol=0, atol=1e-5)
    assert len(tiny.get_input_embeddings()._forward_hooks) == 1


def test_memo_engine_continues_with_adapters_as_with_the_merged_model(plain, to_rows) -> None:
    model = lora(plain)
    enable_checkpointing(model)
    train(model, some_rows(to_rows), steps=10)
    prompts = [[5, 6, 7], [11], [20, 21, 22, 23], [5, 6]]

    def said(speaker: torch.nn.Module) -> dict[int, tuple[int, ...]]:
        found = continue_greedily(
            speaker.eval(), prompts, budgets=[6] * 4, end_ids=frozenset({0}), pad_id=1, slots=3, progress=None
        )
        return {index: continuation.ids for index, continuation in found}

    answers = said(model)
    assert len(set(answers.values())) > 1
    assert said(merge_adapters(model)) == answers


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float32),
                            (torch.float16, torch.float32), (torch.float64, torch.float64)],
)  # fmt: skip
def test_precision_of_adapters_and_of_what_comes_out(tiny, to_rows, dtype: Any, expected: Any) -> None:
    model = lora(tiny.to(dtype))
    assert {weight.dtype for weight in adapters(model).values()} == {expected}
    assert {weight.dtype for name, weight in model.named_parameters() if "lora_" not in name} == {dtype}
    assert model(input_ids=torch.tensor([[5, 6]])).logits.dtype == dtype
    train(model, some_rows(to_rows))
    assert {weight.dtype for weight in merge_adapters(model).parameters()} == {dtype}


def test_the_seed_alone_decides_and_no_global_state_moves(tiny) -> None:
    found = []
    for seed, precision, world in ((3, torch.float32, 1), (3, torch.bfloat16, 2), (4, torch.float32, 1)):
        torch.manual_seed(world)
        random.seed(world)
        state, other_state = torch.get_rng_state(), random.getstate()
        model = lora(copy.deepcopy(tiny).to(precision), seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        assert random.getstate() == other_state
        found.append(adapters(model))
    for name, weight in found[0].items():
        if "lora_A" in name:
            assert not torch.equal(weight, found[2][name])
            assert 0.8 * weight.shape[1] ** -0.5 < weight.abs().max() <= weight.shape[1] ** -0.5
            # Rounded on the way where the weights are bfloat16.
            torch.testing.assert_close(weight, found[1][name], rtol=2**-8, atol=0)
        else:
            assert not weight.any()
    assert all(torch.equal(w, adapters(lora(copy.deepcopy(tiny), seed=3))[name]) for name, w in found[0].items())


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"rank": 0}, r"^model\.lora\.rank=0 is invalid: .*Did you mean 1\?$"),
        ({"alpha": 0.0}, r"^model\.lora\.alpha=0\.0 is invalid: .*Did you mean 6\?$"),
        ({"alpha": -1.0}, r"^model\.lora\.alpha=-1\.0 is invalid"),
        ({"alpha": float("nan")}, r"^model\.lora\.alpha=nan is invalid"),
        ({"alpha": float("inf")}, r"^model\.lora\.alpha=inf is invalid"),
        ({"dropout": 1.0}, r"^model\.lora\.dropout=1\.0 is invalid: .*Did you mean 0\.99\?$"),
        ({"dropout": -0.1}, r"^model\.lora\.dropout=-0\.1 is invalid: .*Did you mean 0\.0\?$"),
        ({"dropout": float("nan")}, r"^model\.lora\.dropout=nan is invalid"),
    ],
)  # fmt: skip
def test_invalid_options(tiny, wish: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        with_lora(tiny, **{"rank": 3, "alpha": 6.0, "dropout": 0.0, "seed": 0, **wish})
    assert not adapters(tiny)


def run(model: torch.nn.Module, folder: Any, *, precision: str = "32-true", kill: int = 99) -> bool:
    """Three steps of two rows under the project's own loop; false when the run was killed."""
    rng = random.Random(0)
    rows = [Encoded(tuple(rng.choices(range(2, 290), k=rng.randint(4, 9))), 2) for _ in range(6)]
    optim = Optim(
        optimizer="adamw", lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_grad_norm=1.0, warmup=0,
        schedule="constant", grid=0.0,
    )  # fmt: skip
    plan = BatchPlan(
        streams={"learn": StreamData(rows)}, global_batch_size=2, batch_tokens=None, epochs=1, seed=1, paired=()
    )
    module = TrainingModule(model=model, method=FineTune(), plan=plan, optim=optim, log_every=1, reference=None)
    try:
        fit(module, folder=folder, machine=cpu(precision, 1, 0.0), pad_id=1, callbacks=[KillAfter(kill)],
            write=lambda point: None)  # fmt: skip
    except KillError:
        return False
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_moves_adapters_alone_and_a_killed_run_goes_on(tiny, tmp_path, dtype, checkpointing) -> None:
    start = lora(tiny.to(dtype), dropout=0.2)
    if checkpointing:
        enable_checkpointing(start)
    whole, broken, resumed = copy.deepcopy(start), copy.deepcopy(start), copy.deepcopy(start)
    assert run(whole, tmp_path / "whole")
    for name, weight in whole.named_parameters():
        before = start.get_parameter(name)
        assert weight.dtype == before.dtype == (torch.float32 if "lora_" in name else dtype)
        assert torch.equal(weight, before) == ("lora_" not in name), name
    assert not run(broken, tmp_path / "killed", kill=2)
    assert checkpoint_step(tmp_path / "killed" / "last.ckpt") == 1
    assert run(resumed, tmp_path / "killed")
    assert all(torch.equal(weight, whole.get_parameter(name)) for name, weight in resumed.named_parameters())


def test_true_half_precision_of_lightning_would_cast_adapters(tiny, tmp_path) -> None:
    # What the docstring warns of; when this fails, stages need not ask for 32-true any more.
    model = lora(tiny.to(torch.bfloat16))
    assert run(model, tmp_path, precision="bf16-true")
    assert {weight.dtype for weight in adapters(model).values()} == {torch.bfloat16}


def test_asking_without_adapters_leaves_what_is_frozen_frozen(tiny) -> None:
    from meow_lightning.models.frozen_view import FrozenView
    from meow_lightning.models.lora import without_adapters

    adapted = with_lora(tiny, rank=2, alpha=4.0, dropout=0.0, seed=0)
    first = next(weight for name, weight in adapted.named_parameters() if "lora_A" in name)
    first.requires_grad_(False)
    before = [weight.requires_grad for weight in adapted.parameters()]
    FrozenView(adapted, without_adapters)(input_ids=torch.tensor([[5, 6, 7]]))
    assert [weight.requires_grad for weight in adapted.parameters()] == before
