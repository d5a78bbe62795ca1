"""The numbers that README's tables rest on: whoever changes one changes it here too, and makes the tables again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

CONF = Path(__file__).resolve().parent.parent / "conf"
PINNED: dict[str, Any] = yaml.safe_load(r"""
method/altpo: {beta: 0.1, retain: ce, retain_weight: 1.0,
  select: {k: 3, strategy: largest, baseline: none, rows: selected}, lr: {default: 5.0e-05, tiny: 0.0003},
  epochs: {default: 2, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/bst: {belief_weight: 0.2, top_k: 20, retain: ce, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.0003},
  epochs: {default: 10, tiny: 12}, global_batch_size: {default: 32, tiny: 22}}
method/balanced_subnet: {share: 0.05, retain_weight: 0.7, bound: null, target_modules: '.*\.mlp\..*', mask: learned,
  lr: {default: 0.01, tiny: 0.01}, epochs: {default: 10, tiny: 24, tinymem: 240},
  global_batch_size: {default: 32, tiny: 22}}
method/ceu: {skip_first: true, retain: none, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.0003},
  epochs: {default: 10, tiny: 12}, global_batch_size: {default: 32, tiny: 22}}
method/dpo: {beta: 0.1, refusals: null, redraw_refusals: false,
  lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 10, tiny: 5},
  global_batch_size: {default: 32, tiny: 22}}
method/dpo_gd: {retain: ce, beta: 0.1, retain_weight: 1.0, refusals: null, redraw_refusals: false,
  lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/dpo_kl: {retain: kl, beta: 0.1, retain_weight: 1.0, refusals: null, redraw_refusals: false,
  lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/eul: {rank: 128, kl_weight: 0.8, retain_weight: 1.0, ascent_weight: 0.2, bound: 10.0,
  lr: {default: 0.0001, tiny: 0.003}, epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/flat: {divergence: tv, refusals: null, redraw_refusals: false,
  lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 5, tiny: 12},
  global_batch_size: {default: 64, tiny: 22}}
method/grad_ascent: {lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 5, tiny: 9},
  global_batch_size: {default: 32, tiny: 22}}
method/grad_diff: {retain: ce, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 5, tiny: 12},
  global_batch_size: {default: 32, tiny: 22}}
method/idk: {retain: ce, retain_weight: 1.0, refusals: null, redraw_refusals: false,
  lr: {default: 1.0e-05, tiny: 0.0003},
  epochs: {default: 5, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/jensun: {forget_weight: 1.0, retain_weight: 1.0, refusals: null, redraw_refusals: false,
  lr: {default: 8.0e-06, tiny: 0.001},
  epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/kl: {retain: kl, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 5, tiny: 12},
  global_batch_size: {default: 32, tiny: 22}}
method/loku: {retain: ce, retain_weight: 1.0, lora: {rank: 32, alpha: 64.0, init: fila},
  lr: {default: 1.0e-04, tiny: 0.0003}, epochs: {default: 5, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/meow: {select: {k: 3, strategy: largest, baseline: none, rows: selected}, lr: {default: 1.0e-05, tiny: 5.0e-05},
  epochs: {default: 20, tiny: 40}, global_batch_size: {default: 32, tiny: 22}}
method/meow_kl: {retain: kl, retain_weight: 1.0, select: {k: 3, strategy: largest, baseline: none, rows: selected},
  lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 20, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/meow_loop: {select: {k: 1, strategy: largest, baseline: none, rows: selected}, rounds: {count: 4,
  memorized_above: {default: 0.5, tiny: 0.95}, cut_unit: words, requery: memorized, candidates: 2, k: 1,
  max_requests: null}, lr: {default: 1.0e-05, tiny: 5.0e-05},
  epochs: {default: 20, tiny: 40}, global_batch_size: {default: 32, tiny: 22}}
method/meow_retain: {retain: ce, retain_weight: 1.0, select: {k: 3, strategy: largest, baseline: none, rows: selected},
  lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 20, tiny: 8}, global_batch_size: {default: 32, tiny: 22}}
method/none: {}
method/npo: {beta: 0.1, lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 10, tiny: 5},
  global_batch_size: {default: 32, tiny: 22}}
method/npo_gd: {retain: ce, beta: 0.1, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 10,
  tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/npo_kl: {retain: kl, beta: 0.1, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 10,
  tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/opt_out: {beta: 0.1, retain_weight: 1.0, neighbours: 2, wasserstein_weight: 0.1, projections: 100,
  lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 2, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/pdu: {mu0: 100.0, eta: 5.0, eps: 0.3, lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 10, tiny: 24},
  global_batch_size: {default: 32, tiny: 22}}
method/relearn: {phrasings: 3, retain_weight: 1.0, kl_weight: 1.0, lr: {default: 0.0001, tiny: 0.0003},
  epochs: {default: 2, tiny: 16}, global_batch_size: {default: 8, tiny: 22}}
method/retrain: {}
method/rmu: {layer: 7, steering: 2.0, retain_weight: 1.0, weights: null, lr: {default: 1.0e-05, tiny: 0.0003},
  epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/satimp: {beta1: 5.0, beta2: 1.0, forget_weight: 0.1, retain: ce, retain_weight: 1.0, lr: {default: 1.0e-05,
  tiny: 0.001}, epochs: {default: 5, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/simnpo: {beta: 4.5, delta: 0.0, forget_weight: 0.125, retain: ce, retain_weight: 1.0, lr: {default: 1.0e-05,
  tiny: 0.001}, epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/snap: {refusals: null, redraw_refusals: false, retain_weight: 1.0,
  neighbours: 2, wasserstein_weight: 0.1, projections: 100,
  lr: {default: 1.0e-05, tiny: 0.0003}, epochs: {default: 2, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/subnet: {share: 0.05, retain_weight: 0.0, bound: null, target_modules: '.*\.mlp\..*', mask: learned,
  lr: {default: 0.01, tiny: 0.01}, epochs: {default: 10, tiny: 24, tinymem: 240},
  global_batch_size: {default: 32, tiny: 22}}
method/task_vector: {alpha: 1.0, lr: {default: 1.0e-05, tiny: 0.001}, epochs: {default: 5, tiny: 24},
  global_batch_size: {default: 32, tiny: 22}}
method/uld: {alpha: 0.75, rho: 0.01, beta: 6.5, inverted_share: 0.6667, layer_fraction: 0.25, rank: 32,
  lora_alpha: 32.0, select: {k: 2, strategy: random, baseline: none, rows: selected}, lr: {default: 0.001, tiny: 0.003},
  epochs: {default: 10, tiny: 72}, global_batch_size: {default: 32, tiny: 22}}
method/undial: {beta: 10.0, retain: none, retain_weight: 1.0, lr: {default: 0.0001, tiny: 0.0003},
  epochs: {default: 10, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
method/wga: {beta: 1.0, retain: ce, retain_weight: 1.0, lr: {default: 1.0e-05, tiny: 0.0003},
  epochs: {default: 5, tiny: 24}, global_batch_size: {default: 32, tiny: 22}}
optim/adamw: {checkpoint: last, optimizer: adamw, lr: null, epochs: null, global_batch_size: null, batch_tokens: null,
  betas: [0.9, 0.999], eps: 1.0e-08, weight_decay: 0.0, max_grad_norm: 1.0, warmup: 5, schedule: constant,
  sam_rho: 0.0, sam_terms: forget,
  aggregate: mean, aggregate_temperature: 1.0}
optim/published: {checkpoint: last, optimizer: adamw, lr: null, epochs: null, global_batch_size: null,
  batch_tokens: null, betas: [0.9, 0.999], eps: 1.0e-08, weight_decay: 0.01, max_grad_norm: 1.0,
  warmup: epoch, schedule: linear, sam_rho: 0.0, sam_terms: forget,
  aggregate: mean, aggregate_temperature: 1.0}
recipe/tofu: {also: [], replay: 0, global_batch_size: 32, epochs: 5, steps: 400, epoch_steps: 4,
  known: 0.05, lr: '???', betas: [0.9, 0.999], eps: 1.0e-08,
  weight_decay: 0.01, max_grad_norm: 1.0, warmup: epoch, schedule: linear}
memo/clean: {mode: suffix, cut_unit: characters, stride: 5, template: true, keep_special: false, rouge: rouge1,
  rouge_stat: precision, max_new_tokens: '${model.max_new_tokens}', empty_windows: skip, words: unicode, verify: 0}
dataset/fictional: {split: forget10, authors: 80, candidates: 8, phrasings: 1, retain_eval: 160, seed: '${seed}'}
model/tiny/architecture: {hidden_size: 128, layers: 2, heads: 4, intermediate_size: 384, context: 256}
model/tiny/pretrain: {rows: 20000, global_batch_size: 22, epochs: 1, lr: 0.003, betas: [0.9, 0.95], eps: 1.0e-08,
  weight_decay: 0.0, max_grad_norm: 1.0, warmup: 20, schedule: linear}
model/tiny/finetune: {also: [real_authors, world_facts], replay: 8, global_batch_size: 22, epochs: 22, steps: 400,
  epoch_steps: 4, known: 0.05, lr: 0.003, betas: [0.9,
  0.95], eps: 1.0e-08, weight_decay: 0.1, max_grad_norm: 1.0, warmup: 20, schedule: linear}
model/phi15/finetune: {lr: 2.0e-05}
model/llama2_7b_chat/finetune: {lr: 1.0e-05}
model/llama3_2_1b_instruct/finetune: {lr: 1.0e-05}
model/qwen2_5_1_5b_instruct/finetune: {lr: 1.0e-05}
model/own/finetune: {lr: 1.0e-05}
""")
UNPINNED = ("name", "_target_", "defaults", "anchor")  # no numbers of a recipe; anchor names a model


def recipe(path: str) -> Any:
    """What a file says, or one part of a model's file."""
    group, name, *part = path.split("/")
    content = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    content = content.get("model", content)[part[0]] if part else content
    return {key: value for key, value in content.items() if key not in UNPINNED}


@pytest.mark.parametrize("path", PINNED)
def test_a_recipe_is_the_one_that_the_readmes_tables_were_made_with(path: str) -> None:
    assert recipe(path) == PINNED[path]


def test_every_method_is_pinned() -> None:
    assert {f"method/{path.stem}" for path in (CONF / "method").glob("*.yaml")} <= set(PINNED)
