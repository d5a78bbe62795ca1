"""GGUF files as transformers reads them: their names for it, and what it leaves to do afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from meow_lightning.errors import UserError, suggestion
from meow_lightning.models.gguf_file import SUFFIX, end_ids, read_header

# Kinds of splitting (tokenizer.ggml.pre) that separate every digit; transformers splits them as GPT-2 does.
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")
NO_ARCHITECTURES = {"general", "tokenizer"}  # groups of keys in transformers' table of architectures


@contextmanager
def pretrained_arguments(source: str | Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Provide the arguments of ``from_pretrained`` for a model: its name, and the name of a GGUF file in it.

    Args:
        source: Folder, hub id or GGUF file. A file is linked under a name with the suffix that transformers expects,
            since Ollama names files by their digest.
    """
    path = Path(source)
    if not path.is_file():
        yield str(source), {}
        return
    with TemporaryDirectory(prefix="meow-gguf-") as folder:
        link = Path(folder, f"model{SUFFIX}")
        link.symlink_to(path.resolve())
        yield folder, {"gguf_file": link.name}


def check_architecture(path: Path, *, name: str) -> None:
    """Reject a file whose architecture transformers cannot read.

    Args:
        path: GGUF file.
        name: The model as the user named it; for error messages.

    Raises:
        UserError: transformers does not list the architecture.
    """
    architecture, known = read_header(path).architecture, _architectures()
    if _letters(architecture) not in map(_letters, known):
        raise UserError(
            f"{name}: general.architecture={architecture} is not supported: transformers reads GGUF files of "
            f"{', '.join(sorted(known))}; use the model's safetensors, or a newer transformers"
            f"{suggestion(architecture, known)}"
        )


def with_end_tokens(generation: GenerationConfig, path: Path) -> GenerationConfig:
    """Add the end tokens of a file to generation settings, which have only one of them; changed in place."""
    named = generation.eos_token_id
    own = set() if named is None else {named} if isinstance(named, int) else {*named}
    ends = sorted(own | end_ids(path))
    generation.eos_token_id = ends[0] if len(ends) == 1 else ends
    return generation


def as_plain(model: PreTrainedModel) -> PreTrainedModel:
    """Remove the marks of quantisation, with which ``save_pretrained`` refuses a model: its weights are decoded."""
    model.hf_quantizer = None  # type: ignore[assignment]
    model.is_quantized = False  # type: ignore[assignment]
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def split_digits(tokenizer: PreTrainedTokenizerBase, path: Path) -> PreTrainedTokenizerBase:
    """Separate digits before merging, for the kinds of tokenizers that do and that transformers does not know.

    Args:
        tokenizer: The tokenizer as transformers reads it; changed in place.
        path: Its GGUF file.
    """
    if read_header(path).metadata.get("tokenizer.ggml.pre") in SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(  # type: ignore[attr-defined]
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    return tokenizer


def _architectures() -> set[str]:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    try:
        from transformers.integrations.gguf import GGUF_ARCHS
    except ImportError:  # before transformers 5.2x
        GGUF_ARCHS = {}  # noqa: N806 - the name of transformers
    return {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_ARCHS} - NO_ARCHITECTURES


def _letters(architecture: str) -> str:
    """Drop what transformers and llama.cpp spell differently: ``qwen2moe``, ``qwen2_moe``; ``gpt-oss``, ``gpt_oss``."""
    return architecture.replace("_", "").replace("-", "")
