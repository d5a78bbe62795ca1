"""The runtime settings of a stage, which must not change its result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Runtime settings of a stage; none of them may change its result.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Number of processes of the stage, one device each.
        nodes: Number of machines, each with an equal share of the processes.
        strategy: Strategy for several processes: ``ddp``, each with all weights, or ``fsdp``, each with a share; else
            ``auto``.
        micro_batch_size: Rows per forward and backward pass in training, per stream.
        micro_batch_tokens: Padded tokens per such pass and stream, instead of rows; ``None`` to count rows.
        gradient_checkpointing: Whether training recomputes activations in the backward pass to save memory.
        eval_batch_size: Rows per forward pass when scoring.
        generation_batch_size: Prompts generated at once; ``None`` for as many as memory allows.
        checkpoint_seconds: Seconds between two training checkpoints.
        log_every: Steps between two points of a training curve.
        memo_every_epochs: Epochs between two MEMO points of a training curve; 0 for none.
        memo_every_steps: Steps between two such points, instead of epochs; 0 to count epochs.
        memo_facts: Number of facts in each such point.
        evaluate_every_epochs: Epochs between two evaluations during training; 0 for none.
    """

    accelerator: str
    devices: int
    nodes: int
    strategy: str
    micro_batch_size: int
    micro_batch_tokens: int | None
    gradient_checkpointing: bool
    eval_batch_size: int
    generation_batch_size: int | None
    checkpoint_seconds: float
    log_every: int
    memo_every_epochs: int
    memo_every_steps: int
    memo_facts: int
    evaluate_every_epochs: int
