"""The options of the command line and their types. Their values are in ``conf/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from omegaconf import MISSING


@dataclass
class Config:
    """The top-level options and config groups."""

    dataset: Any = MISSING
    model: Any = MISSING
    method: Any = MISSING
    inversion: Any = MISSING
    memo: Any = MISSING
    optim: Any = MISSING
    evaluation: Any = MISSING
    ability: Any = MISSING
    attacks: Any = field(default_factory=dict)
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
    """Optimizer options of every training."""

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_grad_norm: float
    warmup: float | Literal["epoch"]
    schedule: Literal["constant", "linear"]


class Optim(AdamW):
    """``optim``: null takes the value from the method's table; for ``batch_tokens`` it means ``global_batch_size``."""

    name: str
    checkpoint: Literal["last", "best"]
    optimizer: Literal["adamw", "adamw8bit", "paged"]
    lr: float | None
    epochs: int | None
    global_batch_size: int | None
    batch_tokens: int | None


class Memo(TypedDict):
    """``memo``: options that the pipeline reads; the others are arguments of the measure."""

    name: str
    verify: int


class Inversion(TypedDict):
    """``inversion``: options that the pipeline reads; the others are arguments of the writer."""

    name: str
    max_retries_per_fact: int
    on_shortage: Literal["error", "few", "warn", "rules"]


class PromptTemplate(TypedDict):
    """``inversion.prompt``: the texts of a file in ``conf/inversion/prompt``, chosen with ``inversion/prompt=``."""

    version: int
    system: str
    user: str
    context: str
    previous_answers: str
    model_answer: str


class Evaluation(TypedDict):
    """``evaluation``: the metrics, and how they are computed."""

    name: str
    protocol: Literal["none", "tofu", "open_unlearning"]
    truth_ratio_mean: Literal["geometric", "arithmetic"]
    max_new_tokens: int
    gradient_norm: bool
    selection_fraction: float
    bootstrap_samples: int
    confidence_level: float
    retain_predictions: str | None


class Ability(TypedDict):
    """``ability``: tasks of lm-evaluation-harness."""

    name: str
    tasks: list[str]
    limit: int | None
    num_fewshot: int | None
    folder: str | None
    local: dict


class Trainer(TypedDict):
    """``trainer``: the hardware and how stages use it."""

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
    """``callbacks``: logging, checkpoints and evaluations during training."""

    log_every: int
    checkpoint_seconds: float
    memo_every_epochs: int
    memo_every_steps: int
    memo_facts: int
    evaluate_every_epochs: int


class Learning(AdamW):
    """Options that ``model.pretrain`` and ``model.finetune`` share."""

    global_batch_size: int
    epochs: int
    lr: float


class Pretrain(Learning):
    """``model.pretrain``: the training of a base model from scratch."""

    rows: int


class Finetune(Learning):
    """``model.finetune``: the fine-tuning of target and retain model."""

    also: list[str]
    replay: int
    steps: int
    epoch_steps: int
    known: float | None


class Logger(TypedDict, total=False):
    """``logger``: where curves and metrics are logged."""

    name: Literal["wandb", "csv", "none"]
    texts: bool | None
    project: str
    mode: Literal["auto", "online", "offline"]
    group: str | None


class Model(TypedDict):
    """``model``: its recipes are groups of their own; a provided model needs none to train it from scratch."""

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
    """``model.architecture``: a function that builds a model, and its sizes."""

    _target_: str
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    context: int


class Prompt(TypedDict):
    """``model.prompt``: how questions and answers are formatted."""

    template: str
    answer_prefix: str
    system: str | None
    date: str | None


class Lora(TypedDict):
    """``model.lora``: adapters; ``rank`` null trains all weights."""

    rank: int | None
    alpha: float


class Select(TypedDict):
    """``method.select``: how many inverted facts are selected per fact, and how."""

    k: int
    strategy: Literal["largest", "smallest", "random"]
    rows: Literal["selected", "official"]


class Rounds(TypedDict):
    """``method.rounds``: repeated inversion and unlearning of facts that are still memorized."""

    count: int
    memorized_above: float | dict
    cut_unit: Literal["characters", "words", "tokens"] | None
    requery: Literal["memorized", "all"]
    candidates: int | None
    k: int
    max_requests: int | None


# Typed groups by dotted option; an absent group is not checked. `model` comes first because others depend on it.
GROUPS: dict[str, type] = {
    "model": Model, "optim": Optim, "evaluation": Evaluation, "ability": Ability, "trainer": Trainer,
    "callbacks": Callbacks, "logger": Logger, "model.architecture": Architecture, "model.prompt": Prompt,
    "model.lora": Lora, "model.pretrain": Pretrain, "model.finetune": Finetune, "method.select": Select,
    "method.rounds": Rounds, "inversion.prompt": PromptTemplate,
}  # fmt: skip

# Options that only a model trained from scratch needs.
SCRATCH = ("vocab_size", "architecture", "pretrain")
