"""Options of training and of the hardware: ``optim``, ``trainer``, ``callbacks``, and the recipes of ``model``."""

from __future__ import annotations

from typing import Annotated, Literal

from meow_lightning.config.mistakes import Rule
from meow_lightning.config.options import Options, consistency
from meow_lightning.config.precision import DTYPE_BYTES, precision_of
from meow_lightning.config.ranges import (
    MANY,
    Count,
    CountOrZero,
    Epochs,
    LearningRate,
    NonNegative,
    Number,
    Positive,
    Range,
)
from meow_lightning.errors import UserError, invalid_option

Beta = Annotated[Number, Range(0, 1, above=True, below=True)]
Betas = Annotated[list[Beta], Rule(lambda pair: len(pair) == 2, "a list [a number, a number]")]
Epsilon = Annotated[Number, Range(1e-30, 1)]  # in float32 a smaller one acts like 0 and leads to 0/0
WeightDecay = Annotated[Number, Range(0, 100)]
Warmup = Annotated[
    Number,
    Range(0, MANY),
    Rule(
        lambda steps: steps <= 1 or steps == int(steps),
        "an integer number of steps, or a fraction of all steps below 1",
    ),
]


class AdamW(Options):
    """Optimizer options of every training."""

    betas: Betas
    """AdamW's decay rates."""
    eps: Epsilon
    """AdamW's epsilon."""
    weight_decay: WeightDecay
    """AdamW's weight decay, on all weights."""
    max_grad_norm: NonNegative
    """Maximum gradient norm; 0 for no clipping."""
    warmup: Warmup | Literal["epoch"]
    """Steps, a fraction of all steps below 1, or ``epoch``: the steps of one epoch."""
    schedule: Literal["constant", "linear"]
    """Schedule of the learning rate after the warm-up."""


class Optim(AdamW):
    """``optim``: null takes the value from the method's table; for ``batch_tokens`` it means ``global_batch_size``."""

    name: str
    """Name of the choice."""
    checkpoint: Literal["last", "best"]
    """The epoch that unlearning keeps; ``best`` is selected on held-out questions."""
    optimizer: Literal["adamw", "adamw8bit", "paged"]
    """Implementation of AdamW."""
    lr: LearningRate | None
    """Peak learning rate."""
    epochs: Epochs | None
    """Passes over the method's first stream."""
    global_batch_size: Count | None
    """Rows of the first stream per step, over all processes."""
    batch_tokens: Count | None
    """Maximum tokens of the first stream per step, instead of rows."""
    sam_rho: NonNegative
    """Norm of the perturbation of sharpness-aware minimization; 0 for none."""
    sam_terms: Literal["forget", "all"]
    """Terms of the loss that it perturbs: all streams but ``retain``, or all."""
    aggregate: Literal["mean", "worst", "top"]
    """Aggregate of the forget set's losses over rows."""
    aggregate_temperature: Positive
    """Temperature of the aggregate ``worst``, in the unit of the loss."""

    @consistency
    def _check_sam(self) -> None:
        if self.sam_terms != "forget" and not self.sam_rho:
            raise UserError(
                f"optim.sam_terms={self.sam_terms} has no effect with optim.sam_rho=0: set optim.sam_rho, for example "
                "to 0.01"
            )

    def check_precision(self, name: str, *, adapters: bool) -> None:
        """Check that trained weights can hold the perturbation of sharpness-aware minimization.

        Args:
            name: Value of ``model.precision``.
            adapters: Whether adapters are trained, which are at least float32.

        Raises:
            UserError: They are 16-bit numbers, which round it away.
        """
        trained = precision_of(name, adapters=adapters).trained
        if self.sam_rho and not adapters and DTYPE_BYTES[trained] < DTYPE_BYTES["float32"]:
            expected = f"32-true, 64-true, bf16-mixed or reproducible with optim.sam_rho={self.sam_rho}, or adapters "
            expected += "(model.lora.rank): weights of 16 bits round the perturbation away"
            raise invalid_option("model.precision", name, expected, did_you_mean="bf16-mixed")


class Learning(AdamW):
    """Options that ``model.pretrain`` and ``model.finetune`` share."""

    global_batch_size: Count
    """Maximum rows per step, over all processes."""
    epochs: Epochs
    """Passes over every row."""
    lr: LearningRate
    """Peak learning rate."""


class Pretrain(Learning):
    """``model.pretrain``: the training of a base model from scratch."""

    rows: Count
    """Made-up rows to learn."""


class Finetune(Learning):
    """``model.finetune``: the fine-tuning of target and retain model."""

    also: list[str]
    """Splits that both see in addition to the facts."""
    replay: CountOrZero
    """Rows of the base model's stream mixed into every epoch."""
    steps: CountOrZero
    """Minimum planned steps; 0 to count epochs only."""
    epoch_steps: Count
    """Minimum steps per epoch, by smaller batches."""
    known: Annotated[Number, Range(0, 100)] | None
    """Mean loss in nats per token at which additional epochs stop; null for all planned steps."""


class Trainer(Options):
    """``trainer``: the hardware and how stages use it; none of it may change a result."""

    name: str
    """Name of the choice."""
    accelerator: Literal["cpu", "gpu", "auto"]
    """Hardware; ``auto`` is a GPU if available."""
    devices: Annotated[int, Range(1, 10**5)]
    """Processes per stage over all nodes, one device each."""
    nodes: Annotated[int, Range(1, 10**5)]
    """Machines, each with an equal share of the processes."""
    strategy: Literal["auto", "ddp", "fsdp"]
    """For several devices: ``ddp``, each with all weights, or ``fsdp``, each with a share."""
    parallel_stages: Annotated[int, Range(1, 10**4)]
    """Concurrent stages; 1 computes in this process."""
    threads: Annotated[int, Range(1, 10**4)]
    """CPU threads per stage."""
    micro_batch_size: Count
    """Rows per forward and backward pass in training, per stream."""
    micro_batch_tokens: Count | None
    """Padded tokens per such pass and stream, instead of rows."""
    gradient_checkpointing: bool
    """Whether training recomputes activations in the backward pass to save memory."""
    eval_batch_size: Count
    """Rows per forward pass when scoring."""
    generation_batch_size: Count | None
    """Prompts generated at once; null for as many as memory allows."""

    @consistency
    def _check_devices(self) -> None:
        if self.devices % self.nodes:
            expected = f"a multiple of trainer.nodes={self.nodes}, counting the devices of all nodes together"
            raise invalid_option("trainer.devices", self.devices, expected)
        if self.devices > 1 and self.strategy == "auto":
            devices = f"trainer.devices={self.devices}"
            raise UserError(f"{devices} requires a strategy for several processes: set trainer=ddp {devices}")


class Callbacks(Options):
    """``callbacks``: logging, checkpoints and evaluations during training; none of it may change a result."""

    log_every: Count
    """Steps between two points of a training curve."""
    checkpoint_seconds: Annotated[Number, Range(0, MANY)]
    """Seconds between two training checkpoints."""
    memo_every_epochs: CountOrZero
    """Epochs between two MEMO points of a training curve; 0 for none."""
    memo_every_steps: CountOrZero
    """Steps between two such points, instead of epochs; 0 to count epochs."""
    memo_facts: CountOrZero
    """Number of facts in each such point."""
    evaluate_every_epochs: CountOrZero
    """Epochs between two evaluations during training; 0 for none."""


class Launcher(Options):
    """``hydra.launcher``: the jobs of a sweep."""

    cluster: Literal["slurm", "local"]
    """Where jobs run."""
    folder: str
    """Inputs and output logs of jobs."""
    array_parallelism: Annotated[int, Range(1, MANY)]
    """Concurrent jobs of an array."""
    partition: str | None
    """Partition; null for the cluster's default."""
    account: str | None
    """Account to charge; null for the user's default."""
    qos: str | None
    """Quality of service; null for the default."""
    constraint: str | None
    """Node features; null for any."""
    nodes: Count
    """Nodes per job; must equal ``trainer.nodes``."""
    gpus_per_node: CountOrZero
    """GPUs per node."""
    cpus_per_task: Count | None
    """CPU cores per node."""
    mem_gb: Annotated[Number, Range(0, MANY, above=True)] | None
    """Main memory per node in GB; null for the cluster's default."""
    timeout_min: Count
    """Time limit of a job in minutes."""
    max_num_timeout: CountOrZero
    """Maximum number of times that a job may reach its time limit."""
    signal_delay_s: CountOrZero
    """Seconds before its time limit when a job is signalled."""
    setup: list[str]
    """Shell lines before the program of a job."""
    extra: dict
    """Further options of sbatch."""

    @consistency
    def _check_nodes(self) -> None:
        if self.cluster == "local" and self.nodes > 1:
            expected = "1; for several nodes, set hydra/launcher=slurm"
            raise invalid_option("hydra.launcher.nodes", self.nodes, expected)
