from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from meow_lightning.errors import UserError
from meow_lightning.resources.logit_blocks import rows_per_block
from meow_lightning.resources.suggestions import settings_that_fit
from meow_lightning.resources.training_memory import (
    PROGRAM,
    MemorySettings,
    ModelDims,
    TrainingLoad,
    dims_of,
    lora_parameters,
    tiny_dims,
    training_memory,
    training_need,
)

LLAMA_2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_3_2_1B = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32, "head_dim": 64,
    "num_hidden_layers": 16, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": True,
}  # fmt: skip
QWEN_2_5_1_5B = {
    "model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
    "num_hidden_layers": 28, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
PHI_1_5 = {
    "model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
    "num_hidden_layers": 24, "num_key_value_heads": None, "vocab_size": 51200, "hidden_act": "gelu_new",
}  # fmt: skip
PYTHIA_1B = {
    "model_type": "gpt_neox", "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 8,
    "num_hidden_layers": 16, "vocab_size": 50304, "hidden_act": "gelu",
}  # fmt: skip
GPT_2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
TINY = {"_target_": "llama", "hidden_size": 128, "layers": 2, "heads": 4, "intermediate_size": 384, "context": 256}


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (LLAMA_2_7B, 6_738_415_616),
        (LLAMA_3_2_1B, 1_235_814_400),
        (QWEN_2_5_1_5B, 1_543_714_304),
        (PHI_1_5, 1_418_270_720),
        (PYTHIA_1B, 1_011_781_632),
        (GPT_2, 124_439_808),
    ],
)
def test_published_models_are_counted_to_the_last_weight(config, count):
    assert dims_of(config, parameters=None).parameters == count


def test_biases_that_a_llama_asks_for_count():
    config = {**LLAMA_2_7B, "attention_bias": True, "mlp_bias": True}
    more = dims_of(config, parameters=None).parameters - 6_738_415_616
    assert more == 32 * (4 * 4096 + 2 * 11008 + 4096)


def test_sizes_are_read_under_every_name():
    shape = dims_of(GPT_2, parameters=7)
    assert shape == ModelDims(
        parameters=7, hidden=768, layers=12, heads=12, kv_heads=12, head=64, intermediate=3072, vocabulary=50257,
        tied=True, gated=False, kept=5,
    )  # fmt: skip
    llama = dims_of(LLAMA_3_2_1B, parameters=7)
    assert (llama.kv_heads, llama.head, llama.tied, llama.gated, llama.kept) == (8, 64, True, True, 4)
    assert dims_of(PYTHIA_1B, parameters=7).kept == 2
    assert not dims_of(PHI_1_5, parameters=7).tied
    assert dims_of({"text_config": GPT_2}, parameters=7) == shape


def test_the_tiny_model_is_a_tied_llama():
    shape = tiny_dims(TINY, 2048)
    # 2048 * 128 of embedding, 2 layers of 4 * 128^2 + 3 * 128 * 384 + 2 * 128, and the last norm
    assert shape.parameters == 262_144 + 2 * (65_536 + 147_456 + 256) + 128 == 688_768
    assert (shape.hidden, shape.layers, shape.heads, shape.head, shape.tied) == (128, 2, 4, 32, True)


def test_a_config_without_a_size_is_refused():
    with pytest.raises(UserError, match=r"config.json has no positive num_hidden_layers or n_layer; provide the fold"):
        dims_of({**GPT_2, "n_layer": 0}, parameters=None)


def test_experts_are_counted_only_from_files():
    config = {**LLAMA_2_7B, "model_type": "mixtral", "num_local_experts": 8}
    assert dims_of(config, parameters=9).parameters == 9
    with pytest.raises(UserError, match=r"the size of a mixture of experts \(mixtral\); provide its \*.safetensors"):
        dims_of(config, parameters=None)


def test_adapters_of_the_7b_model():
    # rank 16: 32 layers of 4 * (4096 + 4096) for attention and 3 * (4096 + 11008) for the feed-forward part
    assert lora_parameters(dims_of(LLAMA_2_7B, parameters=None), rank=16) == 32 * 16 * (32_768 + 45_312) == 39_976_960


def test_adapters_know_shared_keys_and_values_and_a_missing_gate():
    # queries 2048 -> 2048, keys and values 2048 -> 512, out 2048 -> 2048, three of 2048 and 8192
    assert lora_parameters(dims_of(LLAMA_3_2_1B, parameters=None), rank=8) == 16 * 8 * (2 * 4096 + 2 * 2560 + 30_720)
    assert lora_parameters(dims_of(PHI_1_5, parameters=None), rank=8) == 24 * 8 * (4 * 4096 + 2 * 10_240)


SMALL = ModelDims(
    parameters=1000, hidden=10, layers=3, heads=2, kv_heads=1, head=5, intermediate=20, vocabulary=100, tied=True,
    gated=True, kept=4,
)  # fmt: skip


def train(**changed):
    given = {
        "weight_bytes": 4, "compute_bytes": 4, "rows": 2, "tokens": 7, "scored": 3, "gradient_checkpointing": False,
        "trained": 1000, "slack": 1.0,
    }  # fmt: skip
    return training_memory(SMALL, **(given | changed))


def test_a_step_in_fp32():
    memory = train()
    # per token and layer: norms 2 * 12 * 10, attention 4 * 4 * 10, feed-forward 4 * 4 * 20 = 720; last norm 120
    assert memory.activations == 2 * 7 * (3 * 720 + 120) == 31_920
    assert memory.logits == 2 * 3 * 100 * 20 == 12_000
    assert (memory.weights, memory.gradients, memory.optimizer) == (4000, 4000, 8000)
    assert (memory.cache, memory.program) == (0, PROGRAM)
    assert memory.total == 4000 + 4000 + 8000 + 31_920 + 12_000 + PROGRAM


def test_slack_is_for_what_passes_take_alone():
    plain, loose = train(), train(slack=1.5)
    assert (loose.activations, loose.logits) == (47_880, 18_000)
    assert loose.total - plain.total == 15_960 + 6_000


def test_checkpointing_keeps_one_hidden_state_per_layer_and_one_layer():
    assert train(gradient_checkpointing=True).activations == 2 * 7 * (3 * 40 + 720 + 120)


def test_mixed_precision_keeps_a_second_copy_and_halves_what_linear_layers_hold():
    memory = train(compute_bytes=2)
    assert memory.weights == 4000 + 2000
    assert memory.optimizer == 8000
    assert memory.activations == 2 * 7 * (3 * (2 * 10 * 10 + 2 * 40 + 2 * 80) + 100)
    assert memory.logits == 12_000  # losses are computed in fp32


def test_plain_bf16_halves_weights_gradients_and_moments():
    memory = train(weight_bytes=2, compute_bytes=2)
    assert (memory.weights, memory.gradients, memory.optimizer) == (2000, 2000, 4000)
    assert memory.activations == 2 * 7 * (3 * (2 * 8 * 10 + 2 * 40 + 2 * 80) + 80)


def test_adapters_alone_have_gradients_and_moments_and_stay_float32():
    memory = train(weight_bytes=2, compute_bytes=2, trained=50)
    assert (memory.weights, memory.gradients, memory.optimizer) == (2000 + 200, 200, 400)
    # on top of the plain layer: (8 - 2) bytes of 5 * 10 (queries, keys, values, gate, up), 10 (out), 20 (down)
    assert memory.activations == 2 * 7 * (3 * (400 + 6 * 80) + 80)
    assert train(trained=50).activations == 2 * 7 * (3 * (720 + 4 * 80) + 120)


@pytest.mark.parametrize(("optimizer", "bytes_per_weight", "host"), [("adamw8bit", 2, 0), ("paged", 0, 8)])
@pytest.mark.parametrize(("wish", "trained"), [({}, 1000), ({"weight_bytes": 2, "trained": 50}, 50)])
def test_thrifty_moments_take_two_bytes_or_main_memory(optimizer, bytes_per_weight, host, wish, trained):
    plain, memory = train(**wish), train(**wish, optimizer=optimizer)
    assert (memory.optimizer, memory.host) == (bytes_per_weight * trained, host * trained)
    assert plain.total - memory.total == plain.optimizer - memory.optimizer  # what lies in main memory does not count
    assert (
        train(rows=1, tokens=1, scored=1, optimizer=optimizer).optimizer == bytes_per_weight * 1000
    )  # and there is no copy


def test_the_optimizers_own_copy_shows_where_passes_are_small():
    memory = train(rows=1, tokens=1, scored=1)  # 2280 of activations and 2000 of logits: more than the copy of 4000
    assert memory.optimizer == 8000
    memory = training_memory(
        SMALL,
        weight_bytes=4,
        compute_bytes=4,
        rows=1,
        tokens=1,
        scored=0,
        gradient_checkpointing=False,
        trained=1000,
        slack=1.0,
    )
    assert memory.optimizer == 8000 + 4000 - 2280


# Peak VmRSS less the imported program's, measured with torch 2.13 on a CPU: rows of 64 tokens, 24 scored, fp32.
WIDE = {"hidden_size": 512, "layers": 4, "heads": 8, "intermediate_size": 1536}


@pytest.mark.parametrize(
    ("architecture", "vocabulary", "rows", "measured"),
    [(TINY, 2048, 16, 69.7e6), (TINY, 2048, 64, 248.4e6), (WIDE, 8192, 8, 460.1e6), (WIDE, 8192, 32, 991.9e6)],
)
def test_the_estimate_is_near_what_was_measured(architecture, vocabulary, rows, measured):
    shape = tiny_dims(architecture, vocabulary)
    memory = training_memory(
        shape, weight_bytes=4, compute_bytes=4, rows=rows, tokens=64, scored=24, gradient_checkpointing=False,
        trained=shape.parameters,
    )  # fmt: skip
    assert 0.9 < (memory.total - memory.program) / measured < 1.4


KNOBS = MemorySettings(
    micro_batch_size=8,
    micro_batch_tokens=None,
    gradient_checkpointing=False,
    rank=None,
    init="default",
    precision="bf16-mixed",
    devices=1,
    optimizer="adamw",
    strategy="auto",
)
LOAD = TrainingLoad(streams=2, batch=32, tokens=1000, scored=200, shared=False, slack=1.0)
BIG = dims_of(LLAMA_3_2_1B, parameters=None)


def test_a_frozen_copy_takes_its_weights_where_there_are_no_adapters() -> None:
    shape, knobs = BIG, KNOBS
    plain, beside = (training_need(shape, knobs, replace(LOAD, reference=wish)) for wish in (False, True))
    assert beside.total - plain.total == beside.weights - plain.weights == 2 * shape.parameters
    adapted = replace(knobs, rank=8)
    assert training_need(shape, adapted, LOAD) == training_need(shape, adapted, replace(LOAD, reference=True))
    residual = replace(adapted, init="pissa")  # the model without these adapters is not the start model
    more = (
        training_need(shape, residual, replace(LOAD, reference=True)).total - training_need(shape, adapted, LOAD).total
    )
    assert more == 2 * shape.parameters


@pytest.mark.parametrize(
    ("knobs", "rows", "passed"),
    [
        ({}, 32, 8),
        ({"micro_batch_size": 64}, 24, 24),
        ({"micro_batch_size": 64, "devices": 2, "strategy": "ddp"}, 25, 13),  # the larger of two shares
        ({"micro_batch_size": 8, "devices": 2, "strategy": "ddp"}, 25, 8),
        ({"micro_batch_tokens": 64_000}, 24, 24),
        ({"micro_batch_tokens": 4000}, 24, 4),
    ],
)
def test_a_pass_holds_no_more_rows_than_a_process_gets_of_a_step(knobs, rows, passed):
    wish, load = replace(KNOBS, **knobs), replace(LOAD, batch=rows)
    assert wish.rows_per_pass(load) == passed
    expected = replace(wish, micro_batch_size=passed, micro_batch_tokens=None)
    assert training_need(BIG, wish, load) == training_need(BIG, expected, load)


def totals(**changed):
    return training_need(BIG, replace(KNOBS, **changed), LOAD).total


def test_a_perturbation_keeps_a_copy_of_the_trained_weights():
    plain, perturbed = (training_need(BIG, replace(KNOBS, perturbed=each), LOAD) for each in (False, True))
    assert perturbed.total - plain.total == perturbed.weights - plain.weights == 4 * BIG.parameters
    assert totals(perturbed=True, rank=8) - totals(rank=8) == 4 * lora_parameters(BIG, rank=8)
    sharded = {"devices": 4, "strategy": "fsdp"}
    assert totals(perturbed=True, **sharded) - totals(**sharded) == BIG.parameters


def test_settings_become_bytes():
    memory = training_need(BIG, KNOBS, LOAD)
    assert memory == training_memory(
        BIG, weight_bytes=4, compute_bytes=2, rows=16, tokens=1000, scored=200, gradient_checkpointing=False,
        trained=1_235_814_400, slack=1.0,
    )  # fmt: skip
    adapters = training_need(BIG, replace(KNOBS, rank=8), LOAD)
    assert adapters.weights == 2 * 1_235_814_400 + 4 * lora_parameters(BIG, rank=8)


def test_tokens_in_the_place_of_rows():
    assert [replace(KNOBS, micro_batch_tokens=tokens).rows(1000) for tokens in (None, 100, 1000, 1001, 4000)] == [
        8,
        1,
        1,
        2,
        4,
    ]
    assert totals(micro_batch_tokens=4000) == totals(micro_batch_size=4)
    smaller = settings_that_fit(
        BIG, replace(KNOBS, micro_batch_tokens=16_000), LOAD, available=totals(micro_batch_size=4)
    )
    assert smaller[0] == ("trainer.micro_batch_tokens=4000", totals(micro_batch_size=4))


def test_every_process_pages_into_one_main_memory():
    two = training_need(BIG, replace(KNOBS, devices=2, optimizer="paged"), LOAD)
    assert (two.host, two.optimizer) == (2 * 8 * BIG.parameters, 0)


def test_processes_exchange_gradients_and_may_share_one_memory():
    two = replace(KNOBS, devices=2, strategy="ddp")
    one = training_need(BIG, KNOBS, LOAD)
    apart = training_need(BIG, two, LOAD)
    assert apart.total == one.total + one.gradients
    together = replace(LOAD, shared=True)
    assert training_need(BIG, two, together).total == 2 * apart.total
    words = settings_that_fit(BIG, two, together, available=one.total)
    assert ("trainer.devices=1", one.total) in words


def shards(**changed):
    """What one of four processes needs for SMALL (1000 weights, 100 entries times 10 wide and tied, 3 layers)."""
    knobs = replace(KNOBS, precision="32-true", devices=4, strategy="fsdp")
    load = replace(LOAD, tokens=7, scored=3)
    shape = replace(SMALL, parameters=1900)
    picked = {"knobs": knobs, "load": load}
    for name, value in changed.items():
        each = "knobs" if hasattr(knobs, name) else "load"
        picked[each] = replace(picked[each], **{name: value})
    return training_need(shape, picked["knobs"], picked["load"])


def test_shards_divide_weights_gradients_and_optimizer_states():
    memory = shards()
    # 7600 bytes of weights: 4000 of them embeddings, 1200 a layer; 32 rows are one pass of 8 for each of 4 processes
    assert memory.weights == 7600 // 4 + 4000 + 2 * 1200
    assert memory.gradients == 7600 // 4 + 4000 + 1200
    assert memory.optimizer == 2 * 7600 // 4
    assert memory.activations == 16 * 7 * (3 * 720 + 120)
    beside = shards(devices=1)
    assert (beside.weights, beside.gradients, beside.optimizer) == (7600, 7600, 15_200)


def test_shards_are_complete_at_rest_in_probes_and_at_the_start():
    memory = shards()
    assert shards(micro_batch_size=7).gradients == 7600 // 4 + 7600  # two passes: gradients wait for the exchange
    assert shards(watched=True).weights == memory.weights + 7600
    assert shards(reference=True).weights == memory.weights + 7600 // 4
    assert shards(precision="bf16-mixed").weights == memory.weights + 2 * 1900  # the copies do not shrink
    assert shards(shared=True).total == 4 * memory.total
    big = replace(
        KNOBS, precision="bf16-true", micro_batch_size=1, gradient_checkpointing=True, devices=64, strategy="fsdp"
    )
    start = training_need(BIG, big, replace(LOAD, tokens=1, scored=1, reference=True))
    assert start.total == 2 * 2 * BIG.parameters + PROGRAM  # the model and its frozen copy, before they are sharded


def test_adapters_are_not_sharded_and_shards_help_where_devices_have_a_memory_each():
    assert shards(rank=2) == shards(rank=2, strategy="ddp")
    two = replace(KNOBS, devices=2, strategy="ddp")
    words = dict(settings_that_fit(BIG, two, LOAD, available=totals()))
    assert words["trainer.strategy=fsdp"] == totals(devices=2, strategy="fsdp")
    words = settings_that_fit(BIG, replace(two, strategy="fsdp"), LOAD, available=totals(micro_batch_size=1))
    assert words and not [each for each, _ in words if "lora" in each or "strategy" in each]
    assert not [
        each
        for each, _ in settings_that_fit(BIG, two, replace(LOAD, shared=True), available=totals())
        if "fsdp" in each
    ]


def test_the_largest_smaller_micro_batch_that_fits_comes_first():
    found = settings_that_fit(BIG, KNOBS, LOAD, available=totals(micro_batch_size=4))
    assert found[0] == ("trainer.micro_batch_size=4", totals(micro_batch_size=4))
    assert (
        settings_that_fit(BIG, KNOBS, LOAD, available=totals(micro_batch_size=4) - 1)[0][0]
        == "trainer.micro_batch_size=2"
    )


def fitting(there):
    found = settings_that_fit(BIG, KNOBS, LOAD, available=there)
    assert all(total <= there for _, total in found)
    return [words for words, _ in found]


def test_options_that_change_numbers_come_last():
    assert fitting(totals(precision="bf16-true")) == [
        "trainer.micro_batch_size=4", "trainer.gradient_checkpointing=true", "model.precision=bf16-true",
    ]  # fmt: skip


def test_pairs_come_where_neither_is_enough_alone():
    assert fitting(totals(micro_batch_size=1)) == [
        "trainer.micro_batch_size=1",
        "trainer.gradient_checkpointing=true model.precision=bf16-true",
        "trainer.gradient_checkpointing=true model.lora.rank=16",
    ]
    assert fitting(totals(micro_batch_size=1) - 1) == [
        "trainer.micro_batch_size=4 trainer.gradient_checkpointing=true",
        "trainer.micro_batch_size=4 model.precision=bf16-true",
        "trainer.micro_batch_size=2 model.lora.rank=16",
        "trainer.gradient_checkpointing=true model.precision=bf16-true",
        "trainer.gradient_checkpointing=true model.lora.rank=16",
    ]
    assert fitting(totals(micro_batch_size=1, rank=16)) == [
        "trainer.micro_batch_size=1 model.lora.rank=16",
        "trainer.gradient_checkpointing=true model.lora.rank=16",
    ]


def test_nothing_fits_into_nothing_and_nothing_is_left_to_set():
    assert settings_that_fit(BIG, KNOBS, LOAD, available=10**9) == []
    least = replace(KNOBS, micro_batch_size=1, gradient_checkpointing=True, rank=8)
    assert settings_that_fit(BIG, least, LOAD, available=10**15) == []


def test_planning_does_not_wait_for_torch():
    code = (
        "import sys, meow_lightning.resources.training_memory, meow_lightning.resources.hardware; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LARGE = replace(SMALL, vocabulary=49_152)


def large(shape=LARGE, **changed):
    given = {"weight_bytes": 4, "compute_bytes": 4, "gradient_checkpointing": False, "trained": 1000, "slack": 1.0}
    return training_memory(shape, **given | {"rows": 64, "tokens": 64, "scored": 50} | changed).logits


def test_logits_of_a_large_vocabulary_exist_for_one_block():
    assert rows_per_block(64 * 50, 49_152) == 341
    assert large() == 341 * 49_152 * 20
    assert large(rows=1024) == large()
    assert large(rows=2) == 100 * 49_152 * 20
    assert large(compute_bytes=2) == 341 * 49_152 * 20 + 49_152 * 10 * 2  # and a copy of the head's weight


# Peaks of VmHWM of SmolLM2-135M, measured with torch 2.13 on a CPU: 4 rows of up to 125 tokens, 60 columns scored.
@pytest.mark.parametrize(("compute_bytes", "measured"), [(4, 3523), (2, 3687)])
def test_the_estimate_for_a_large_vocabulary_is_near_what_was_measured(compute_bytes, measured):
    shape = ModelDims(
        parameters=134_515_008, hidden=576, layers=30, heads=9, kv_heads=3, head=64, intermediate=1536,
        vocabulary=49_152, tied=True, gated=True, kept=4,
    )  # fmt: skip
    memory = training_memory(
        shape, weight_bytes=4, compute_bytes=compute_bytes, rows=4, tokens=125, scored=60,
        gradient_checkpointing=False, trained=shape.parameters,
    )  # fmt: skip
    assert 0.9 < memory.total / 2**20 / measured < 1.2


def test_logits_that_change_after_the_head_exist_whole_in_the_smaller_format():
    whole = 2 * 64 * 50 * 49_152
    assert large(replace(LARGE, separable=False), compute_bytes=2) == 341 * 49_152 * 20 + 2 * whole
    assert not dims_of({**LLAMA_3_2_1B, "final_logit_softcapping": 30.0}, parameters=7).separable
    assert dims_of(LLAMA_3_2_1B, parameters=7).separable


def test_a_sharded_model_computes_its_logits_whole():
    load = replace(LOAD, batch=64)
    sharded = training_need(BIG, replace(KNOBS, devices=2, strategy="fsdp"), load)
    assert sharded.logits - training_need(BIG, replace(KNOBS, devices=2, strategy="ddp"), load).logits == (
        2 * 16 * 200 * 128_256 * 2 - BIG.head_parameters * 2
    )
