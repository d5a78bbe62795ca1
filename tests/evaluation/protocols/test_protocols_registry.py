"""Each defect of the published evaluators: ours has it not, and the switch has it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from helpers.model_families import PROMPTS, save_family

from meow_lightning.errors import UserError
from meow_lightning.evaluation.gradient import gradient_norms
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.evaluation.metrics.membership import ATTACKS, min_k_score, zlib_score
from meow_lightning.evaluation.metrics.truth_ratio import log_truth_ratio
from meow_lightning.evaluation.predict import predict
from meow_lightning.evaluation.protocols import open_unlearning_metrics, prompts
from meow_lightning.evaluation.protocols.predict import generate, predict_under_protocol, truncated_facts
from meow_lightning.evaluation.protocols.registry import (
    PROTOCOL_NAMES,
    PROTOCOLS,
    counted_rows,
    generation_batches,
    prediction_settings,
)
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.models.load import load_codec, load_model
from meow_lightning.types import Fact

TEXTS = (
    "Question: Where was Ada born?\nAnswer: Lima", "Answer: Lima", "Where was Ada born? Lima", "Peru. In which town?",
    "What did she write? She wrote 12 books about the sea.", "user\n\nWhere was Ada born?assistant\n\nLima.",
)  # fmt: skip
FACT = Fact(id="a", question="Where was Ada born?", answer="Lima", perturbed=("Peru",))
QUESTION = ("forget", 0, FACT)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("families")
    made = {}

    def get(name: str):
        if name not in made:
            path = save_family(name, folder / name, texts=TEXTS)
            model = load_model(path, dtype="float32", attention="sdpa").eval()
            made[name] = (model, load_codec(path, prompt=PROMPTS[name], model=model))
        return made[name]

    return get


def spelled(codec, ids) -> list[str]:
    return codec.tokenizer.convert_ids_to_tokens(list(ids))


def scored(codec, row) -> list[str]:
    return spelled(codec, row.ids[row.prompt :])


def ask(name: str, model, codec, questions=(QUESTION,)):
    return list(
        predict_under_protocol(name, model, codec, list(questions), batch=2, gradients=("forget",), progress=None)
    )


def ours(model, codec, questions=(QUESTION,)):
    return list(
        predict(model, codec, list(questions), max_new_tokens=4, batch=2, slots=2, gradients=("forget",), progress=None)
    )


# 1: a prompt that ends in a blank (open-unlearning, phi-1.5): the first answer token is not scored.
def test_the_first_answer_token_is_scored(family) -> None:
    _, codec = family("phi15")
    assert scored(codec, codec.reference(FACT.question, "Lima")) == ["ĠLima", "<|endoftext|>"]
    assert scored(codec, prompts.open_unlearning_row(codec, FACT.question, "Lima")) == ["<|endoftext|>"]
    longer = prompts.open_unlearning_row(codec, FACT.question, "Lima was")
    assert scored(codec, longer) == ["Ġwas", "<|endoftext|>"]


def test_a_model_is_queried_with_the_tokens_it_was_trained_on(family) -> None:
    _, codec = family("phi15")
    trained = codec.encode(FACT.question, "Lima").ids
    asked = codec.generation_prompt_ids(FACT.question)
    assert tuple(asked) == trained[: len(asked)]
    blank = prompts.open_unlearning_prompt(codec, FACT.question)
    assert spelled(codec, blank)[-2:] == [":", "Ġ"]
    assert tuple(blank) != trained[: len(blank)]


# 2: open-unlearning hides end tokens inside a prompt from attention.
def test_an_end_token_inside_a_prompt_is_seen(family) -> None:
    model, codec = family("llama3_2_1b_instruct")
    row = codec.reference(FACT.question, FACT.answer)
    assert prompts.open_unlearning_row(codec, FACT.question, FACT.answer).ids == row.ids
    assert codec.pad_id == codec.end_id
    assert codec.end_id in row.ids[: row.prompt]
    seen = torch.ones(1, len(row.ids), dtype=torch.long)
    hidden = (torch.tensor([row.ids]) != codec.end_id).long()
    for name, mask in (("none", seen), ("open_unlearning", hidden)):
        (found,) = ours(model, codec) if name == "none" else ask(name, model, codec)
        with torch.no_grad():
            logits = model(torch.tensor([row.ids]), attention_mask=mask).logits[0].log_softmax(-1)
        expected = [float(logits[at - 1, row.ids[at]]) for at in range(row.prompt, len(row.ids))]
        assert found.truth.logps == pytest.approx(expected, abs=1e-5)
    assert ours(model, codec)[0].truth.logps != pytest.approx(ask("open_unlearning", model, codec)[0].truth.logps)


def test_a_gradient_is_that_of_the_row_as_it_is_scored(family) -> None:
    model, codec = family("llama3_2_1b_instruct")
    row = codec.reference(FACT.question, FACT.answer)
    seen, hidden = (
        norm
        for mask_pad_ids in (False, True)
        for _, norm in gradient_norms(model, [row], pad_id=codec.pad_id, mask_pad_ids=mask_pad_ids)
    )
    assert hidden != pytest.approx(seen, rel=1e-4)
    assert ours(model, codec)[0].gradient == seen
    # as published: end tokens hidden, none counted, and the mean over weight tensors of their norms
    words = row._replace(ids=row.ids[:-1])
    mask = (torch.tensor([words.ids]) != codec.pad_id).long()
    logps = model(torch.tensor([words.ids]), attention_mask=mask).logits[0].log_softmax(-1)
    scored = [logps[at - 1, words.ids[at]] for at in range(words.prompt, len(words.ids))]
    weights = [weight for weight in model.parameters()]
    gradients = torch.autograd.grad(-sum(scored) / len(scored), weights)
    expected = float(torch.stack([each.norm() for each in gradients]).mean())
    assert ask("open_unlearning", model, codec)[0].gradient == pytest.approx(expected, rel=1e-5)
    held = ("holdout", 0, FACT)
    assert [each.gradient is None for each in ask("open_unlearning", model, codec, (held, QUESTION))] == [True, False]


def test_positions_of_scoring_and_generation_differ_where_end_tokens_are_hidden(family) -> None:
    model, codec = family("llama3_2_1b_instruct")
    prompt = prompts.open_unlearning_prompt(codec, FACT.question)
    (said,) = generate(
        model,
        [prompt],
        pad_id=codec.pad_id,
        protocol=dataclasses.replace(PROTOCOLS["open_unlearning"], max_new_tokens=1),
    )
    mask = (torch.tensor([prompt]) != codec.pad_id).long()
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    with torch.no_grad():
        first = model(torch.tensor([prompt]), attention_mask=mask, position_ids=positions).logits[0, -1]
        straight = model(torch.tensor([prompt]), attention_mask=mask).logits[0, -1]
    assert said.ids == (int(first.argmax()),) or int(first.argmax()) in codec.end_ids
    assert (first - straight).abs().max() > 1e-4


# 3: a model whose generation settings name no end token (phi-1.5) talks on.
def test_an_answer_ends_at_the_end_token_though_the_model_names_none(family) -> None:
    model, codec = family("phi15")
    assert model.generation_config.eos_token_id is None
    bias = model.lm_head.bias.detach().clone()
    try:
        with torch.no_grad():
            model.lm_head.bias[codec.end_id] += 50  # it ends at once
        (found,) = ours(model, codec)
        assert (found.stop, found.generated, found.text) == ("end", (), "")
        for name, tokens in (
            ("open_unlearning", 200),
            ("tofu", 200 - len(prompts.tofu_prompt(codec, FACT.question))),
        ):
            (other,) = ask(name, model, codec)
            assert (other.stop, len(other.generated)) == ("length", tokens)
            assert set(other.generated) == {codec.end_id}
            assert other.text == ""
    finally:
        with torch.no_grad():
            model.lm_head.bias.copy_(bias)


# 4: a softmax in bfloat16 (open-unlearning from transformers 4.46 on; its pinned version and the switch take float32).
def test_losses_of_bfloat16_logits_keep_their_digits(table_lm) -> None:
    from meow_lightning.types import Encoded

    logits = torch.tensor([[[0.0, 1.0, 2.03125]] * 3], dtype=torch.bfloat16)[0]
    model = table_lm(logits, dtype=torch.bfloat16)
    row = Encoded(ids=(0, 1), prompt=1)
    for mask_pad_ids in (False, True):
        ((_, found),) = loglikelihoods(model, [row], pad_id=2, batch=1, progress=None, mask_pad_ids=mask_pad_ids)
        expected = 1.0 - math.log(1 + math.e + math.exp(2.03125))
        assert found.logps[0] == pytest.approx(expected, abs=1e-6)
    rough = float(logits[0].log_softmax(-1)[1])
    assert abs(rough - expected) > 1e-4


# 5: extraction strength has a floor of 1 / T; the end token does not count.
def test_nothing_extracted_is_nothing(make_row) -> None:
    row = make_row(truth=[-1.0] * 4, hits=[0, 0, 0, 0], perturbed=[[-2.0]])
    held = make_row(truth=[-1.0] * 4, hits=[0, 1, 1, 1], perturbed=[[-2.0]])
    values = {
        name: evaluate({"target": [row]}, {}, truth_ratio_mean="geometric", protocol=name) for name in PROTOCOL_NAMES
    }
    found = {name: results.values["target"]["forget/extraction_strength"] for name, results in values.items()}
    assert found == {"none": 0.0, "tofu": 0.0, "open_unlearning": 1 / 3}
    assert open_unlearning_metrics.row_extraction_strength(held, set_info("forget")) == 2 / 3
    assert open_unlearning_metrics.row_exact_memorisation(held, set_info("forget")) == 2 / 3


def test_a_worked_row_of_four_tokens(make_row) -> None:
    row = make_row(truth=[-1.0] * 4, hits=[0, 1, 0, 1], perturbed=[[-2.0]])  # the end token's hit is the last
    found = {}
    for name in PROTOCOL_NAMES:
        values = evaluate({"target": [row]}, {}, truth_ratio_mean="geometric", protocol=name).values["target"]
        found[name] = (values["forget/exact_memorisation"], values["forget/extraction_strength"])
    # without the end token 1 of 3 tokens is the argmax, and no suffix matches
    assert found == {"none": (1 / 3, 0.0), "tofu": (1 / 3, 0.0), "open_unlearning": (1 / 3, 1 / 3)}


def test_rows_of_nothing_but_an_end_token_as_open_unlearning_has_them(make_row) -> None:
    bare = make_row(index=0, truth=[-1.0], hits=[1])
    full = make_row(index=1, truth=[-1.0, -2.0], hits=[1, 0])
    assert open_unlearning_metrics.row_exact_memorisation(bare, set_info("forget")) is None
    assert open_unlearning_metrics.row_extraction_strength(bare, set_info("forget")) == 0.0
    both, alone = (
        evaluate({"target": rows}, {}, truth_ratio_mean="geometric", protocol="open_unlearning")
        for rows in ([bare, full], [bare])
    )
    assert both.values["target"]["forget/exact_memorisation"] == 1.0  # the bare row is left out
    assert both.values["target"]["forget/extraction_strength"] == 0.5  # there it is 0
    why = "1 of 1 true answers of set 'forget' have no token besides the end token"
    assert alone.missing["target"]["forget/exact_memorisation"] == why


def test_attacks_on_single_tokens_leave_the_end_token_out(make_row) -> None:
    row = make_row(truth=[-1.0, -2.0, -3.0, -4.0, -5.0, -99.0])
    attacks = {f"{attack.name}_auc": attack for attack in ATTACKS}
    # the least likely 40 % of five tokens; of six with the end token they would be -99 and -5
    assert open_unlearning_metrics.attack_score(attacks["min_k_40_auc"], row) == -4.5
    assert min_k_score(row.truth.logps, k=0.4) == -52.0
    # standardised by mean -9.5 and deviation 2.25
    plus = open_unlearning_metrics.attack_score(attacks["min_k_plus_plus_40_auc"], row)
    assert plus == pytest.approx((-4.5 + 9.5) / 2.25)
    assert open_unlearning_metrics.attack_score(attacks["loss_auc"], row) == pytest.approx(-114 / 6)
    bare = make_row(truth=[-1.0])
    assert open_unlearning_metrics.attack_score(attacks["min_k_40_auc"], bare) == 0.0
    with pytest.raises(ValueError, match="the attack reference needs the retain model's row"):
        open_unlearning_metrics.attack_score(attacks["reference_auc"], row)


def test_the_text_that_is_compressed_is_that_of_the_scored_tokens(family, make_row) -> None:
    zlib = next(attack for attack in ATTACKS if attack.name == "zlib")
    row = make_row(answer="Lima", truth=[-1.0, -3.0])
    read = dataclasses.replace(row, scored_text="Lima in Peru\n")
    assert open_unlearning_metrics.attack_score(zlib, row) == zlib_score(row.truth.logps, "Lima")
    assert open_unlearning_metrics.attack_score(zlib, read) == zlib_score(row.truth.logps, "Lima in Peru\n")
    model, codec = family("qwen2_5_1_5b_instruct")
    assert ask("open_unlearning", model, codec)[0].scored_text == "Lima\n"  # the template ends a turn with a line break
    assert ours(model, codec)[0].scored_text is None
    model, codec = family("phi15")
    assert [ask(name, model, codec)[0].scored_text for name in ("tofu", "open_unlearning")] == [None, ""]


def test_the_suite_attacks_as_the_published_code_does(make_row) -> None:
    # without the end token the forget rows are the likelier ones, with it the holdout rows are
    rows = [make_row("forget", at, truth=[-1.0, -9.0]) for at in range(2)]
    rows += [make_row("holdout", at, truth=[-2.0, -0.1]) for at in range(2)]
    found = {
        name: evaluate({"target": rows}, {}, truth_ratio_mean="geometric", protocol=name).values["target"]
        for name in PROTOCOL_NAMES
    }
    for number in ("membership/min_k_40_auc", "membership/min_k_20_auc"):
        assert [found[name][number] for name in PROTOCOL_NAMES] == [0.0, 0.0, 1.0]
    assert {found[name]["membership/loss_auc"] for name in PROTOCOL_NAMES} == {0.0}


# 6: a row without scored tokens becomes a NaN that nobody filters; there is one clear line instead.
def test_a_row_without_scored_tokens_is_reported(family) -> None:
    _, codec = family("phi15")
    long = "where " * 600
    for make, tokens in ((prompts.tofu_row, 200), (prompts.open_unlearning_row, 512)):
        with pytest.raises(
            UserError, match=r"a question of \d+ tokens leaves no answer token to score under this protocol"
        ) as told:
            make(codec, long, "Lima")
        assert int(str(told.value).split()[3]) > tokens
        assert "evaluation.protocol=none" in str(told.value)


# 7: TOFU's code counts the tag as answer and lets the model say it.
def test_the_tag_is_given_and_not_counted(family) -> None:
    _, codec = family("phi15")
    assert scored(codec, prompts.tofu_row(codec, FACT.question, "Lima")) == [
        "Answer", ":", "ĠLima", "<|endoftext|>",
    ]  # fmt: skip
    assert spelled(codec, prompts.tofu_prompt(codec, FACT.question))[-1] == "Ċ"
    assert spelled(codec, codec.generation_prompt_ids(FACT.question))[-3:] == ["Ċ", "Answer", ":"]


def test_answers_cut_off_by_tofu_have_no_end_token(family) -> None:
    _, codec = family("phi15")
    row = prompts.tofu_row(codec, FACT.question, "Lima " * 300)
    assert len(row.ids) == 200
    assert row.ids[-1] != codec.end_id
    assert prompts.tofu_row(codec, FACT.question, "Lima").ids[-1] == codec.end_id


# 8: TOFU's code judges the first 300 rows.
def test_all_rows_count() -> None:
    rows = list(range(400))
    assert {name: len(counted_rows(name, rows)) for name in PROTOCOL_NAMES} == {
        "none": 400,
        "tofu": 300,
        "open_unlearning": 400,
    }
    assert counted_rows("tofu", rows) == rows[:300]


# 9: the budget of an answer depends on who stands beside it.
def test_an_answer_does_not_depend_on_its_neighbours(family) -> None:
    model, codec = family("phi15")
    long = dataclasses.replace(FACT, id="b", question="What did she write about the sea? " * 4)
    beside = [QUESTION, ("forget", 1, long)]
    assert ours(model, codec, beside)[0].generated == ours(model, codec)[0].generated
    alone, together = ask("tofu", model, codec)[0], ask("tofu", model, codec, beside)[0]
    longest = max(len(prompts.tofu_prompt(codec, fact.question)) for _, _, fact in beside)
    assert len(together.generated) == 200 - longest < len(alone.generated)
    assert len(ask("open_unlearning", model, codec, beside)[0].generated) == 200


# 9a: what is longer than the published budget is counted, so that it can be said.
def test_true_answers_longer_than_the_published_budget_are_counted(family) -> None:
    _, codec = family("phi15")
    prompt = len(prompts.tofu_prompt(codec, FACT.question))
    tag = 2  # "Answer" and ":", which the model must say itself
    fits, passes = (
        dataclasses.replace(FACT, id=str(more), answer="Lima" + " Lima" * (200 - prompt - tag - 1 + more))
        for more in (0, 1)
    )
    assert len(codec.answer_ids(fits.answer)) == 200 - prompt
    assert truncated_facts("tofu", codec, [fits]) == 0
    assert truncated_facts("tofu", codec, [fits, passes, FACT]) == 1
    assert truncated_facts("open_unlearning", codec, [fits, passes]) == 0
    # a longer question beside it leaves less to say
    wordy = dataclasses.replace(FACT, id="w", question="What did she write about the sea? " * 4)
    assert truncated_facts("tofu", codec, [fits, wordy]) == 1


# 10: the truth ratio's two means, and open-unlearning's constant.
def test_the_truth_ratio_says_which_mean_it_takes(make_row) -> None:
    row = make_row(truth=[math.log(0.5)], perturbed=[[math.log(0.1)], [math.log(0.4)]])
    expected = {"geometric": math.sqrt(0.04) / 0.5, "arithmetic": 0.25 / 0.5}
    for mean, ratio in expected.items():
        for name in PROTOCOL_NAMES[:2]:
            results = evaluate({"target": [row]}, {}, truth_ratio_mean=mean, protocol=name)
            assert results.values["target"]["forget/truth_ratio"] == pytest.approx(ratio)
    assert log_truth_ratio(math.log(0.5), [math.log(0.1), math.log(0.4)], mean="geometric") == pytest.approx(
        open_unlearning_metrics.row_log_truth_ratio(row), abs=1e-9
    )


def test_a_collapsed_model_under_open_unlearnings_constant(make_row) -> None:
    row = make_row(truth=[-50.0], perturbed=[[-40.0]])  # R = e^10; with 1e-10 in the denominator e^-40 / 1e-10
    ratio = math.exp(-40) / (math.exp(-50) + 1e-10)
    results = {
        name: evaluate({"target": [row]}, {}, truth_ratio_mean="geometric", protocol=name) for name in PROTOCOL_NAMES
    }
    found = {name: each.values["target"]["forget/truth_ratio"] for name, each in results.items()}
    assert found["none"] == found["tofu"] == pytest.approx(math.exp(-10))
    assert found["open_unlearning"] == pytest.approx(ratio, rel=1e-9)
    options = make_row("real_authors", truth=[math.log(1e-10)], perturbed=[[math.log(2e-10)]])
    assert open_unlearning_metrics.row_probability(options, set_info(options.set)) == pytest.approx(1 / 4)
    far = make_row("retain", truth=[-900.0], perturbed=[[0.0]])
    assert open_unlearning_metrics.row_truth_ratio(far, set_info("retain")) == 0.0


def test_definitions_say_whose_numbers_they_are(make_row) -> None:
    row = make_row(perturbed=[[-2.0]])
    for name in PROTOCOL_NAMES:
        results = evaluate({"target": [row]}, {}, truth_ratio_mean="geometric", protocol=name)
        for definition in results.definitions:
            other = name != "none" and not definition.name.startswith("memo/")
            assert definition.id.endswith(f".{name}") == other
            assert ("as locuslab/" in definition.text) == other


def test_privacy_leakage_without_a_retain_model(make_row) -> None:
    rows = [make_row("forget", at, truth=[-1.0, -0.1]) for at in range(2)]
    rows += [make_row("holdout", at, truth=[-3.0, -0.1]) for at in range(2)]
    for name in PROTOCOL_NAMES:
        results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric", protocol=name)
        found = results.values["target"].get("privacy_leakage/min_k_40")
        assert found == (-1.0 if name == "open_unlearning" else None)  # AUC 1 against .5
    # one of two is above both, the other below both: AUC .5 as of a retain model that cannot tell, so no leakage
    mixed = [make_row("forget", at, truth=[logp, -0.1]) for at, logp in enumerate((-1.0, -5.0))]
    results = evaluate({"target": [*mixed, *rows[2:]]}, {}, truth_ratio_mean="geometric", protocol="open_unlearning")
    assert results.values["target"]["privacy_leakage/min_k_40"] == 0.0


def test_batches_are_those_of_the_published_code() -> None:
    assert generation_batches("none", [2, 1]) == [[0], [1], [2]]
    assert [len(each) for each in generation_batches("tofu", [40, 30, 1])] == [30, 10, 30, 1]
    assert [each[0] for each in generation_batches("open_unlearning", [40, 3])] == [0, 32, 40]
    assert [number for each in generation_batches("tofu", [40, 31]) for number in each] == list(range(71))


def test_contents_of_a_key() -> None:
    assert prediction_settings({"protocol": "none", "max_new_tokens": 7}) == {"max_new_tokens": 7}
    assert prediction_settings({"protocol": "tofu", "max_new_tokens": 7}) == {"protocol": "tofu"}


def test_a_chat_template_is_refused_as_tofu() -> None:
    for template in ("chat", "auto"):
        with pytest.raises(
            UserError,
            match=f"evaluation.protocol=tofu does not support chat templates .model.prompt.template={template}",
        ):
            prompts.check_tags(template)
    prompts.check_tags("Question: {question}\n")


def test_llama2_rows_are_the_same_in_all(family) -> None:
    _, codec = family("llama2_7b_chat")
    row = codec.reference(FACT.question, FACT.answer)
    assert prompts.tofu_row(codec, FACT.question, FACT.answer) == row
    assert prompts.open_unlearning_row(codec, FACT.question, FACT.answer) == row
    assert prompts.tofu_prompt(codec, FACT.question) == codec.generation_prompt_ids(FACT.question)
    assert prompts.open_unlearning_prompt(codec, FACT.question) == codec.generation_prompt_ids(FACT.question)


def test_figures_of_the_published_code() -> None:
    assert set(PROTOCOLS) == set(PROTOCOL_NAMES) - {"none"}
    assert (prompts.TOFU_LENGTH, PROTOCOLS["tofu"].max_total_tokens, PROTOCOLS["open_unlearning"].max_new_tokens) == (
        200,
        200,
        200,
    )
