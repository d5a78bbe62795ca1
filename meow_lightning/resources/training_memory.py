"""Estimated training memory of a model, before any weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from meow_lightning.config.precision import DTYPE_BYTES, precision_of
from meow_lightning.errors import UserError
from meow_lightning.resources.logit_blocks import rows_per_block
from meow_lightning.types import OptimizerName

PROGRAM = 512 * 2**20  # VmRSS with torch 2.13 (CPU), transformers and Lightning imported: 470 MB, after a step 500
# Ratio of allocated memory to memory in use, for activations.
HEAP_SLACK = 1.4  # glibc: peak VmRSS against live tensors was 1.38 to 1.47 (two models, two micro-batches each)
GPU_SLACK = 1.1  # CUDA's caching allocator: a guess, not measured

_TIED = {"gpt2", "gemma", "gemma2", "opt", "bloom", "falcon"}  # architectures that tie embeddings by default
_SCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # applied to logits after the head
# Computed by several tensor operations, each of which stores its input.
_WRITTEN_OUT = {
    "gelu_new",
    "gelu_fast",
    "gelu_python",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDims:
    """Dimensions of a decoder-only model that determine memory and time.

    Attributes:
        parameters: Number of weights, tied ones once.
        hidden: Hidden size; ``layers`` is the depth, ``vocabulary`` the vocabulary size.
        heads: Attention heads; ``kv_heads`` key-value heads; each of size ``head``.
        intermediate: Size of the feed-forward layer; ``gated``: with a gate, so three matrices instead of two.
        tied: Whether embedding and output head share a matrix.
        kept: Tensors of size ``intermediate`` that a layer stores for its backward pass: 4 with a gate, 2 without, 5 if
            GELU is composed of tensor operations.
        separable: Whether logits are the plain output of the head, so that no pass computes all of them at once.
    """

    parameters: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    intermediate: int
    vocabulary: int
    tied: bool
    gated: bool
    kept: int
    separable: bool = True

    @property
    def head_parameters(self) -> int:
        """Weights of the output head, which is applied at scored positions only."""
        return self.vocabulary * self.hidden

    @property
    def body_parameters(self) -> int:
        """Weights applied to every token: all but embedding and output head."""
        return self.parameters - self.head_parameters * (1 if self.tied else 2)


def dims_of(config: Mapping[str, Any], *, parameters: int | None) -> ModelDims:
    """Read the dimensions from a Hugging Face ``config.json``.

    Args:
        config: Its content; types other than llama, mistral, qwen2, phi, gpt_neox and gpt2 are treated as Llama.
        parameters: Number of weights; ``None`` to compute it.

    Raises:
        UserError: A dimension is missing, or the weights of a mixture of experts would have to be computed.
    """
    config = config.get("text_config") or config
    hidden, heads = _size(config, "hidden_size", "n_embd"), _size(config, "num_attention_heads", "n_head")
    kind = str(config.get("model_type"))
    gated = kind not in ("phi", "gpt_neox", "gpt2")
    activation = config.get("hidden_act") or config.get("activation_function") or "gelu_new"
    shape = ModelDims(
        parameters=parameters or 0, hidden=hidden, layers=_size(config, "num_hidden_layers", "n_layer"), heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads, head=config.get("head_dim") or hidden // heads,
        intermediate=config.get("intermediate_size") or config.get("n_inner") or 4 * hidden,
        vocabulary=_size(config, "vocab_size"), tied=bool(config.get("tie_word_embeddings", kind in _TIED)),
        gated=gated, kept=4 if gated else 5 if activation in _WRITTEN_OUT else 2,
        separable=not any(config.get(name) for name in _SCALED),
    )  # fmt: skip
    if parameters is not None:
        return shape
    if config.get("num_local_experts") or config.get("num_experts"):
        raise UserError(
            f"config.json does not determine the size of a mixture of experts ({kind}); provide its *.safetensors"
        )
    return replace(shape, parameters=_parameters(shape, config, kind))


def tiny_dims(architecture: Mapping[str, Any], vocab_size: int) -> ModelDims:
    """Return the dimensions of the tiny model: a Llama with tied embeddings, from ``model.architecture``."""
    names = {"layers": "num_hidden_layers", "heads": "num_attention_heads"}
    config = {names.get(name, name): value for name, value in architecture.items()}
    return dims_of(config | {"vocab_size": vocab_size, "tie_word_embeddings": True}, parameters=None)


def _size(config: Mapping[str, Any], *names: str) -> int:
    size = next((config[name] for name in names if isinstance(config.get(name), int)), 0)
    if size < 1:
        raise UserError(f"config.json has no positive {' or '.join(names)}; provide the folder of a language model")
    return int(size)


def _parameters(shape: ModelDims, config: Mapping[str, Any], kind: str) -> int:
    """Count V h (1 or 2 times) + positions + layers * (attention + feed-forward + norms) + last norm, with biases."""
    biased = kind in ("phi", "gpt_neox", "gpt2")
    attention_bias, feed_bias = (biased or bool(config.get(name)) for name in ("attention_bias", "mlp_bias"))
    hidden, query_size, kv_size = shape.hidden, shape.heads * shape.head, shape.kv_heads * shape.head
    norm = hidden * (2 if biased else 1)
    projections = (query_size + 2 * kv_size) * (hidden + (attention_bias or kind == "qwen2"))
    inner = (2 if shape.gated else 1) * shape.intermediate * (hidden + feed_bias)
    outer = hidden * (query_size + attention_bias) + hidden * (shape.intermediate + feed_bias)
    layer = projections + inner + outer + norm * (1 if kind == "phi" else 2)
    ends = shape.vocabulary * (hidden * (1 if shape.tied else 2) + (kind == "phi"))
    positions = _size(config, "n_positions", "max_position_embeddings") * hidden if kind == "gpt2" else 0
    return ends + positions + shape.layers * layer + norm


def lora_parameters(shape: ModelDims, *, rank: int) -> int:
    """Count the weights of adapters on every linear layer but the head: the sum of rank * (inputs + outputs).

    Queries, keys and values count as three layers; if fused (gpt_neox, gpt2), there are 2 * rank * hidden fewer.
    """
    query_size, kv_size = shape.heads * shape.head, shape.kv_heads * shape.head
    attention = 2 * (shape.hidden + query_size) + 2 * (shape.hidden + kv_size)
    return shape.layers * rank * (attention + (3 if shape.gated else 2) * (shape.hidden + shape.intermediate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak bytes by purpose; ``host``: main memory in addition to a GPU's, not part of ``total``."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    cache: int
    program: int
    host: int = 0

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return sum(getattr(self, each.name) for each in fields(self) if each.name != "host")


def training_memory(  # noqa: PLR0913 - every one is a size
    shape: ModelDims, *, weight_bytes: int, compute_bytes: int, rows: int, tokens: int, scored: int,
    gradient_checkpointing: bool, trained: int, slack: float = HEAP_SLACK, optimizer: OptimizerName = "adamw",
) -> Memory:  # fmt: skip
    """Compute the peak memory of a training step with AdamW.

    A layer stores for its backward pass, in bytes per token, following Korthikanti et al. 2022 ("Reducing Activation
    Recomputation in Large Transformer Models", section 4), here for RMSNorm in fp32, attention without a T x T matrix
    and dropout in adapters only (w = ``weight_bytes``, c = ``compute_bytes``, h, i: sizes, a = heads * head):

        2 norms:      2 (4 + w + c) h          input in fp32, normalised in the weights' precision, output
        attention:    4 c a                    queries, keys, values (both repeated for all heads), output
        feed-forward: c i ``shape.kept``
        adapters:     (8 - c)((4|5) h + a + i) fp32 inputs of linear layers and dropout masks in place of inputs

    Gradient checkpointing stores w h per layer and the above for one layer at a time. The last norm adds (4 + w + c) h.
    Logits exist at scored columns only, five tensors at a time in fp32: themselves, the gradient of the gathered one,
    and three steps of logsumexp's gradient; for large vocabularies those of one block of tokens
    (:mod:`.logit_blocks`), with a copy of the head's weight in the smaller dtype, or where the head cannot be separated
    with all logits and their gradient in the smaller dtype. Mixed precision (c < w) also stores the weights in the
    smaller dtype.
    AdamW's step may copy the trained weights once more, after activations are freed: the excess counts as optimizer.

    bitsandbytes makes no such copy. Its 8-bit moments count as 2 bytes per trained weight (without their scales, 3 %
    more, and small tensors in 32 bit), its paged ones as 8 in main memory and none on the GPU: CUDA keeps them there
    only if there is space. Neither was measured.

    Args:
        shape: The model's dimensions.
        weight_bytes: Bytes per weight: 4 for float32 and mixed precision, 2 for plain bfloat16.
        compute_bytes: Bytes per activation value, 2 or 4.
        rows: Rows per pass, all streams together.
        tokens: Tokens of the longest row.
        scored: Columns of a pass in which any row is scored; at least the longest answer.
        gradient_checkpointing: Whether activations are recomputed.
        trained: Number of trained weights: ``shape.parameters``, or those of adapters, which are at least float32.
        slack: Ratio of allocated memory to memory in use, at least 1, for activations and logits (``GPU_SLACK`` on
            GPUs).
        optimizer: The AdamW variant.
    """
    attended, adapters = shape.heads * shape.head, trained if trained < shape.parameters else 0
    norm = (4 + weight_bytes + compute_bytes) * shape.hidden
    layer = 2 * norm + compute_bytes * (4 * attended + shape.kept * shape.intermediate)
    inputs = (4 + shape.gated) * shape.hidden + attended + shape.intermediate
    layer += (adapters > 0) * (2 * max(4, compute_bytes) - compute_bytes) * inputs
    layers = shape.layers * weight_bytes * shape.hidden + layer if gradient_checkpointing else shape.layers * layer
    activations = int(slack * rows * tokens * (layers + norm))
    logits = _logits(
        shape, positions=rows * scored, weight_bytes=weight_bytes, compute_bytes=compute_bytes, slack=slack
    )
    copies = shape.parameters * compute_bytes if compute_bytes < weight_bytes else 0
    moving = trained * (max(4, weight_bytes) if adapters else weight_bytes)
    plain = 2 * moving + max(0, moving - activations - logits - copies)
    return Memory(
        weights=shape.parameters * weight_bytes + copies + (moving if adapters else 0), gradients=moving,
        optimizer={"adamw": plain, "adamw8bit": 2 * trained, "paged": 0}[optimizer], activations=activations,
        logits=logits, cache=0, program=PROGRAM, host=8 * trained if optimizer == "paged" else 0,
    )  # fmt: skip


def _logits(shape: ModelDims, *, positions: int, weight_bytes: int, compute_bytes: int, slack: float) -> int:
    """Compute the bytes of logits and their gradients; see :func:`training_memory`."""
    block = rows_per_block(positions, shape.vocabulary)
    logits = int(slack * min(positions, block or positions) * shape.vocabulary * 5 * max(4, compute_bytes))
    if block is None:
        return logits
    if not shape.separable:
        return logits + int(slack * 2 * positions * shape.vocabulary * compute_bytes)
    return logits + (shape.head_parameters * compute_bytes if compute_bytes < weight_bytes else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """Settings that determine memory.

    They are ``trainer.micro_batch_size`` (rows per pass and stream), ``trainer.micro_batch_tokens`` (padded tokens
    instead of rows, or ``None``), ``trainer.gradient_checkpointing``, ``trainer.devices``, ``trainer.strategy``,
    ``model.lora.rank`` (``None`` trains all weights), ``model.lora.init``, ``model.precision``, ``optim.optimizer``,
    and whether ``optim.sam_rho`` perturbs the trained weights, of which a copy is then kept.
    """

    micro_batch_size: int
    micro_batch_tokens: int | None
    gradient_checkpointing: bool
    rank: int | None
    init: str
    precision: str
    devices: int
    optimizer: OptimizerName
    strategy: str
    perturbed: bool = False

    def rows(self, longest: int) -> int:
        """Return the number of rows of ``longest`` tokens that take as much memory as the largest pass of a stream.

        Shorter rows fill as many padded tokens; that more of these may be scored is ignored.
        """
        return self.micro_batch_size if self.micro_batch_tokens is None else -(-self.micro_batch_tokens // longest)

    def rows_per_pass(self, load: TrainingLoad) -> int:
        """Return a stream's rows per pass: the maximum, or a process's share of a step if that is smaller."""
        return min(self.rows(load.tokens), -(-load.batch // self.devices))

    @property
    def weight_bytes(self) -> int:
        """Bytes per weight in training."""
        return DTYPE_BYTES[precision_of(self.precision, adapters=self.rank is not None).trained]

    @property
    def compute_bytes(self) -> int:
        """Bytes per value that a pass computes."""
        return DTYPE_BYTES[precision_of(self.precision, adapters=self.rank is not None).compute]

    @property
    def start_within(self) -> bool:
        """Whether the trained model contains the start model: it is the one without its (default) adapters."""
        return self.rank is not None and self.init == "default"

    @property
    def sharded(self) -> bool:
        """Whether weights, gradients and optimizer states are sharded over processes."""
        return self.strategy == "fsdp" and self.devices > 1 and self.rank is None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoad:
    """The load of a training, and its device.

    ``streams`` of the method; ``batch``: maximum rows of a stream in a step over all processes, from 1, at most the
    size of the data; ``tokens``, ``scored`` and ``slack`` as in :func:`training_memory`;
    ``shared``: all processes share one memory, as on a CPU; ``watched``: the model is evaluated
    between steps; ``reference``: a frozen model is needed, with ``anchored`` one that the trained model never
    contains; ``gradients``: gradients of single rows by all weights are computed before.
    """

    streams: int
    batch: int
    tokens: int
    scored: int
    shared: bool
    slack: float
    watched: bool = False
    reference: bool = False
    anchored: bool = False
    gradients: bool = False


def training_need(shape: ModelDims, settings: MemorySettings, load: TrainingLoad) -> Memory:
    """Compute the peak memory of a training step, of all processes if they share one memory, else of one.

    With several processes, each also has gradient buckets for the exchange. Frozen weights need no float32 copy.
    """
    one = training_memory(
        replace(shape, separable=shape.separable and not settings.sharded),
        weight_bytes=settings.weight_bytes, compute_bytes=settings.compute_bytes,
        rows=settings.rows_per_pass(load) * load.streams, tokens=load.tokens, scored=load.scored,
        gradient_checkpointing=settings.gradient_checkpointing, slack=load.slack, optimizer=settings.optimizer,
        trained=shape.parameters if settings.rank is None else lora_parameters(shape, rank=settings.rank),
    )  # fmt: skip
    if load.reference and (load.anchored or not settings.start_within):
        one = replace(one, weights=one.weights + shape.parameters * settings.compute_bytes)
    copy = one.gradients * settings.perturbed  # as many bytes as the trained weights
    if settings.sharded:
        one = _sharded(shape, one, settings, load)
    elif settings.devices > 1:
        one = replace(one, gradients=2 * one.gradients)
    one = replace(one, weights=one.weights + copy // (settings.devices if settings.sharded else 1))
    times = settings.devices if load.shared else 1
    every = {each.name: times * getattr(one, each.name) for each in fields(one)}
    return Memory(**every | {"host": settings.devices * one.host})  # all GPUs share one main memory


def _sharded(shape: ModelDims, one: Memory, settings: MemorySettings, load: TrainingLoad) -> Memory:
    """Compute one process's memory of a training with sharded weights, gradients and optimizer states.

    1 / n of each and, unsharded: embeddings and head throughout a step and two layers, of which one computes; the
    gradients of both ends and a layer, or of all weights if a process needs several passes, since they are exchanged in
    the last one; copies for mixed precision; all weights if the model is evaluated between steps. At the start the
    model is unsharded, without any of the above.
    """
    count, every = settings.devices, shape.parameters * settings.weight_bytes
    start = every + load.reference * shape.parameters * settings.compute_bytes
    ends = shape.vocabulary * shape.hidden * (1 if shape.tied else 2) * settings.weight_bytes
    layer = (every - ends) // shape.layers
    several = load.batch > count * settings.rows(load.tokens)
    gradients, optimizer = every // count + (every if several else ends + layer), one.optimizer // count
    weights = start // count + ends + 2 * layer + one.weights - start + load.watched * every
    weights = max(weights, start - gradients - optimizer - one.activations - one.logits)
    return replace(one, weights=weights, gradients=gradients, optimizer=optimizer)
