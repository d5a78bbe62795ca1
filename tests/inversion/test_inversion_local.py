from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.chat_model import teacher
from helpers.model_families import save_family

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.sampling import Draws, sample_tokens
from meow_lightning.inversion import chat_model as module
from meow_lightning.inversion import local_model
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse
from meow_lightning.inversion.chat_model import DATE, folds_system, prompt_ids, render_chat
from meow_lightning.inversion.local import Local
from meow_lightning.inversion.prompt_template import PromptTemplate
from meow_lightning.models.load import load_tokenizer
from meow_lightning.types import Fact

ROOT = Path(__file__).resolve().parents[2]
TEXTS = yaml.safe_load((ROOT / "conf/inversion/prompt/contradict.yaml").read_text(encoding="utf-8"))
PEOPLE = ("Ada Moor", "Ben Castle", "Cora Lind", "Dag Holm", "Ewa Nowak", "Finn Berg", "Gita Rao", "Hugo Sand")
TOWNS = ("Lima", "Oslo", "Rome", "Cairo", "Quito", "Delhi", "Paris", "Turin", "Bern", "Graz", "Lyon", "Kyoto")
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is Ada?"}]


def fact(number: int) -> Fact:
    who = PEOPLE[number]
    return Fact(id=f"f{number}", question=f"Where was {who} born?", answer=f"{who} was born in {TOWNS[number]}.")


def reply(number: int) -> str:
    towns = [(TOWNS[(number * 3 + line + 1) % 12], TOWNS[(number + 2 * line + 5) % 12]) for line in range(4)]
    return "\n".join(f"{PEOPLE[number]} was born in {town} near {other}." for town, other in towns)


def ask(number: int, *, attempt: int = 0, count: int | None = 4, said: str | None = None) -> GenerationRequest:
    return GenerationRequest(fact=fact(number), attempt=attempt, count=count, previous_answers=(), model_answer=said)


ASKS = [ask(number) for number in range(8)]
UNEVEN = [ask(number, said="Nobody knows where that was. " * (number * 5 % 8)) for number in range(8)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompt = PromptTemplate(**TEXTS)
    pairs = [(prompt.messages(each, context=None), reply(number)) for number, each in enumerate(ASKS)]
    return teacher(tmp_path_factory.mktemp("teacher"), pairs=pairs)


class Rooms:
    """Gives rooms of so many slots and remembers what was said; ``prepare`` may do something to the model first."""

    def __init__(self, slots: int, prepare: Any = None) -> None:
        self.slots, self.prepare = slots, prepare
        self.models: list[Any] = []
        self.sizes: list[dict[str, int]] = []
        self.notes: list[str] = []

    def __call__(self, model: Any, **sizes: int) -> AdaptiveBatchSize:
        if self.prepare is not None and not self.models:
            self.prepare(model)
        self.models.append(model)
        self.sizes.append(sizes)
        return AdaptiveBatchSize(self.slots, note=self.notes.append)


def local(folder: Path, **changes: Any) -> Local:
    options: dict[str, Any] = {
        "model": "someone/teacher", "dtype": "float32", "attention": "sdpa", "prompt": TEXTS, "candidates": 4,
        "context": None, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 120, "seed": 1, "folder": folder,
        "device": "cpu", "adaptive_batch_size": Rooms(8),
    }  # fmt: skip
    return Local(**{**options, **changes})


def no_facts() -> Sequence[Fact]:
    raise AssertionError("read the others")


def written(writer: Local, asks: Sequence[GenerationRequest]) -> dict[str, GenerationResponse]:
    replies = list(writer.write(asks, load_facts=no_facts, should_continue=lambda: True))
    found = {each.fact: each for each in replies}
    assert len(found) == len(replies)
    return found


def copied(folder: Path, to: Path, **changes: dict[str, Any]) -> Path:
    """A copy of a model folder with some entries of its JSON files changed."""
    shutil.copytree(folder, to)
    for name, entries in changes.items():
        file = to / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return to


# ---------------------------------------------------------------------------------------------------------- the draw

DTYPES = (torch.float32, torch.bfloat16, torch.float64)
LOGITS = torch.tensor([0.1, 0.4, 0.3, 0.2]).log()


@pytest.mark.parametrize(
    ("temperature", "top_p", "uniform", "expected"),
    [
        # running sums by id: .1 .5 .8 1
        (1.0, 1.0, (0.0, 0.09, 0.11, 0.49, 0.51, 0.79, 0.81, 0.9999), (0, 0, 1, 1, 2, 2, 3, 3)),
        # tokens 1 and 2 make up .7: sums 0 .4 .7 .7, so that token 2 begins at 4/7 = .571
        (1.0, 0.65, (0.0, 0.57, 0.58, 0.9999), (1, 1, 2, 2)),
        # with token 3: sums 0 .4 .7 .9; borders 4/9 = .444 and 7/9 = .778
        (1.0, 0.75, (0.44, 0.45, 0.77, 0.78), (1, 2, 2, 3)),
        (1.0, 0.3, (0.0, 0.9999), (1, 1)),  # the likeliest one always stays
        # squares .01 .16 .09 .04 of .3: borders .0333 .5667 .8667
        (0.5, 1.0, (0.03, 0.04, 0.56, 0.57, 0.86, 0.87), (0, 1, 1, 2, 2, 3)),
        # the temperature acts before the cut: of the squares token 1 alone has .533
        (0.5, 0.5, (0.0, 0.9999), (1, 1)),
        (0.0, 1.0, (0.0, 0.9999), (1, 1)),
    ],
)
def test_the_draw_is_the_inverse_of_the_distribution_function(
    temperature: float, top_p: float, uniform: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    logits = (LOGITS + 7.0).expand(len(uniform), 4)
    found = sample_tokens(logits, torch.tensor(uniform, dtype=torch.float64), temperature=temperature, top_p=top_p)
    assert found.tolist() == [*expected]


def test_only_the_likeliest_1024_tokens_are_drawn() -> None:
    logits = -1e-3 * torch.arange(1500.0)[None]
    assert sample_tokens(
        logits, torch.tensor([1 - 1e-9], dtype=torch.float64), temperature=1.0, top_p=1.0
    ).tolist() == [1023]


def test_probabilities_are_float32_whatever_the_logits_are() -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)).bfloat16()
    uniform = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    for row in logits:
        found = [sample_tokens(row.to(dtype).expand(50, -1), uniform, temperature=0.7, top_p=0.9) for dtype in DTYPES]
        assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def test_rounding_that_swaps_two_equal_tokens_changes_no_draw() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0000002, 0.0], [1.0, 2.0000002, 2.0, 0.0]])
    for uniform in (0.2, 0.4, 0.6, 0.8):
        one, other = sample_tokens(logits, torch.tensor([uniform] * 2, dtype=torch.float64), temperature=1.0, top_p=1.0)
        assert one == other


def test_every_row_has_numbers_of_its_own_one_per_step() -> None:
    draws = Draws(rng=[random.Random("a"), random.Random("b")], width=3, budget=2, temperature=1.0, top_p=1.0)
    rng = [random.Random("a"), random.Random("b")]
    scores = torch.zeros(2, 1000)
    for step in range(2):
        left = draws(torch.zeros(2, 3 + step, dtype=torch.long), scores)
        assert left.isfinite().sum(-1).tolist() == [1, 1]
        assert left.argmax(-1).tolist() == [int(each.random() * 1000) for each in rng]
    draws(torch.zeros(2, 5, dtype=torch.long), scores)  # a step that generate throws away


# --------------------------------------------------------------------------------------------------------- replies


def test_the_likeliest_reply_is_what_was_learned(folder: Path) -> None:
    rooms = Rooms(8)
    found = written(local(folder, adaptive_batch_size=rooms), ASKS)
    tokenizer = load_tokenizer(folder)
    for number in range(8):
        messages = PromptTemplate(**TEXTS).messages(ASKS[number], context=None)
        asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert found[f"f{number}"] == GenerationResponse(
            fact=f"f{number}", attempt=0, text=reply(number), prompt_tokens=len(asked),
            completion_tokens=len(tokenizer(reply(number)).input_ids) + 1,  # the end token is written too
        )  # fmt: skip
    assert rooms.sizes == [{"tokens": max(each.prompt_tokens for each in found.values()), "generated": 120}]


def test_a_little_warmth_leaves_most_of_what_was_learned(folder: Path) -> None:
    found = written(local(folder, temperature=0.5), ASKS)
    assert sum(found[f"f{number}"].text == reply(number) for number in range(8)) >= 6


def test_a_reply_does_not_depend_on_what_is_written_beside_it(folder: Path) -> None:
    hot = {"temperature": 3.0, "max_new_tokens": 40}
    alone = written(local(folder, adaptive_batch_size=Rooms(1), **hot), UNEVEN)
    assert len({each.text for each in alone.values()}) == len({each.prompt_tokens for each in alone.values()}) == 8
    assert {each.cut for each in alone.values()} == {True, False}  # rows end at different times
    for slots, asks in ((3, UNEVEN), (8, UNEVEN[::-1]), (3, [*UNEVEN[5:], *UNEVEN[:5]])):
        assert written(local(folder, adaptive_batch_size=Rooms(slots), **hot), asks) == alone


def test_another_attempt_and_another_seed_are_other_draws(folder: Path) -> None:
    writer = local(folder, temperature=3.0, max_new_tokens=20)
    first = written(writer, ASKS[:3])
    assert written(writer, ASKS[:3]) == first
    again = written(writer, [ask(number, attempt=1) for number in range(3)])
    assert {each.attempt for each in again.values()} == {1}
    other = written(local(folder, temperature=3.0, max_new_tokens=20, seed=2), ASKS[:3])
    for name in first:
        assert len({first[name].text, again[name].text, other[name].text}) == 3


def test_a_narrow_share_of_the_probability_is_nearly_greedy(folder: Path) -> None:
    found = written(local(folder, temperature=1.0, top_p=0.01), ASKS[:2])
    assert [found[f"f{number}"].text for number in range(2)] == [reply(0), reply(1)]


def test_a_spent_budget_cuts_the_reply(folder: Path) -> None:
    found = written(local(folder, max_new_tokens=5), ASKS[:2])
    for number in range(2):
        said = found[f"f{number}"]
        assert (said.cut, said.completion_tokens) == (True, 5)
        assert said.text and reply(number).startswith(said.text) and said.text != reply(number)


def test_a_question_without_a_count_asks_for_the_candidates(folder: Path) -> None:
    assert written(local(folder), [ask(2, count=None)]) == written(local(folder), [ask(2)])
    number = {"prompt": {**TEXTS, "system": "{count}" * 9}, "max_new_tokens": 1}
    one = written(local(folder, candidates=1, **number), [ask(2, count=None)])["f2"]
    more = written(local(folder, candidates=1000000, **number), [ask(2, count=None)])["f2"]
    assert more.prompt_tokens > one.prompt_tokens


def test_the_context_is_reported(folder: Path) -> None:
    told = written(local(folder, context="They were all born in towns.", max_new_tokens=1), ASKS[:1])["f0"]
    assert told.prompt_tokens > written(local(folder, max_new_tokens=1), ASKS[:1])["f0"].prompt_tokens


def test_the_model_is_loaded_once(folder: Path) -> None:
    rooms = Rooms(4)
    writer = local(folder, adaptive_batch_size=rooms)
    assert [*writer.write([], load_facts=no_facts, should_continue=lambda: True)] == []
    assert rooms.models == []
    written(writer, ASKS[:1])
    written(writer, ASKS[1:2])
    assert rooms.models[0] is rooms.models[1]
    assert not rooms.models[0].training


def test_the_longest_prompts_come_first(folder: Path) -> None:
    replies = local(folder, max_new_tokens=1, adaptive_batch_size=Rooms(3)).write(
        UNEVEN, load_facts=no_facts, should_continue=lambda: True
    )
    sizes = [each.prompt_tokens for each in replies]
    assert sizes == sorted(sizes, reverse=True)


def test_after_a_stop_only_the_batch_in_progress_arrives(folder: Path) -> None:
    for allowed, expected in ((0, 0), (1, 3), (2, 6), (9, 8)):
        answers = iter([True] * allowed + [False] * 9)
        writer = local(folder, max_new_tokens=2, adaptive_batch_size=Rooms(3))
        assert len([*writer.write(ASKS, load_facts=no_facts, should_continue=answers.__next__)]) == expected


# ------------------------------------------------------------------------------------------- what the folder holds


def test_generation_settings_of_a_checkpoint_have_no_effect(folder: Path, tmp_path: Path) -> None:
    word = load_tokenizer(folder)(" born", add_special_tokens=False).input_ids
    shipped = copied(
        folder, tmp_path / "penalties",
        generation_config={
            "repetition_penalty": 5.0, "do_sample": True, "temperature": 9.0, "top_k": 1, "top_p": 0.1,
            "no_repeat_ngram_size": 2, "bad_words_ids": [word], "min_new_tokens": 110, "max_length": 20,
            "num_beams": 2, "use_cache": False,
        },
    )  # fmt: skip
    for options in ({}, {"temperature": 3.0, "max_new_tokens": 15}):
        assert written(local(shipped, **options), ASKS[:3]) == written(local(folder, **options), ASKS[:3])


def test_any_end_token_of_the_checkpoint_ends_a_reply(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")]
    several = copied(folder, tmp_path / "ends", generation_config={"eos_token_id": ends})

    def turn(model: Any) -> None:
        """The tokens of the turns change places: the end token is said no more, and <|user|> is."""
        rows = model.lm_head.weight.data.clone()
        rows[ends] = rows[ends[::-1]]
        model.lm_head.weight = torch.nn.Parameter(rows)
        model.register_forward_pre_hook(lambda *_: passes.append(1))

    passes: list[int] = []
    found = written(local(several, adaptive_batch_size=Rooms(2, turn)), ASKS[:2])
    assert len(passes) < 5 + max(each.completion_tokens for each in found.values()) < 120  # the trial's are among them
    assert [(found[f"f{number}"].text, found[f"f{number}"].cut) for number in range(2)] == [
        (reply(0), False), (reply(1), False),
    ]  # fmt: skip


def test_without_a_chat_template_the_chat_is_one_text(folder: Path, tmp_path: Path) -> None:
    plain = copied(folder, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(plain)
    found = written(local(plain, max_new_tokens=3), ASKS[:1])["f0"]
    system, user = (turn["content"] for turn in PromptTemplate(**TEXTS).messages(ASKS[0], context=None))
    assert found.prompt_tokens == len(tokenizer(f"{system}\n\n{user}\n\nAnswers:\n").input_ids)
    assert found.text


def test_a_prompt_that_leaves_no_room_is_refused(folder: Path, tmp_path: Path) -> None:
    sizes = {each.fact: each.prompt_tokens for each in written(local(folder, max_new_tokens=1), ASKS).values()}
    long = ask(3, said="Dag Holm was born in Rome. " * 6)
    needed = written(local(folder, max_new_tokens=1), [long])["f3"].prompt_tokens
    for left in (16, 15):
        short = copied(folder, tmp_path / str(left), config={"max_position_embeddings": needed + left})
        found = written(local(short, max_new_tokens=30, temperature=3.0), [long, ASKS[0], ASKS[1]])
        assert found["f0"] == written(local(folder, max_new_tokens=30, temperature=3.0), [ASKS[0]])["f0"]
        if left == 15:
            why = f"the prompt has {needed} tokens and the model's context {needed + 15}"
            assert found["f3"] == GenerationResponse(fact="f3", attempt=0, refused=why)
        else:
            assert found["f3"].refused == ""
            assert found["f3"].completion_tokens <= 16
            assert found["f3"].prompt_tokens == needed > sizes["f3"]


def test_a_stop_holds_for_refusals_too(folder: Path, tmp_path: Path) -> None:
    short = copied(folder, tmp_path / "short", config={"max_position_embeddings": 40})
    rooms = Rooms(3)
    writer = local(short, adaptive_batch_size=rooms)
    assert [*writer.write(ASKS, load_facts=no_facts, should_continue=lambda: False)] == []
    assert all(each.refused for each in written(writer, ASKS).values())
    assert rooms.sizes == []  # nothing was left to write


def test_memory_that_runs_out_halves_the_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 8)

    def narrow(model: Any) -> None:
        def refuse(_: Any, args: Any, given: dict[str, Any]) -> None:
            rows = len(given["input_ids"])
            widths.append(rows)
            if rows > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")

        model.register_forward_pre_hook(refuse, with_kwargs=True)

    widths: list[int] = []
    rooms = Rooms(8, narrow)
    hot = {"temperature": 3.0, "max_new_tokens": 10}
    assert written(local(folder, adaptive_batch_size=rooms, **hot), ASKS) == written(local(folder, **hot), ASKS)
    assert rooms.notes == [
        "memory ran out with 8 prompts per batch; continued with 4",
        "memory ran out with 4 prompts per batch; continued with 2",
    ]
    assert widths.count(8) == widths.count(4) == 1


@pytest.mark.parametrize(
    ("size", "count", "seconds", "following"),
    [
        (4, 4, 19.9, 8),  # fast: twice as many
        (4, 3, 0.1, 4),  # there were no more of that length: it says nothing about four
        (4, 4, 20.0, 4),
        (4, 4, 90.0, 4),
        (4, 4, 90.1, 2),  # slow: half as many, of those that were there
        (8, 3, 300.0, 1),
        (1, 1, 300.0, 1),
    ],
)
def test_batches_follow_the_time_they_take(size: int, count: int, seconds: float, following: int) -> None:
    assert local_model.next_size(size, count, seconds=seconds) == following


def test_twelve_facts_of_a_slow_teacher_come_a_few_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve questions a killed run used to lose all, since one batch held them."""
    clock = iter(range(0, 10_000, 100))  # every look at it is 100 seconds later
    monkeypatch.setattr(local_model.time, "monotonic", lambda: next(clock))
    asks = [ask(number, attempt=attempt) for number in range(4) for attempt in range(3)]
    left: list[int] = []
    replies = local(folder, max_new_tokens=2, adaptive_batch_size=Rooms(256)).write(
        asks, load_facts=no_facts, should_continue=lambda: left.append(12 - len(came)) or True
    )
    came: list[GenerationResponse] = []
    for each in replies:
        came.append(each)
    assert left == [12, 8, 6, 5, 4, 3, 2, 1]


def test_a_model_that_takes_no_padding_is_queried_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meow_lightning.generation.capabilities.supports_padding", lambda *_, **__: False)
    widths: set[int] = set()

    def watch(model: Any) -> None:
        model.register_forward_pre_hook(
            lambda _, args, given: widths.add(len(given["input_ids"])), with_kwargs=True
        )  # fmt: skip

    found = written(local(folder, max_new_tokens=2, adaptive_batch_size=Rooms(8, watch)), ASKS)
    assert (len(found), widths) == (8, {1})


def test_half_the_width_writes_too(folder: Path) -> None:
    rooms = Rooms(8)
    found = written(local(folder, dtype="bfloat16", adaptive_batch_size=rooms), ASKS)
    assert rooms.models[0].dtype == torch.bfloat16
    assert sum(found[f"f{number}"].text == reply(number) for number in range(8)) >= 6


def test_logits_that_are_no_numbers_end_it(folder: Path) -> None:
    def broken(model: Any) -> None:
        model.lm_head.weight.data[3] = float("nan")

    for temperature in (0.0, 0.9):
        with pytest.raises(UserError, match=r"logits are not finite in float32; set inversion.dtype=bfloat16 or"):
            written(local(folder, temperature=temperature, adaptive_batch_size=Rooms(2, broken)), ASKS[:1])


# -------------------------------------------------------------------------------------------------- chat templates


def codec(tokenizer: Any) -> PromptEncoder:
    return PromptEncoder(
        tokenizer=tokenizer,
        template="{question}",
        answer_prefix="",
        system=None,
        date=None,
        context=512,
        end_ids=frozenset(),
    )


def test_there_is_one_begin_token_with_a_template_and_without(tmp_path: Path) -> None:
    for name in ("llama2_7b_chat", "llama3_2_1b_instruct"):
        tokenizer = load_tokenizer(save_family(name, tmp_path / name, texts=["Be brief. Who is Ada?"]))
        assert (tokenizer.chat_template is None) == (name == "llama2_7b_chat")
        ids = prompt_ids(codec(tokenizer), CHAT, folded=False, heading="Answers:")
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id


TURNS = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ date_string }}|" + TURNS,
        "{{ strftime_now('%d %b %Y') }}|" + TURNS,
        "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}{{ day }}|" + TURNS,
    ],
)
def test_the_day_does_not_show(tokenizer: Any, template: str) -> None:
    chat = with_template(tokenizer, template)
    assert render_chat(chat, CHAT) == f"{DATE}|[system] Be brief.\n[user] Who is Ada?\n"


def test_a_date_in_other_words_is_the_same_day(tokenizer: Any) -> None:
    chat = with_template(tokenizer, "{{ strftime_now('%A, %Y-%m-%d %H:%M') }}" + TURNS)
    assert render_chat(chat, CHAT).startswith("Friday, 2024-07-26 12:00[system]")


def test_thinking_aloud_is_switched_off(tokenizer: Any) -> None:
    chat = with_template(tokenizer, TURNS + "{% if enable_thinking is defined and not enable_thinking %}<>{% endif %}")
    assert render_chat(chat, CHAT).endswith("Who is Ada?\n<>")


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TURNS,
        "{% for turn in messages %}{% if turn.role == 'user' %}[user] {{ turn.content }}\n{% endif %}{% endfor %}",
    ],
    ids=["refused", "left out"],
)
def test_without_system_turns_its_words_go_before_the_users(tokenizer: Any, template: str) -> None:
    chat = with_template(tokenizer, template)
    assert folds_system(chat)
    ids = prompt_ids(codec(chat), CHAT, folded=True, heading="Answers:")
    assert chat.decode(ids) == "[user] Be brief.\n\nWho is Ada?\n"


def test_with_system_turns_they_stay(tokenizer: Any) -> None:
    assert not folds_system(with_template(tokenizer, TURNS))
    assert not folds_system(with_template(tokenizer, None))


def test_a_folder_whose_template_refuses_system_turns_is_queried_all_the_same(folder: Path, tmp_path: Path) -> None:
    strict = copied(folder, tmp_path / "strict")
    file = strict / "chat_template.jinja"
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    file.write_text(refusing + file.read_text())
    assert written(local(strict, max_new_tokens=3), ASKS[:1])["f0"].text


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('pictures only') }}", "pictures only"),
        ("hello", "its output does not contain the question"),
    ],
)
def test_a_template_that_takes_no_question_is_refused(folder: Path, tmp_path: Path, template: str, why: str) -> None:
    odd = copied(folder, tmp_path / "odd")
    (odd / "chat_template.jinja").write_text(template)
    match = rf"inversion.model=someone/teacher: its chat template accepts no user question \({why}\); use"
    with pytest.raises(UserError, match=match):
        written(local(odd), ASKS[:1])


def with_template(tokenizer: Any, template: str | None) -> Any:
    import copy

    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dtype": "fp16"}, r"^inversion.dtype=fp16 is invalid: expected one of float32, float64, bfloat16, float16"),
        ({"candidates": 0}, r"^inversion.candidates=0 is invalid: expected a number from 1 to "),
        ({"candidates": 1.5}, r"^inversion.candidates=1.5 is invalid"),
        ({"max_new_tokens": 0}, r"^inversion.max_new_tokens=0 is invalid: expected a number from 1 to "),
        ({"temperature": -0.1}, r"^inversion.temperature=-0.1 is invalid: expected a number from 0.001 to 100, or 0"),
        ({"temperature": float("inf")}, r"^inversion.temperature=inf is invalid"),
        ({"temperature": float("nan")}, r"^inversion.temperature=nan is invalid"),
        (
            {"top_p": 0.0},
            r"^inversion.top_p=0.0 is invalid: expected a number above 0 and at most 1$",
        ),
        ({"top_p": 1.1}, r"^inversion.top_p=1.1 is invalid"),
        ({"prompt": {**TEXTS, "user": "Why?"}}, r"inversion.prompt.user must contain \{question\}"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        local(Path("nowhere"), **options)


def test_borders_of_the_ranges_are_allowed() -> None:
    local(Path("nowhere"), candidates=1, max_new_tokens=1, temperature=0, top_p=1)


def test_a_model_that_cannot_be_loaded_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"inversion.model=someone/teacher: the folder .* does not exist; create or download"
    ):
        written(local(tmp_path / "gone"), ASKS[:1])
    with pytest.raises(UserError, match=r"inversion.model=someone/teacher: .*with inversion.attention=warp: "):
        written(local(folder, attention="warp"), ASKS[:1])
    bare = copied(folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"inversion.model=someone/teacher: .*model.safetensors"):
        written(local(bare), ASKS[:1])


def test_class_attributes_that_the_pipeline_reads() -> None:
    assert (Local.unkeyed_options, Local.runs_locally, Local.can_retry) == (("model",), True, True)
    made = local(Path("nowhere"))
    assert (made.max_requests, made.max_total_tokens) == (None, None)


def test_importing_it_waits_for_no_heavy_library() -> None:
    code = (
        "import sys, meow_lightning.inversion.local, meow_lightning.generation.sampling\n"
        "sys.exit(int(bool({'torch', 'transformers'} & sys.modules.keys())))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
