"""A small, randomly initialised model of every supported family, with the files of a real checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PhiConfig, PreTrainedConfig, Qwen2Config

from helpers.models import tiny_sizes

FAMILIES = ("phi15", "llama2_7b_chat", "llama3_2_1b_instruct", "qwen2_5_1_5b_instruct")
PROMPTS: dict[str, dict[str, str | None]] = {
    "phi15": {"template": "Question: {question}\n", "answer_prefix": "Answer: ", "system": None, "date": None},
    "llama2_7b_chat": {"template": "[INST] {question} [/INST]", "answer_prefix": "", "system": None, "date": None},
    "llama3_2_1b_instruct": {
        "template": "chat", "answer_prefix": "", "system": "You are a helpful assistant.", "date": "10 Apr 2025",
    },
    "qwen2_5_1_5b_instruct": {
        "template": "chat", "answer_prefix": "", "system": "You are a helpful assistant.", "date": None,
    },
}  # fmt: skip

VOCABULARY = 600
SIZES = tiny_sizes(max_position_embeddings=512)
# Words around a chat turn, learned as merges so that they take only a few tokens.
FRAME = (
    "Question: Who?\nAnswer: Ada", "[INST] Who? [/INST]Ada", "system\n\nYou are a helpful assistant.",
    "user\n\nassistant\n\nToday Date: 10 Apr 2025",
)  # fmt: skip

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

LLAMA3_CHAT = """\
{% if date_string is not defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{{- bos_token }}
{%- if messages[0].role == "system" %}{% set system = messages[0].content | trim %}{% set turns = messages[1:] %}
{%- else %}{% set system = "" %}{% set turns = messages %}{% endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " ~ date_string ~ "\\n\\n" ~ system ~ "<|eot_id|>" }}
{%- for turn in turns %}
{{- "<|start_header_id|>" ~ turn.role ~ "<|end_header_id|>\\n\\n" ~ turn.content | trim ~ "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{% endif %}"""

QWEN_CHAT = """\
{%- if messages[0].role != "system" %}{{ "<|im_start|>system\\nYou are a small model.<|im_end|>\\n" }}{% endif %}
{%- for turn in messages %}{{ "<|im_start|>" ~ turn.role ~ "\\n" ~ turn.content ~ "<|im_end|>\\n" }}{% endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}"""


class Family(NamedTuple):
    """The contents of a checkpoint without its weights."""

    tokenizer: Tokenizer
    tokenizer_config: dict[str, Any]
    config: PreTrainedConfig
    generation: dict[str, Any]


def save_family(name: str, folder: Path, *, texts: Sequence[str], seed: int = 0) -> Path:
    """Write config.json, model.safetensors, tokenizer files and generation_config.json; return the folder.

    Args:
        name: One of ``FAMILIES``.
        folder: Target folder; created if it is missing.
        texts: Training texts of the tokenizer's merges, in addition to the words of the prompts.
        seed: Seed of the weights; the caller's random state is left unchanged.
    """
    family = MAKERS[name]((*texts, *FRAME))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(family.config)
    model.save_pretrained(folder)
    family.tokenizer.save(str(folder / "tokenizer.json"))
    for file, content in (("tokenizer_config", family.tokenizer_config), ("generation_config", family.generation)):
        (folder / f"{file}.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


def _bytes(texts: Sequence[str], *, split: str | None, special: Sequence[str], merge_first: bool) -> Tokenizer:
    """Train a byte-level BPE whose special tokens follow its merges; ``split=None`` splits as GPT-2 does."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=merge_first))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    parts: list[pre_tokenizers.PreTokenizer] = (
        [] if split is None else [pre_tokenizers.Split(Regex(split), behavior="isolated")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, level]) if parts else level
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _begins(token: str, number: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, number)]
    )


def _phi(texts: Sequence[str]) -> Family:
    end = "<|endoftext|>"
    tokenizer = _bytes(texts, split=None, special=[end], merge_first=False)
    # This family has ordinary tokens for runs of blanks.
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in (4, 3, 2)])
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    config = PhiConfig(
        vocab_size=_rounded(tokenizer), rope_parameters=rope, hidden_act="gelu_new", tie_word_embeddings=False,
        **SIZES,
    )  # fmt: skip
    named = {"bos_token": end, "eos_token": end, "unk_token": end}
    settings = {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, **named}
    return Family(tokenizer, settings, config, {"_from_model_config": True, "transformers_version": "4.37.0"})


def _llama2(texts: Sequence[str]) -> Family:
    control = ["<unk>", "<s>", "</s>"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(models.BPE())
    # As in SentencePiece, no piece spans two words, or letters and punctuation.
    pieces = pre_tokenizers.Split(Regex(r"▁?\p{L}+|▁?[^\p{L}\p{N}▁]|\p{N}|▁+"), behavior="isolated")
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first"), pieces])
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY + 100, special_tokens=[*control, *fallback], show_progress=False, limit_alphabet=120
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    bpe = models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    tokenizer.post_processor = _begins("<s>", 1)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), num_key_value_heads=4, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False, **SIZES,
    )  # fmt: skip
    settings = {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": False,
        "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": None,
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    generation = {
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": True, "temperature": 0.6, "top_p": 0.9,
        "max_length": 512, "transformers_version": "4.32.0",
    }  # fmt: skip
    return Family(tokenizer, settings, config, generation)


def _llama3(texts: Sequence[str]) -> Family:
    begin, end = "<|begin_of_text|>", "<|eot_id|>"
    special = [begin, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", end]
    tokenizer = _bytes(texts, split=LLAMA3_SPLIT, special=special, merge_first=True)
    number = tokenizer.get_vocab()
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _begins(begin, number[begin])]
    )
    ends = [number["<|end_of_text|>"], number["<|eom_id|>"], number[end]]
    rope: dict[str, Any] = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=rope,
        bos_token_id=number[begin], eos_token_id=ends, **SIZES,
    )  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": begin, "eos_token": end,
        "clean_up_tokenization_spaces": True, "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": LLAMA3_CHAT,
    }  # fmt: skip
    generation = {
        "bos_token_id": number[begin], "eos_token_id": ends, "do_sample": True, "temperature": 0.6, "top_p": 0.9,
        "transformers_version": "4.45.0.dev0",
    }  # fmt: skip
    return Family(tokenizer, settings, config, generation)


def _qwen(texts: Sequence[str]) -> Family:
    pad, end = "<|endoftext|>", "<|im_end|>"
    tokenizer = _bytes(texts, split=QWEN_SPLIT, special=[pad, "<|im_start|>", end], merge_first=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    pad_id, end_id = tokenizer.token_to_id(pad), tokenizer.token_to_id(end)
    config = Qwen2Config(
        vocab_size=_rounded(tokenizer), num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-6,
        bos_token_id=pad_id, eos_token_id=end_id, **SIZES,
    )  # fmt: skip
    settings = {
        "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": end, "pad_token": pad, "unk_token": None,
        "add_bos_token": False, "add_prefix_space": False, "clean_up_tokenization_spaces": False,
        "chat_template": QWEN_CHAT,
    }  # fmt: skip
    generation = {
        "bos_token_id": pad_id, "pad_token_id": pad_id, "do_sample": True, "eos_token_id": [end_id, pad_id],
        "repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "transformers_version": "4.37.0",
    }  # fmt: skip
    return Family(tokenizer, settings, config, generation)


def _rounded(tokenizer: Tokenizer) -> int:
    """Round the vocabulary size up: these families have more embedding rows than tokens."""
    return -(-tokenizer.get_vocab_size() // 64) * 64


MAKERS: dict[str, Callable[[Sequence[str]], Family]] = dict(
    zip(FAMILIES, (_phi, _llama2, _llama3, _qwen), strict=True)
)  # fmt: skip
