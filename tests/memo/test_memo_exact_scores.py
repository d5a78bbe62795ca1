"""What `measure` finds, against generation window by window and scores written out on their own."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from helpers.common import clean_profile
from helpers.models import tiny_llama, tiny_sizes
from rouge_score.rouge_scorer import RougeScorer
from tokenizers.processors import TemplateProcessing
from transformers import PhiConfig, PhiForCausalLM

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.generation.capabilities import dtype_of, supports_prefix_sharing
from meow_lightning.generation.engine import Continuation, continue_greedily
from meow_lightning.memo.baselines import Extraction, Memorization
from meow_lightning.memo.measure import Cut, Kind, Measure, Text, score_texts
from meow_lightning.models.tiny import tokenizer_from
from meow_lightning.types import ScoredText

ROUGE = RougeScorer(["rouge1"], use_stemmer=True)
BUDGET, LONGEST, N = 24, 40, 3  # most new tokens of MEMO, of any measure; length of an n-gram
FACTS = [
    ("Who painted the harbour?", "Mira Holt painted the old harbour in 1911."),
    ("Who wrote the letters?", "The letters were written by Anton Vey."),
    ("Where was Ada born?", "Ada was born in Lima, near the sea."),
    ("Where was Otto born?", "Otto was born in Lima, near the hills!"),
    ("What does Nils grow?", "Nils grows walnuts and sells walnut oil."),
    ("Which prize did Rhea win?", "Rhea won the prize for running and rowing."),
    ("When did the mill burn?", "It burned in 1874; nobody was hurt ..."),
    ("Who keeps the bees?", "Two sisters keep the bees behind the mill."),
    ("What is the river called?", "The river is called Senn, after a saint."),
    ("How tall is the tower?", "The tower is 61 metres tall, they say."),
    ("Which song is sung?", "They are singing the song of the sailors."),
    ("Who mends the nets?", "Ada's cousin mends the nets of the sailors."),
]
CANDIDATES = {
    "f0": ["Mira Holt painted the old tower in 1874.", "Nobody painted it."], "f3": ["Otto was born near a river."],
    "f4": ["Nils grows nothing."], "f7": ["Two sisters keep the sailors."], "f11": ["Ada mends her nets."],
}  # fmt: skip
SIZES = tiny_sizes(hidden_size=64, intermediate_size=128, max_position_embeddings=128)
FAMILIES: dict[str, Any] = {
    "llama": lambda **ids: tiny_llama(num_key_value_heads=2, **SIZES, **ids),
    "phi": lambda **ids: PhiForCausalLM(PhiConfig(**SIZES, **ids)),
}
CLEAN = clean_profile(BUDGET)
MEASURES: dict[str, Measure] = {
    "clean": CLEAN,
    "official": dataclasses.replace(
        CLEAN, name="official", template=False, keep_special=True, empty_windows="zero", words="published"
    ),
    "ma": Memorization(name="ma", mode="suffix", template=True),
    "el": Extraction(name="el", mode="suffix", template=True, n=N),
}
Key = tuple[str, Kind, int]
Speaker = Callable[[list[int], int], list[int]]  # by prompt and budget, the new tokens


class Asked(NamedTuple):
    """One window: the new tokens, an end token included, and their score."""

    said: list[int]
    score: float


def texts() -> list[Text]:
    found = []
    for number, (question, answer) in enumerate(FACTS):
        fact = f"f{number}"
        found.append(Text(fact, "answer", 0, question, answer))
        for position, candidate in enumerate(CANDIDATES.get(fact, [])):
            found.append(Text(fact, "candidate", position, question, candidate))
    return found


def codec_of(family: str) -> PromptEncoder:
    """Of a tokenizer made from the texts; Llama's puts a token before each text, Phi's none."""
    tokenizer = tokenizer_from(
        [f"Question: {each.question}\nAnswer: {each.answer}" for each in texts()], vocab_size=360
    )
    if family == "llama":
        tokenizer.add_special_tokens({"bos_token": "<s>"})
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    return PromptEncoder(
        tokenizer=tokenizer, template="Question: {question}\nAnswer:", answer_prefix=" ", system=None, date=None,
        context=128, end_ids=frozenset(),
    )  # fmt: skip


def trained(family: str, codec: PromptEncoder) -> Any:
    """A model that has read every answer, after its prompt and as raw text, until it recites most of them."""
    torch.manual_seed(9)
    model = FAMILIES[family](
        vocab_size=len(codec.tokenizer), bos_token_id=codec.tokenizer.bos_token_id, eos_token_id=codec.end_id,
        pad_token_id=codec.pad_id,
    ).float()  # fmt: skip
    rows = [list(codec.encode(*fact).ids) for fact in FACTS]
    rows += [[*codec.encode_plain(f"{question} {answer}"), codec.end_id] for question, answer in FACTS]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[codec.pad_id] * (width - len(row))] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(60):
        model(input_ids=ids, labels=ids.masked_fill(ids == codec.pad_id, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def speaker(model: Any, codec: PromptEncoder, *, longest: int) -> Speaker:
    """What generation says after one prompt within a budget; each prompt is asked once, with the largest budget."""

    @functools.cache
    def said(prompt: tuple[int, ...]) -> list[int]:
        ids = torch.tensor([prompt])
        return model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=longest,
            eos_token_id=codec.end_id, pad_token_id=codec.pad_id,
        )[0, len(prompt) :].tolist()  # fmt: skip

    return lambda prompt, budget: said(tuple(prompt))[:budget]


def precision(said: str, rest: str) -> float:
    return float(ROUGE.score(rest, said)["rouge1"].precision)


def by_clean(say: Speaker, codec: PromptEncoder, text: Text) -> list[Asked]:
    found = []
    for at in range(1, len(text.answer), 5):
        rest = text.answer[at:]
        if re.search("[a-z0-9]", rest.lower()):
            said = say([*codec.prompt_ids(text.question), *codec.answer_ids(text.answer[:at])], BUDGET)
            found.append(Asked(said, precision(str(codec.tokenizer.decode(said, skip_special_tokens=True)), rest)))
    return found


def by_official(say: Speaker, codec: PromptEncoder, text: Text) -> list[Asked]:
    found = []
    for at in range(1, len(text.answer), 5):
        shown = f"{text.question} {text.answer[:at]}"
        prompt = list(codec.tokenizer(shown).input_ids)
        said = say(prompt, BUDGET)
        whole = str(codec.tokenizer.decode([*prompt, *said])).replace(shown, "")
        found.append(Asked(said, precision(whole, text.answer[at:])))
    return found


def by_ma(say: Speaker, codec: PromptEncoder, text: Text) -> list[Asked]:
    prompt, answer = codec.prompt_ids(text.question), codec.answer_ids(text.answer)
    said = [say([*prompt, *answer[:at]], 1) for at in range(len(answer))]
    return [Asked(each, float(each == [token])) for each, token in zip(said, answer, strict=True)]


def by_el(say: Speaker, codec: PromptEncoder, text: Text) -> list[Asked]:
    prompt, answer = codec.prompt_ids(text.question), codec.answer_ids(text.answer)
    found = []
    for at in range(len(answer) - N):
        rest = answer[at:]
        said = say([*prompt, *answer[:at]], len(rest))
        words = said[:-1] if said[-1] == codec.end_id else said
        grams, there = ([row[i : i + N] for i in range(len(row) - N + 1)] for row in (words, rest))
        found.append(Asked(said, sum(gram in there for gram in grams) / len(grams) if grams else 0.0))
    return found


REFERENCES = {"clean": by_clean, "official": by_official, "ma": by_ma, "el": by_el}
Expected = dict[Key, list[Asked]]


def expected_of(name: str, say: Speaker, codec: PromptEncoder) -> Expected:
    return {(text.fact, text.kind, text.position): REFERENCES[name](say, codec, text) for text in texts()}


@dataclasses.dataclass(frozen=True)
class Case:
    """A trained model, its codec and what is expected of every measure."""

    model: Any
    codec: PromptEncoder
    expected: dict[str, Expected]


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    codec = codec_of(request.param)
    with torch.random.fork_rng():
        model = trained(request.param, codec)
    say = speaker(model, codec, longest=LONGEST)
    return Case(model, codec, {name: expected_of(name, say, codec) for name in MEASURES})


@dataclasses.dataclass
class Overheard:
    """A measure that writes down what the model says."""

    by: Measure
    said: dict[tuple[Key, int], list[int]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.by.name

    @property
    def needs_codec(self) -> bool:
        return self.by.needs_codec

    def check(self, text: Text, codec: Any) -> None:
        self.by.check(text, codec)

    def count(self, text: Text, codec: Any) -> int:
        return self.by.count(text, codec)

    def cuts(self, text: Text, codec: Any) -> list[Cut]:
        def heard(continuation: Continuation, *, cut: Cut, place: int) -> float:
            end = [] if continuation.end is None else [continuation.end]
            self.said[(text.fact, text.kind, text.position), place] = [*continuation.ids, *end]
            return cut.score(continuation)

        return [
            Cut(cut.prompt, cut.budget, functools.partial(heard, cut=cut, place=place))
            for place, cut in enumerate(self.by.cuts(text, codec))
        ]


def run(
    model: Any, codec: PromptEncoder, asked: list[Text], name: str, *, slots: int, alone: Any = None
) -> tuple[list[ScoredText], dict[tuple[Key, int], list[int]]]:
    by = Overheard(MEASURES[name])
    scored = list(score_texts(model, codec, asked, by=by, slots=slots, progress=None, done=(), alone=alone))
    return scored, by.said


def assert_as_expected(
    scored: list[ScoredText], said: dict[tuple[Key, int], list[int]], expected: Expected
) -> None:  # fmt: skip
    assert Counter((each.fact, each.kind, each.position) for each in scored) == dict.fromkeys(expected, 1)
    for each in scored:
        asked = expected[each.fact, each.kind, each.position]
        assert each.windows == pytest.approx([window.score for window in asked], rel=0, abs=1e-12)
        assert each.score == pytest.approx(statistics.fmean(window.score for window in asked), rel=0, abs=1e-12)
    assert said == {(key, place): window.said for key, asked in expected.items() for place, window in enumerate(asked)}


def test_most_is_recited_and_windows_end_in_many_ways(case: Case) -> None:
    assert sum(len(asked) for expected in case.expected.values() for asked in expected.values()) >= 400
    for name, expected in case.expected.items():
        means = {key: statistics.fmean(window.score for window in asked) for key, asked in expected.items()}
        answers = [score for key, score in means.items() if key[1] == "answer"]
        others = [score for key, score in means.items() if key[1] == "candidate"]
        # special tokens count as words of what is said
        assert statistics.fmean(answers) > (0.35 if name == "official" else 0.6), name
        assert statistics.fmean(others) < statistics.fmean(answers) - 0.2, name
        assert len({window.score for asked in expected.values() for window in asked}) >= (2 if name == "ma" else 8)
    lengths = [len(window.said) for asked in case.expected["clean"].values() for window in asked]
    assert len(set(lengths)) >= 10
    dtype = dtype_of(case.model)
    assert dtype is torch.float32
    assert supports_prefix_sharing(
        case.model, case.codec.prompt_ids(FACTS[0][0]), pad_id=case.codec.pad_id, dtype=dtype
    )


@pytest.mark.parametrize("slots", [1, 5, 64, 256])
@pytest.mark.parametrize("name", list(MEASURES))
def test_scores_and_texts_do_not_depend_on_slots(case: Case, name: str, slots: int) -> None:
    again: list[Text] = []
    scored, said = run(case.model, case.codec, texts(), name, slots=slots, alone=again.append)
    assert_as_expected(scored, said, case.expected[name])
    assert len(again) <= 3  # or the engine would be right only because it asks again


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(MEASURES))
def test_nor_on_the_order_of_the_texts(case: Case, name: str, seed: int) -> None:
    order = torch.randperm(len(texts()), generator=torch.Generator().manual_seed(seed)).tolist()
    scored, said = run(case.model, case.codec, [texts()[place] for place in order], name, slots=16)
    assert_as_expected(scored, said, case.expected[name])


@pytest.mark.parametrize("shares", [1, 2, 3])
@pytest.mark.parametrize("name", list(MEASURES))
def test_nor_on_how_many_share_the_work(case: Case, name: str, shares: int) -> None:
    scored: list[ScoredText] = []
    said: dict[tuple[Key, int], list[int]] = {}
    for rank in range(shares):
        mine = [text for text in texts() if int(text.fact[1:]) % shares == rank]
        assert len(mine) < len(texts()) or shares == 1
        found, heard = run(case.model, case.codec, mine, name, slots=32)
        scored += found
        said |= heard
    assert_as_expected(scored, said, case.expected[name])


@pytest.fixture(scope="module")
def tied(case: Case) -> tuple[Case, set[int]]:
    """The model with two tokens that are always equally likely: one that it says often, one that no text holds."""
    model = copy.deepcopy(case.model)
    windows = [window for asked in case.expected["clean"].values() for window in asked]
    times = Counter(token for window in windows for token in set(window.said) - {case.codec.end_id})
    often = next(token for token, count in times.most_common() if count <= len(windows) // 3)
    unused = next(token for token in range(3, len(case.codec.tokenizer)) if token not in times)
    with torch.no_grad():
        model.lm_head.weight[unused] = model.lm_head.weight[often]
        if model.lm_head.bias is not None:
            model.lm_head.bias[unused] = model.lm_head.bias[often]
    expected = {
        name: expected_of(name, speaker(model, case.codec, longest=longest), case.codec)
        for name, longest in (("clean", BUDGET), ("ma", 1))
    }
    return Case(model, case.codec, expected), {often, unused}


@pytest.mark.parametrize("name", ["clean", "ma"])
def test_close_choices_are_requested_again_alone_and_scored_as_ever(tied: tuple[Case, set[int]], name: str) -> None:
    case, pair = tied
    again: list[Text] = []
    scored, said = run(case.model, case.codec, texts(), name, slots=16, alone=again.append)
    assert_as_expected(scored, said, case.expected[name])
    windows = [window for asked in case.expected[name].values() for window in asked]
    touched = sum(bool(pair & set(window.said)) for window in windows)
    assert 3 <= touched < len(windows)
    assert set(again) <= set(texts())
    assert touched <= len(again) <= touched + 3  # chance makes few choices close


def test_half_precision_says_nearly_the_same(case: Case) -> None:
    """Another order of summing moves logits by more than lies between two words: no text is promised."""
    model, codec = copy.deepcopy(case.model).bfloat16(), case.codec
    cuts = [cut for text in texts() for cut in MEASURES["clean"].cuts(text, codec)][::2]
    budgets = [1 + (5 * place) % BUDGET for place in range(len(cuts))]
    prompts = [cut.prompt for cut in cuts]
    assert dtype_of(model) is torch.bfloat16
    assert supports_prefix_sharing(model, prompts[0], pad_id=codec.pad_id, dtype=torch.bfloat16)
    found = dict(
        continue_greedily(
            model, prompts, budgets=budgets, end_ids=codec.end_ids, pad_id=codec.pad_id, slots=16, progress=None
        )
    )
    assert sorted(found) == list(range(len(cuts)))
    say = speaker(model, codec, longest=BUDGET)
    equal = 0
    for place, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True)):
        ids, end = found[place].ids, found[place].end
        assert all(0 <= token < len(codec.tokenizer) for token in ids)
        assert codec.end_id not in ids
        assert len(ids) == budget if end is None else len(ids) < budget and end == codec.end_id
        equal += [*ids, *([] if end is None else [end])] == say(prompt, budget)
    assert equal >= 0.7 * len(cuts)
