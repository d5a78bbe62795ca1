from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from meow_lightning.resources import inference_memory as inference_memory_module
from meow_lightning.resources.inference_memory import (
    InferenceLoad,
    fit_generation_batch_size,
    gradient_memory,
    inference_memory,
    inference_need,
    inference_settings_that_fit,
    largest_generation_batch,
)
from meow_lightning.resources.training_memory import GPU_SLACK, HEAP_SLACK, PROGRAM, ModelDims, dims_of

SMALL = ModelDims(
    parameters=1000, hidden=10, layers=3, heads=2, kv_heads=1, head=5, intermediate=20, vocabulary=100, tied=True,
    gated=True, kept=4,
)  # fmt: skip
# Of SMALL in fp32: a layer's work on a token (3 * 20 + 4 * 10) * 4, its keys and values in all layers 2 * 5 * 3 * 4.
WORK, TOKEN = 400, 120
LLAMA_2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip


def ask(**changed):
    given = {
        "weight_bytes": 4, "rows": 2, "tokens": 7, "scored": 3, "slots": 0, "generated": 0, "shared": True, "slack": 1.0
    }  # fmt: skip
    return inference_memory(SMALL, **(given | changed))


def test_scoring_holds_two_logits_per_entry():
    memory = ask()
    assert memory.logits == 2 * 3 * 100 * 8
    # one layer's work, 2 * 7 * 400 = 5600, comes before the logits: what is beyond them counts
    assert memory.activations == 5600 - 4800
    assert (memory.weights, memory.gradients, memory.optimizer, memory.cache) == (4000, 0, 0, 0)
    assert ask(weight_bytes=2).logits == 2 * 3 * 100 * 8
    assert ask(scored=1).activations == 5600 - 1600
    loose = ask(slack=1.5)
    assert (loose.activations, loose.logits) == (1200, 7200)


def test_windows_read_two_tree_batches_and_keep_their_continuations():
    memory = ask(slots=50, generated=20)
    # 50 * 16 tokens a grove; two pages a slot and 32 more
    assert memory.cache == (2 * 800 + 16 * (50 * 2 + 32)) * TOKEN
    assert memory.logits == 800 * 100 * 4
    # work and the mask of trees of 160 tokens, of which the logits take the place; room for new pages is less
    assert memory.activations == 800 * (WORK + 160 * 6) - 320_000 == 768_000 > 16 * 132 * TOKEN - 320_000


def test_prompts_that_share_nothing_lie_in_the_slots():
    memory = ask(slots=50, generated=20, shared=False)
    own = 16 * (50 * 2 + 32) * TOKEN  # 7 + 20 tokens are two pages
    assert memory.cache == 800 * TOKEN + own
    assert memory.activations == 800 * (WORK + 7 * 6) - 320_000
    assert ask(slots=50, generated=26, shared=False).cache == 800 * TOKEN + 16 * (50 * 3 + 32) * TOKEN
    assert ask(slots=50, generated=26).cache == 1600 * TOKEN + own


def test_long_answers_are_copied_when_their_room_grows():
    memory = ask(slots=50, generated=1600)
    own = 16 * (50 * 100 + 32) * TOKEN
    assert memory.cache == 1600 * TOKEN + own
    assert memory.activations + memory.logits == own


def test_a_few_slots_still_read_a_whole_tree():
    assert ask(slots=1, generated=16).logits == 160 * 100 * 4
    assert ask(slots=1, generated=16, tokens=300).logits == 600 * 100 * 4
    assert ask(slots=1, generated=16, tokens=300, shared=False).logits == 300 * 100 * 4
    assert ask(slots=20, generated=16, tokens=100).logits == 320 * 100 * 4


def test_half_the_width_looks_for_the_best_in_fp32():
    memory = ask(slots=50, generated=20, weight_bytes=2)
    assert memory.logits == 800 * 100 * 6
    assert memory.cache == (1600 + 16 * 132) * TOKEN // 2


def test_slack_is_not_for_single_pieces():
    plain, loose = ask(slots=50, generated=1600), ask(slots=50, generated=1600, slack=2.0)
    assert loose.cache == 2 * plain.cache
    assert (loose.logits, loose.activations) == (plain.logits, plain.activations)
    assert ask(slots=50, generated=20, slack=2.0).activations == 2 * 800 * (WORK + 160 * 6) - 320_000


def test_the_larger_of_scoring_and_generation_counts():
    assert ask(rows=1000, slots=1, generated=1) == ask(rows=1000)
    assert ask(rows=1, slots=1, generated=1) == ask(rows=0, slots=1, generated=1)


# Growth of VmHWM, measured with torch 2.13 on a CPU: hidden 512, 4 layers, 8 heads; kind, V, slots, tokens, generated.
@pytest.mark.parametrize(
    ("vocabulary", "shared", "slots", "tokens", "generated", "measured"),
    [
        (2048, True, 16, 70, 16, 32.7e6),
        (2048, True, 64, 73, 16, 109.4e6),
        (2048, True, 256, 75, 16, 333.2e6),
        (32000, True, 16, 70, 16, 62.1e6),
        (32000, True, 64, 70, 16, 215.1e6),
        (32000, True, 256, 72, 16, 612.0e6),
        (2048, False, 16, 40, 48, 59.0e6),
        (2048, False, 64, 40, 48, 240.6e6),
        (2048, False, 256, 40, 48, 909.9e6),
        (32000, False, 16, 40, 16, 52.8e6),
        (32000, False, 256, 40, 16, 755.3e6),
    ],
)
def test_the_estimate_is_near_what_was_measured(vocabulary, shared, slots, tokens, generated, measured):
    shape = ModelDims(
        parameters=0, hidden=512, layers=4, heads=8, kv_heads=8, head=64, intermediate=1536, vocabulary=vocabulary,
        tied=True, gated=True, kept=4,
    )  # fmt: skip
    memory = inference_memory(
        shape, weight_bytes=4, rows=0, tokens=tokens, scored=0, slots=slots, generated=generated, shared=shared
    )
    assert 0.8 < (memory.total - PROGRAM) / measured < 1.5


def fitting(there, most=64):
    return largest_generation_batch(
        SMALL, weight_bytes=4, tokens=7, generated=20, shared=True, available=there, most=most, slack=1.0
    )  # fmt: skip


def needed(slots):
    memory = ask(rows=0, slots=slots, generated=20)
    return memory.activations + memory.logits + memory.cache


def test_as_many_slots_as_fit():
    # 64 slots: two groves of 1024 tokens, 160 pages of 16, and the work of a grove
    assert needed(64) == (2048 + 2560) * TOKEN + 1024 * (WORK + 960) == 1_945_600
    assert fitting(1_945_600) == 64
    assert fitting(1_945_599) == 32
    assert fitting(needed(32) - 1) == 16
    assert fitting(10**12) == 64
    assert fitting(10**12, most=3) == 3
    assert fitting(needed(3) - 1, most=3) == 1


def test_one_slot_where_nothing_fits():
    assert fitting(needed(1)) == 1
    assert fitting(0) == 1
    assert fitting(-5) == 1


def here(config=LLAMA_2_7B, **changed):
    given = {
        "parameters": 6_738_415_616, "weight_bytes": 2, "tokens": 100, "generated": 60, "shared": True, "gpu": True,
        "free": 10**13,
    }  # fmt: skip
    return fit_generation_batch_size(config, **(given | changed))


def test_enough_memory_leaves_the_bound():
    assert (here(), here(gpu=False)) == (512, 256)


def test_a_stage_takes_a_part_of_what_is_free():
    shape = dims_of(LLAMA_2_7B, parameters=1)
    for gpu, share, slack in ((True, 0.8, GPU_SLACK), (False, 0.5, HEAP_SLACK)):
        memory = inference_memory(
            shape,
            weight_bytes=2,
            rows=0,
            tokens=100,
            scored=0,
            slots=128,
            generated=60,
            shared=True,
            slack=slack,
        )
        need = memory.activations + memory.logits + memory.cache
        assert here(gpu=gpu, free=int(need / share * 1.01)) == 128
        assert here(gpu=gpu, free=int(need / share * 0.99)) == 64


def test_prompts_that_share_nothing_leave_fewer_slots():
    free = 60 * 10**9
    assert here(free=free) == 512
    assert here(free=free, shared=False) < 512
    assert here({**LLAMA_2_7B, "sliding_window": 4096}, free=free) == here(free=free, shared=False)


def test_a_model_of_unknown_sizes_gets_a_careful_number():
    assert here({"model_type": "mpt", "d_model": 4096}) == inference_memory_module.UNKNOWN_SLOTS


ASKED = InferenceLoad(
    texts=10**6, prompts=10**6, weight_bytes=4, tokens=7, scored=3, generated=20, shared=True, gradient=False,
    gpu=False, parallel_stages=1,
)  # fmt: skip


def test_batches_are_no_larger_than_the_number_of_prompts():
    few = replace(ASKED, texts=5, prompts=30)
    for slots in (64, None):
        found = inference_need(SMALL, few, rows=64, generation_batch_size=slots, available=10**12)
        assert found == ask(rows=5, slots=30, generated=20, slack=HEAP_SLACK)
    assert inference_need(SMALL, few, rows=4, generation_batch_size=16, available=0) == ask(
        rows=4, slots=16, generated=20, slack=HEAP_SLACK
    )


def test_slots_that_are_given_are_kept_and_others_fit():
    def need(slots, there, parallel_stages=1):
        return inference_need(
            SMALL, replace(ASKED, parallel_stages=parallel_stages), rows=2, generation_batch_size=slots, available=there
        )

    assert need(64, 0) == ask(slots=64, generated=20, slack=HEAP_SLACK)
    assert need(None, 10**12) == ask(slots=256, generated=20, slack=HEAP_SLACK)
    assert need(None, 0) == ask(slots=1, generated=20, slack=HEAP_SLACK)
    for there in (PROGRAM + 3 * 10**6, PROGRAM + 10**7):
        assert ask(slots=1, generated=20).total < need(None, there).total <= there
    # each of two stages has half of it
    assert need(None, 2 * PROGRAM + 10**7, parallel_stages=2) == need(None, PROGRAM + 5 * 10**6)


def test_the_suggestion_names_options_that_save_memory():
    least = inference_need(SMALL, ASKED, rows=1, generation_batch_size=1, available=0).total
    some = inference_need(SMALL, ASKED, rows=8, generation_batch_size=16, available=0).total
    assert inference_settings_that_fit(SMALL, ASKED, rows=64, generation_batch_size=128, available=some) == [
        ("trainer.eval_batch_size=8 trainer.generation_batch_size=16", some)
    ]
    assert inference_settings_that_fit(SMALL, ASKED, rows=8, generation_batch_size=128, available=some) == [
        ("trainer.generation_batch_size=16", some)
    ]
    assert inference_settings_that_fit(SMALL, ASKED, rows=64, generation_batch_size=128, available=some - 1) == [
        ("trainer.eval_batch_size=1 trainer.generation_batch_size=1", least)
    ]
    assert inference_settings_that_fit(SMALL, ASKED, rows=64, generation_batch_size=128, available=least - 1) == []
    assert inference_settings_that_fit(SMALL, ASKED, rows=1, generation_batch_size=1, available=least) == []


def test_slots_left_to_memory_are_not_named():
    many = inference_need(SMALL, ASKED, rows=4096, generation_batch_size=1, available=0).total
    found = inference_settings_that_fit(SMALL, ASKED, rows=4096, generation_batch_size=None, available=many - 1)
    assert [words for words, _ in found] == ["trainer.eval_batch_size=8"]
    assert found[0][1] < many


def test_a_gradient_takes_one_row_and_the_largest_weight():
    memory = gradient_memory(SMALL, weight_bytes=4, tokens=7, scored=3, slack=1.0)
    # a layer 2 * 12 * 10 + 4 * (4 * 10 + 4 * 20) bytes a token, three of them and the last norm
    assert memory.activations == 7 * (3 * 720 + 120)
    assert memory.logits == 3 * 100 * 5 * 4
    assert memory.gradients == 2 * 100 * 10 * 4  # head and embedding
    assert (memory.weights, memory.optimizer, memory.cache) == (4000, 0, 0)
    loose = gradient_memory(replace(SMALL, tied=False), weight_bytes=4, tokens=7, scored=3, slack=1.5)
    assert (loose.gradients, loose.logits) == (6000, 9000)
    wide = replace(SMALL, tied=False, intermediate=300)
    assert gradient_memory(wide, weight_bytes=2, tokens=7, scored=3, slack=1.0).gradients == 300 * 10 * 2


def test_the_larger_of_asking_and_the_gradient_counts():
    moved = replace(ASKED, gradient=True)
    alone = gradient_memory(SMALL, weight_bytes=4, tokens=7, scored=3)
    assert inference_need(SMALL, moved, rows=1, generation_batch_size=0, available=0) == alone
    assert inference_need(SMALL, moved, rows=64, generation_batch_size=64, available=0) == inference_need(
        SMALL, ASKED, rows=64, generation_batch_size=64, available=0
    )


def test_the_gradient_is_given_up_last():
    def fits(there, rows=64, slots=8):
        return [
            words
            for words, _ in inference_settings_that_fit(
                SMALL, moved, rows=rows, generation_batch_size=slots, available=there
            )
        ]

    moved = replace(ASKED, gradient=True, tokens=4000)
    asking = {
        rows: inference_need(SMALL, replace(moved, gradient=False), rows=rows, generation_batch_size=0, available=0)
        for rows in (1, 64)
    }
    gradient = gradient_memory(SMALL, weight_bytes=4, tokens=4000, scored=3)
    assert asking[1].total < gradient.total < asking[64].total
    assert fits(gradient.total, slots=0) == ["trainer.eval_batch_size=1"]
    assert fits(gradient.total - 1, slots=0) == ["trainer.eval_batch_size=1 evaluation.gradient_norm=false"]
    assert fits(gradient.total - 1, rows=1, slots=0) == ["evaluation.gradient_norm=false"]
    assert fits(asking[1].total - 1, slots=0) == []


# Peaks of VmHWM, measured with torch 2.13 on a CPU, one thread: Llamas of 8, 8, 16 and 8 layers with 16 heads.
@pytest.mark.parametrize(
    ("vocabulary", "layers", "tied", "tokens", "parameters", "weight_bytes", "measured"),
    [
        (32000, 8, True, 100, 135_545_856, 4, 1528e6),
        (32000, 8, False, 100, 168_313_856, 4, 1574e6),
        (2048, 16, True, 400, 207_653_888, 4, 2009e6),
        (32000, 8, True, 100, 135_545_856, 2, 1161e6),
    ],
)
def test_the_estimate_of_a_gradient_is_near_what_was_measured(
    vocabulary, layers, tied, tokens, parameters, weight_bytes, measured
):
    shape = ModelDims(
        parameters=parameters, hidden=1024, layers=layers, heads=16, kv_heads=16, head=64, intermediate=2816,
        vocabulary=vocabulary, tied=tied, gated=True, kept=4,
    )  # fmt: skip
    memory = gradient_memory(shape, weight_bytes=weight_bytes, tokens=tokens, scored=40)
    assert 0.9 < memory.total / measured < 1.1


def test_numbers_of_the_engine_are_the_engines():
    from meow_lightning.generation import engine, kv_cache

    assert (inference_memory_module.NODES_PER_SLOT, inference_memory_module.LARGEST_TREE) == (
        engine.NODES_PER_SLOT,
        engine.LARGEST_TREE,
    )
    assert (inference_memory_module.PAGE, inference_memory_module.STEP) == (kv_cache.PAGE, kv_cache.STEP)


def test_asking_does_not_wait_for_torch():
    code = "import sys, meow_lightning.resources.inference_memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
