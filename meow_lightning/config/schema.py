"""Which words a command line knows, and of which type each is. Values live in ``conf/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from omegaconf import MISSING


@dataclass
class Config:
    """The words a command line starts with."""

    dataset: Any = MISSING
    model: Any = MISSING
    method: Any = MISSING
    inversion: Any = MISSING
    memo: Any = MISSING
    optim: Any = MISSING
    evaluation: Any = MISSING
    trainer: Any = MISSING
    logger: Any = MISSING
    callbacks: Any = MISSING
    seed: int = MISSING
    goal: str = MISSING
    cache: str = MISSING
    plan: bool = MISSING
    status: bool = MISSING
    preflight: bool = MISSING
    limit: int | None = MISSING
    store: str = MISSING
    outputs: str = MISSING
    disclaimer: str | None = MISSING
    trusted_packages: list[str] = field(default_factory=list)


class AdamW(TypedDict):
    """What every training says of its optimizer."""

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_grad_norm: float
    warmup: float | Literal["epoch"]
    schedule: Literal["constant", "linear"]


class Optim(AdamW):
    """``optim``: null means that the method's table says it, of ``batch_tokens`` that ``global_batch_size`` counts."""

    name: str
    checkpoint: Literal["last", "best"]
    optimizer: Literal["adamw", "adamw8bit", "paged"]
    lr: float | None
    epochs: int | None
    global_batch_size: int | None
    batch_tokens: int | None


class Memo(TypedDict):
    """What of ``memo`` the pipeline itself reads; the rest is the measure's."""

    name: str
    verify: int


class Inversion(TypedDict):
    """What of ``inversion`` the pipeline itself reads; the rest is the writer's."""

    name: str
    max_retries_per_fact: int
    on_shortage: Literal["error", "few", "warn", "rules"]


class PromptTemplate(TypedDict):
    """``inversion.prompt``: the texts of a file in ``conf/inversion/prompt``, chosen by ``inversion/prompt=``."""

    version: int
    system: str
    user: str
    context: str
    previous_answers: str
    model_answer: str


class Evaluation(TypedDict):
    """``evaluation``: which numbers are computed, and how."""

    name: str
    protocol: Literal["none", "tofu", "open_unlearning"]
    truth_ratio_mean: Literal["geometric", "arithmetic"]
    max_new_tokens: int
    gradient_norm: bool
    selection_fraction: float
    bootstrap_samples: int
    confidence_level: float
    retain_predictions: str | None


class Trainer(TypedDict):
    """``trainer``: on what it runs."""

    name: str
    accelerator: Literal["cpu", "gpu", "auto"]
    devices: int
    nodes: int
    strategy: Literal["auto", "ddp", "fsdp"]
    parallel_stages: int
    threads: int
    micro_batch_size: int
    micro_batch_tokens: int | None
    gradient_checkpointing: bool
    eval_batch_size: int
    generation_batch_size: int | None


class Callbacks(TypedDict):
    """``callbacks``: what watches a training."""

    log_every: int
    checkpoint_seconds: float
    memo_every_epochs: int
    memo_every_steps: int
    memo_facts: int
    evaluate_every_epochs: int


class Learning(AdamW):
    """``model.pretrain`` and ``model.finetune``, without what only one of them has."""

    global_batch_size: int
    epochs: int
    lr: float


class Pretrain(Learning):
    """``model.pretrain``."""

    rows: int


class Finetune(Learning):
    """``model.finetune``."""

    also: list[str]
    replay: int
    steps: int
    epoch_steps: int
    known: float | None


class Logger(TypedDict, total=False):
    """``logger``: where curves and numbers go."""

    name: Literal["wandb", "csv", "none"]
    texts: bool | None
    project: str
    mode: Literal["auto", "online", "offline"]
    group: str | None


class Model(TypedDict):
    """``model``: its recipes are groups of their own; a model that is given needs none to be made from scratch."""

    name: str
    base: str | None
    target: str | None
    retain: str | None
    tokenizer: str | None
    released_checkpoints: dict
    precision: Literal["32-true", "64-true", "bf16-true", "16-true", "bf16-mixed", "reproducible"]
    attention: str
    seed: int
    max_new_tokens: int
    prompt: dict
    lora: dict
    vocab_size: int | None
    architecture: dict | None
    pretrain: dict | None
    finetune: dict


class ReleasedCheckpoints(TypedDict, total=False):
    """One dataset's entry in ``model.released_checkpoints``: the target model, and the retain model of each split."""

    target: str | None
    retain: dict


class Architecture(TypedDict):
    """``model.architecture``: a function and its sizes."""

    _target_: str
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    context: int


class Prompt(TypedDict):
    """``model.prompt``."""

    template: str
    answer_prefix: str
    system: str | None
    date: str | None


class Lora(TypedDict):
    """``model.lora``."""

    rank: int | None
    alpha: float


class Select(TypedDict):
    """``method.select``."""

    k: int
    strategy: Literal["largest", "smallest", "random"]
    rows: Literal["selected", "official"]


class Rounds(TypedDict):
    """``method.rounds``."""

    count: int
    memorized_above: float | dict
    cut_unit: Literal["characters", "words", "tokens"] | None
    requery: Literal["memorized", "all"]
    candidates: int | None
    k: int
    max_requests: int | None


# Typed groups by their dotted option; a group that is absent is not checked. `model` comes first: others read from it.
GROUPS: dict[str, type] = {
    "model": Model, "optim": Optim, "evaluation": Evaluation, "trainer": Trainer, "callbacks": Callbacks,
    "logger": Logger, "model.architecture": Architecture, "model.prompt": Prompt,
    "model.lora": Lora, "model.pretrain": Pretrain, "model.finetune": Finetune, "method.select": Select,
    "method.rounds": Rounds, "inversion.prompt": PromptTemplate,
}  # fmt: skip

# What only a model made from scratch needs.
SCRATCH = ("vocab_size", "architecture", "pretrain")
