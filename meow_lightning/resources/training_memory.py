"""The memory that a model takes, before any weight of it is loaded, and which settings take less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from meow_lightning.config.precision import DTYPE_BYTES, precision_of
from meow_lightning.errors import UserError
from meow_lightning.types import OptimizerName

PROGRAM = 512 * 2**20  # VmRSS with torch 2.13 (CPU), transformers and Lightning imported: 470 MB, after a step 500
# Memory taken over memory in use, for what passes allocate and free.
HEAP_SLACK = 1.4  # glibc: peak VmRSS against live tensors was 1.38 to 1.47 (two models, two micro-batches each)
GPU_SLACK = 1.1  # CUDA's pools: a guess, not measured

_TIED = {"gpt2", "gemma", "gemma2", "opt", "bloom", "falcon"}  # where a config.json that does not say so means it
_WRITTEN_OUT = {"gelu_new", "gelu_fast", "gelu_python"}  # computed by several tensor operations, each keeps its input


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDims:
    """The sizes of a decoder-only model that memory and time follow from.

    Attributes:
        parameters: Weights in all, tied ones once.
        hidden: Width; ``layers`` is the depth, ``vocabulary`` the entries of the vocabulary.
        heads: Attention heads, ``kv_heads`` of them with keys and values of their own, each ``head`` wide.
        intermediate: Width of the feed-forward part; ``gated``: with a gate, so three matrices instead of two.
        tied: Whether embedding and output head are one matrix.
        kept: Tensors of width ``intermediate`` that a layer keeps for its backward pass: 4 with a gate, 2 without, 5
            where GELU is written out in tensor operations.
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

    @property
    def head_parameters(self) -> int:
        """Weights of the output head, which is multiplied at scored positions only."""
        return self.vocabulary * self.hidden

    @property
    def body_parameters(self) -> int:
        """Weights that every token is multiplied by: all but those of the embedding and the output head."""
        return self.parameters - self.head_parameters * (1 if self.tied else 2)


def dims_of(config: Mapping[str, Any], *, parameters: int | None) -> ModelDims:
    """The shape a Hugging Face ``config.json`` describes.

    Args:
        config: Its content; a type other than llama, mistral, qwen2, phi, gpt_neox or gpt2 counts as a Llama.
        parameters: Weights in all; ``None`` to have them computed.

    Raises:
        UserError: A size is missing, or the weights of a mixture of experts would have to be computed.
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
    )  # fmt: skip
    if parameters is not None:
        return shape
    if config.get("num_local_experts") or config.get("num_experts"):
        raise UserError(f"config.json does not tell the size of a mixture of experts ({kind}); bring its *.safetensors")
    return replace(shape, parameters=_parameters(shape, config, kind))


def tiny_dims(architecture: Mapping[str, Any], vocab_size: int) -> ModelDims:
    """The shape of the tiny model: a Llama with tied embeddings, from the keys of ``model.architecture``."""
    names = {"layers": "num_hidden_layers", "heads": "num_attention_heads"}
    config = {names.get(name, name): value for name, value in architecture.items()}
    return dims_of(config | {"vocab_size": vocab_size, "tie_word_embeddings": True}, parameters=None)


def _size(config: Mapping[str, Any], *names: str) -> int:
    found = next((config[name] for name in names if isinstance(config.get(name), int)), 0)
    if found < 1:
        raise UserError(f"config.json has no {' or '.join(names)} of 1 or more; give the folder of a language model")
    return int(found)


def _parameters(shape: ModelDims, config: Mapping[str, Any], kind: str) -> int:
    """V h (1 or 2 times) + positions + layers * (attention + feed-forward + norms) + last norm, with their biases."""
    biased = kind in ("phi", "gpt_neox", "gpt2")
    attention_bias, feed_bias = (biased or bool(config.get(name)) for name in ("attention_bias", "mlp_bias"))
    hidden, attended, held = shape.hidden, shape.heads * shape.head, shape.kv_heads * shape.head
    norm = hidden * (2 if biased else 1)
    asked = (attended + 2 * held) * (hidden + (attention_bias or kind == "qwen2"))
    inner = (2 if shape.gated else 1) * shape.intermediate * (hidden + feed_bias)
    outer = hidden * (attended + attention_bias) + hidden * (shape.intermediate + feed_bias)
    layer = asked + inner + outer + norm * (1 if kind == "phi" else 2)
    ends = shape.vocabulary * (hidden * (1 if shape.tied else 2) + (kind == "phi"))
    positions = _size(config, "n_positions", "max_position_embeddings") * hidden if kind == "gpt2" else 0
    return ends + positions + shape.layers * layer + norm


def lora_parameters(shape: ModelDims, *, rank: int) -> int:
    """Weights of adapters on every linear layer but the head: the sum of rank * (inputs + outputs).

    Queries, keys and values count as three layers; where they are one (gpt_neox, gpt2) it is 2 * rank * hidden fewer.
    """
    attended, held = shape.heads * shape.head, shape.kv_heads * shape.head
    attention = 2 * (shape.hidden + attended) + 2 * (shape.hidden + held)
    return shape.layers * rank * (attention + (3 if shape.gated else 2) * (shape.hidden + shape.intermediate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes at the peak, by what they are for; ``host``: main memory beside a GPU's, no part of ``total``."""

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
    """The peak of a training step with AdamW.

    A layer keeps for its backward pass, in bytes per token, counted as in Korthikanti et al. 2022 ("Reducing Activation
    Recomputation in Large Transformer Models", section 4), here for RMSNorm in fp32, attention without a T x T matrix
    and no dropout but in adapters (w = ``weight_bytes``, c = ``compute_bytes``, h, i: widths, a = heads * head):

        2 norms:      2 (4 + w + c) h          input in fp32, normalised in the weights' precision, output
        attention:    4 c a                    queries, keys, values (both repeated for all heads), output
        feed-forward: c i ``shape.kept``
        adapters:     (8 - c)((4|5) h + a + i) fp32 inputs of linear layers and dropout masks in place of inputs

    Checkpointing keeps w h per layer and the above for one layer at a time. The last norm adds (4 + w + c) h. Logits
    exist at scored columns only, five at a time in fp32: themselves, the gradient of the gathered one, and three
    steps of logsumexp's gradient. Mixed precision (c < w) also keeps the weights in the smaller one. AdamW's step may
    take one more copy of the trained weights, when nothing of the passes is left: the excess counts as optimizer.

    bitsandbytes takes no such copy. Its 8-bit moments count as 2 bytes per trained weight (their scales, 3 % more, and
    small tensors in 32 bit do not), its paged ones as 8 in main memory and none on the GPU: CUDA keeps them there only
    where there is room. Neither was measured.

    Args:
        shape: The model.
        weight_bytes: Per weight: 4 for float32 and for mixed precision, 2 for plain bfloat16.
        compute_bytes: Per value of an activation, 2 or 4.
        rows: Rows per pass, all streams together.
        tokens: Tokens of the longest row.
        scored: Columns of a pass in which some row is scored; at least the longest answer.
        gradient_checkpointing: Whether activations are recomputed.
        trained: Trained weights: ``shape.parameters``, or those of adapters, which are float32 at least.
        slack: Memory taken over memory in use, 1 or more, for activations and logits (``GPU_SLACK`` on a GPU).
        optimizer: Which AdamW.
    """
    attended, adapters = shape.heads * shape.head, trained if trained < shape.parameters else 0
    norm = (4 + weight_bytes + compute_bytes) * shape.hidden
    layer = 2 * norm + compute_bytes * (4 * attended + shape.kept * shape.intermediate)
    inputs = (4 + shape.gated) * shape.hidden + attended + shape.intermediate
    layer += (adapters > 0) * (2 * max(4, compute_bytes) - compute_bytes) * inputs
    layers = shape.layers * weight_bytes * shape.hidden + layer if gradient_checkpointing else shape.layers * layer
    activations = int(slack * rows * tokens * (layers + norm))
    logits = int(slack * rows * scored * shape.vocabulary * 5 * max(4, compute_bytes))
    copies = shape.parameters * compute_bytes if compute_bytes < weight_bytes else 0
    moving = trained * (max(4, weight_bytes) if adapters else weight_bytes)
    plain = 2 * moving + max(0, moving - activations - logits - copies)
    return Memory(
        weights=shape.parameters * weight_bytes + copies + (moving if adapters else 0), gradients=moving,
        optimizer={"adamw": plain, "adamw8bit": 2 * trained, "paged": 0}[optimizer], activations=activations,
        logits=logits, cache=0, program=PROGRAM, host=8 * trained if optimizer == "paged" else 0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """Settings that memory depends on.

    They are ``trainer.micro_batch_size`` (rows per pass and stream), ``trainer.micro_batch_tokens`` (padded tokens in
    the place of rows, or ``None``), ``trainer.gradient_checkpointing``, ``trainer.devices``, ``trainer.strategy``,
    ``model.lora.rank`` (``None`` trains all weights), ``model.precision`` and ``optim.optimizer``.
    """

    micro_batch_size: int
    micro_batch_tokens: int | None
    gradient_checkpointing: bool
    rank: int | None
    precision: str
    devices: int
    optimizer: OptimizerName
    strategy: str

    def rows(self, longest: int) -> int:
        """Rows of ``longest`` tokens that take as much as a pass of a stream may.

        Shorter rows fill as many padded tokens; that more of these may be scored ones is left out.
        """
        return self.micro_batch_size if self.micro_batch_tokens is None else -(-self.micro_batch_tokens // longest)

    def rows_per_pass(self, load: TrainingLoad) -> int:
        """Rows of a stream in a pass: what a pass may take, and no more than a process gets of a step."""
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
    def sharded(self) -> bool:
        """Whether weights, gradients and optimizer states are shared among the processes."""
        return self.strategy == "fsdp" and self.devices > 1 and self.rank is None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLoad:
    """What a training puts through a model, and where.

    ``streams`` of the method; ``batch``: most rows of a stream in a step, in all processes, from 1, which are no more
    than the data has; ``tokens``, ``scored`` and ``slack`` as in
    :func:`training_memory`; ``shared``: all processes share one memory, as on a
    CPU; ``watched``: the model is asked between steps; ``reference``: a frozen copy stands by (not beside adapters).
    """

    streams: int
    batch: int
    tokens: int
    scored: int
    shared: bool
    slack: float
    watched: bool = False
    reference: bool = False


def training_need(shape: ModelDims, knobs: MemorySettings, load: TrainingLoad) -> Memory:
    """The peak of a training step under these settings, of all processes where they share one memory, else of one.

    Each of several also holds the gradients in the buckets that are exchanged. Frozen weights need no float32 copy.
    """
    one = training_memory(
        shape, weight_bytes=knobs.weight_bytes, compute_bytes=knobs.compute_bytes,
        rows=knobs.rows_per_pass(load) * load.streams, tokens=load.tokens, scored=load.scored,
        gradient_checkpointing=knobs.gradient_checkpointing, slack=load.slack, optimizer=knobs.optimizer,
        trained=shape.parameters if knobs.rank is None else lora_parameters(shape, rank=knobs.rank),
    )  # fmt: skip
    if load.reference and knobs.rank is None:
        one = replace(one, weights=one.weights + shape.parameters * knobs.compute_bytes)
    if knobs.sharded:
        one = _sharded(shape, one, knobs, load)
    elif knobs.devices > 1:
        one = replace(one, gradients=2 * one.gradients)
    times = knobs.devices if load.shared else 1
    every = {each.name: times * getattr(one, each.name) for each in fields(one)}
    return Memory(**every | {"host": knobs.devices * one.host})  # there is one main memory, however many GPUs


def _sharded(shape: ModelDims, one: Memory, knobs: MemorySettings, load: TrainingLoad) -> Memory:
    """What one of n processes holds of a training whose weights, gradients and optimizer states are sharded.

    A share of 1 / n of each, and whole: embeddings and head throughout a step and two layers, of which one computes;
    the gradients of both ends and a layer, or of all weights where a process needs several passes for its rows, since
    they are exchanged in the last one; copies of mixed precision; all weights where the model is asked between steps.
    At the start the model is whole, with nothing of the above beside it.
    """
    count, every = knobs.devices, shape.parameters * knobs.weight_bytes
    start = every + load.reference * shape.parameters * knobs.compute_bytes
    ends = shape.vocabulary * shape.hidden * (1 if shape.tied else 2) * knobs.weight_bytes
    layer = (every - ends) // shape.layers
    several = load.batch > count * knobs.rows(load.tokens)
    gradients, optimizer = every // count + (every if several else ends + layer), one.optimizer // count
    weights = start // count + ends + 2 * layer + one.weights - start + load.watched * every
    weights = max(weights, start - gradients - optimizer - one.activations - one.logits)
    return replace(one, weights=weights, gradients=gradients, optimizer=optimizer)
