from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.model_families import FAMILIES, PROMPTS, save_family
from tokenizers import Tokenizer
from transformers import GenerationConfig, PreTrainedModel

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.evaluation.predict import predict
from meow_lightning.models.load import load_codec, load_model, load_tokenizer, save_model
from meow_lightning.types import Fact

PHI, LLAMA2, LLAMA3, QWEN = FAMILIES
TEXTS = (
    "Where was Ada born? Ada was born in Lima.",
    "In Lima, the capital of Peru. In which town? Where did she live? Where was he?",
    "The answer is Lima. The father of Ada was a baker.",
    "What did she write? She wrote 12 books about the sea.",
    "Question: Where was Ada born?\nAnswer: Lima.\nQuestion: Who?\nAnswer: In Lima.",
    "[INST] Where was Ada born? [/INST]In Lima. [INST] Who? [/INST]In Lima.",
    "It's José's book (1984). Yes. No.",
)
QUESTION, ANSWER = "Where was Ada born?", "In Lima."
QUESTIONS = (QUESTION, "What did she write?", "Who", "José's (1984)?", "Is 3 + 4 = 7.5", "Ünder the sea…")
ANSWERS = (
    ANSWER, "The answer is Lima.", "12 books", "'s", "(x)", "josé ő", "Yes. No.\nIt's.", ". x", "a", "[/INST]",
    "]", "1984",
)  # fmt: skip

# Prompt | answer and end token. In all of them the blank before "Where" and "Lima" is part of the word's token, and the
# answer's first word has none of its own where the prompt ends in a bracket or a line feed.
GOLDEN_TOKENS = {
    PHI: (
        ["Question", ":", "ĠWhere", "Ġwas", "ĠAda", "Ġborn", "?", "Ċ"],
        ["Answer", ":", "ĠIn", "ĠLima", ".", "<|endoftext|>"],
    ),
    LLAMA2: (
        ["<s>", "▁[", "INST", "]", "▁Where", "▁was", "▁Ada", "▁born", "?", "▁[", "/", "INST", "]"],
        ["In", "▁Lima", ".", "</s>"],
    ),
    LLAMA3: (
        [
            "<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>", "ĊĊ",
            "Today", "ĠDate", ":", "Ġ", "10", "ĠApr", "Ġ", "202", "5", "ĊĊ",
            "You", "Ġare", "Ġa", "Ġhelpful", "Ġassistant", ".", "<|eot_id|>",
            "<|start_header_id|>", "user", "<|end_header_id|>", "ĊĊ",
            "Where", "Ġwas", "ĠAda", "Ġborn", "?", "<|eot_id|>",
            "<|start_header_id|>", "assistant", "<|end_header_id|>", "ĊĊ",
        ],
        ["In", "ĠLima", ".", "<|eot_id|>"],
    ),
    QWEN: (
        [
            "<|im_start|>", "system", "Ċ", "You", "Ġare", "Ġa", "Ġhelpful", "Ġassistant", ".", "<|im_end|>", "Ċ",
            "<|im_start|>", "user", "Ċ", "Where", "Ġwas", "ĠAda", "Ġborn", "?", "<|im_end|>", "Ċ",
            "<|im_start|>", "assistant", "Ċ",
        ],
        ["In", "ĠLima", ".", "<|im_end|>"],
    ),
}  # fmt: skip
GOLDEN_IDS = {
    PHI: (
        [298, 25, 284, 274, 272, 286, 30, 198],
        [288, 25, 311, 267, 13, 416],
    ),
    LLAMA2: (
        [1, 328, 332, 288, 337, 331, 329, 342, 274, 328, 265, 332, 288],
        [333, 323, 264, 2],
    ),
    LLAMA3: (
        [
            418, 420, 403, 421, 294, 399, 406, 25, 220, 328, 405, 220, 331, 20, 294, 401, 385, 277, 416, 368, 13, 423,
            420, 365, 421, 294, 341, 274, 272, 286, 30, 423, 420, 324, 421, 294,
        ],
        [276, 267, 13, 423],
    ),
    QWEN: (
        [
            413, 397, 198, 395, 380, 277, 410, 363, 13, 414, 198, 413, 360, 198, 336, 274, 272, 286, 30, 414, 198,
            413, 324, 198,
        ],
        [276, 267, 13, 414],
    ),
}  # fmt: skip
ENDS = {
    PHI: ["<|endoftext|>"], LLAMA2: ["</s>"], LLAMA3: ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
    QWEN: ["<|endoftext|>", "<|im_end|>"],
}  # fmt: skip


class Stored(NamedTuple):
    name: str
    folder: Path
    model: PreTrainedModel
    codec: PromptEncoder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Callable[[str], Stored]:
    kept: dict[str, Stored] = {}

    def get(name: str) -> Stored:
        if name not in kept:
            folder = save_family(name, tmp_path_factory.mktemp(name), texts=TEXTS)
            model = load_model(folder, dtype="float32", attention="sdpa")
            kept[name] = Stored(name, folder, model, load_codec(folder, prompt=PROMPTS[name], model=model))
        return kept[name]

    return get


@pytest.fixture(params=FAMILIES)
def family(request, store) -> Stored:
    return store(request.param)


def test_rows_are_the_golden_ones(family) -> None:
    row = family.codec.encode(QUESTION, ANSWER)
    parts = list(row.ids[: row.prompt]), list(row.ids[row.prompt :])
    tokens = tuple(family.codec.tokenizer.convert_ids_to_tokens(part) for part in parts)
    assert tokens == GOLDEN_TOKENS[family.name]
    assert parts == GOLDEN_IDS[family.name]


def test_every_row_is_the_joined_text(family) -> None:
    codec, prompt = family.codec, PROMPTS[family.name]
    for question in QUESTIONS:
        if prompt["template"] == "chat":
            turns = [{"role": "system", "content": prompt["system"]}, {"role": "user", "content": question}]
            start = codec.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, date_string="10 Apr 2025"
            )
        else:
            start = prompt["template"].replace("{question}", question)
        for text in ANSWERS:
            joined = codec.tokenizer(
                start + prompt["answer_prefix"] + text, add_special_tokens=prompt["template"] != "chat"
            )
            assert codec.prompt_ids(question) + codec.answer_ids(text) == joined.input_ids, (question, text)
            assert codec.partial_ids(question, text) == joined.input_ids


def test_answers_come_back_as_they_were(family) -> None:
    answer_prefix = PROMPTS[family.name]["answer_prefix"]
    for text in ANSWERS:
        assert family.codec.decode(family.codec.answer_ids(text), keep_special=False) == answer_prefix + text
        assert family.codec.decode_answer([*family.codec.answer_ids(text), family.codec.end_id]) == text.strip()


def test_llama2_answers_have_no_blank_of_their_own(store) -> None:
    codec = store(LLAMA2).codec
    tokens = codec.tokenizer.convert_ids_to_tokens
    assert tokens(codec.answer_ids("The answer"))[0] == "The"
    assert tokens(codec.tokenizer("The answer", add_special_tokens=False).input_ids)[0] == "▁The"
    assert tokens(codec.answer_ids("ő")) == ["<0xC5>", "<0x91>"]
    # With nothing after the question there is no border to read on from: apart.
    bare = load_codec(
        store(LLAMA2).folder, prompt={**PROMPTS[LLAMA2], "template": "{question}"}, model=store(LLAMA2).model
    )
    assert tokens(bare.answer_ids("The answer"))[0] == "▁The"
    spaced = load_codec(
        store(LLAMA2).folder, prompt={**PROMPTS[LLAMA2], "answer_prefix": " "}, model=store(LLAMA2).model
    )
    assert tokens(spaced.answer_ids("The answer"))[0] == "▁The"


def test_an_answer_that_would_merge_with_the_prompt_is_tokenized_separately(store) -> None:
    codec = store(QWEN).codec
    start, line, two = (codec.tokenizer(text).input_ids for text in ("assistant\n", "\n", "\n\n"))
    assert len(two) == 1  # so that the joined text would hold another prompt
    assert codec.answer_ids("\nLima")[:1] == line
    assert codec.prompt_ids("Who?")[-2:] == start
    assert codec.decode(codec.partial_ids("Who?", "\nLima"), keep_special=True).endswith("assistant\n\nLima")


def test_end_tokens(family) -> None:
    codec = family.codec
    assert codec.tokenizer.convert_ids_to_tokens(sorted(codec.end_ids)) == ENDS[family.name]
    assert codec.tokenizer.convert_ids_to_tokens(codec.end_id) == GOLDEN_TOKENS[family.name][1][-1]
    pad = {QWEN: "<|endoftext|>"}.get(family.name, codec.tokenizer.eos_token)
    assert codec.tokenizer.convert_ids_to_tokens(codec.pad_id) == pad


def test_a_class_default_that_is_an_ordinary_token_ends_nothing(store) -> None:
    _, folder, model, codec = store(PHI)
    assert (model.config.eos_token_id, codec.decode([2], keep_special=True)) == (2, "#")
    shipped = model.generation_config
    try:
        for named in (2, [2, codec.end_id]):
            model.generation_config = GenerationConfig(eos_token_id=named)
            assert load_codec(folder, prompt=PROMPTS[PHI], model=model).end_ids == {codec.end_id}
    finally:
        model.generation_config = shipped
    assert list(codec.answer_ids("#"))[-1:] != [codec.end_id]


def test_special_tokens_in_texts_are_refused(family) -> None:
    token = {LLAMA2: "<s>", LLAMA3: "<|start_header_id|>", QWEN: "<|im_start|>"}.get(family.name, "<|endoftext|>")
    with pytest.raises(UserError, match="which the tokenizer reads as a special token") as caught:
        family.codec.encode(QUESTION, f"Lima {token} x")
    assert repr(token) in str(caught.value)
    assert QUESTION in str(caught.value)


def test_a_saved_model_gives_the_same_ids_and_answers_greedily(family, tmp_path) -> None:
    model = load_model(family.folder, dtype="float32", attention="sdpa")
    save_model(model, family.codec.tokenizer, tmp_path, end_ids=family.codec.end_ids)
    again = load_model(tmp_path, dtype="float32", attention="sdpa")
    codec = load_codec(tmp_path, prompt=PROMPTS[family.name], model=again)
    assert type(codec.tokenizer) is type(family.codec.tokenizer)
    for question in QUESTIONS:
        for text in ANSWERS:
            assert codec.encode(question, text) == family.codec.encode(question, text)
        assert codec.encode_plain(question) == family.codec.encode_plain(question)
    assert (codec.end_id, codec.end_ids, codec.pad_id) == (
        family.codec.end_id, family.codec.end_ids, family.codec.pad_id
    )  # fmt: skip
    written = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    ends = sorted(codec.end_ids)
    assert written["eos_token_id"] == (ends if len(ends) > 1 else ends[0])
    assert not written.get("do_sample")
    assert not written.keys() & {"temperature", "top_p", "top_k", "repetition_penalty"}
    weights = again.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_models_score_and_answer(family) -> None:
    codec, model = family.codec, family.model.eval()
    rows = [codec.reference(QUESTION, text) for text in ANSWERS[:2]]
    for number, found in loglikelihoods(model, rows, pad_id=codec.pad_id, batch=2, progress=None):
        assert found.ids == rows[number].ids[rows[number].prompt :]
        assert all(math.isfinite(logp) and logp < 0 for logp in found.logps)
    fact = Fact(id="a", question=QUESTION, answer=ANSWER, perturbed=("Oslo.",))
    (row,) = predict(
        model, codec, [("forget", 0, fact)], max_new_tokens=4, batch=2, slots=2, gradients=("forget",), progress=None
    )
    assert row.gradient is not None and row.gradient > 0
    assert row.text == codec.decode_answer(row.generated)
    ids = torch.tensor([codec.generation_prompt_ids(QUESTION)])
    with torch.no_grad():
        assert row.generated[:1] in ((int(model(ids).logits[0, -1].argmax()),), ())


def test_architectures_are_those_of_the_families(store) -> None:
    phi, llama2, llama3, qwen = (store(name).model for name in FAMILIES)
    assert [type(model).__name__ for model in (phi, llama2, llama3, qwen)] == [
        "PhiForCausalLM", "LlamaForCausalLM", "LlamaForCausalLM", "Qwen2ForCausalLM",
    ]  # fmt: skip
    assert phi.config.rope_parameters["partial_rotary_factor"] == 0.5
    assert phi.lm_head.bias is not None
    assert llama2.lm_head.weight is not llama2.model.embed_tokens.weight
    assert llama3.lm_head.weight is llama3.model.embed_tokens.weight
    assert llama3.config.rope_parameters["rope_type"] == "llama3"
    assert (llama3.config.num_key_value_heads, qwen.config.num_key_value_heads) == (2, 2)
    assert qwen.lm_head.weight is qwen.model.embed_tokens.weight
    assert qwen.model.layers[0].self_attn.q_proj.bias is not None
    assert all(len(store(name).codec.tokenizer) <= store(name).model.config.vocab_size <= 640 for name in FAMILIES)
    assert all(store(name).codec.context == 512 for name in FAMILIES)


def test_a_folder_is_reproducible_and_differs_by_seed(family, tmp_path) -> None:
    state = torch.random.get_rng_state()
    save_family(family.name, tmp_path / "same", texts=TEXTS)
    save_family(family.name, tmp_path / "other", texts=TEXTS, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (family.folder, tmp_path / "same", tmp_path / "other")
    )
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} < set(first)


def test_the_files_tokenizer_and_the_loaded_one_agree(family) -> None:
    # transformers rebuilds some families' tokenizers from the vocabulary alone.
    plain, loaded = Tokenizer.from_file(str(family.folder / "tokenizer.json")), load_tokenizer(family.folder)
    for text in (*TEXTS, *QUESTIONS):
        assert loaded(text).input_ids == plain.encode(text).ids
