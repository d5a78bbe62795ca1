from __future__ import annotations

import pytest
from helpers.hydra import named, options

from meow_lightning.data.encoding import estimated_length
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.requirements import Planner, largest_step
from meow_lightning.stages import stage


def sized(*words: str, available: int = 10**12):
    """What answering takes of the target model, and what would fit."""
    chosen = options("trainer.eval_batch_size=1", "trainer.generation_batch_size=1", *words)
    made = graph(chosen)
    sizes = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=available)
    answering = made.evaluation.predictions["target"]
    return sizes.size(answering), sizes.fitting(answering), sizes.shape(answering)


def test_a_gradient_is_as_much_work_as_a_training_step_of_its_row():
    outlook, _, shape = sized()
    without, _, _ = sized("evaluation.gradient_norm=false")
    facts = [fact for name in ("forget", "holdout") for fact in dataset_of(options())[0].facts(name)]
    # `Question: {question}\nAnswer:` is 28 characters, 9 tokens, the blank after it another one
    tokens = sum(estimated_length(fact.question) + estimated_length(fact.answer) + 10 for fact in facts)
    scored = sum(estimated_length(fact.answer) + 1 for fact in facts)
    assert outlook.flops - without.flops == 6 * (shape.body_parameters * tokens + shape.head_parameters * scored)
    assert outlook.parameters == shape.parameters


def test_a_gradient_that_does_not_fit_may_be_left_out():
    long = ("model.architecture.layers=40", "model.architecture.intermediate_size=20000")
    memory = sized(*long)[0].memory
    less = sized(*long, "evaluation.gradient_norm=false")[0].memory
    assert memory.gradients > 0 == less.gradients
    assert less.total < memory.total
    _, found, _ = sized(*long, available=memory.total - 1)
    assert found == [("evaluation.gradient_norm=false", less.total)]


@pytest.mark.parametrize(
    ("rows", "recipe", "largest"),
    [
        (24, {"global_batch_size": 32}, 24),
        (64, {"global_batch_size": 32}, 32),
        (65, {"global_batch_size": 32}, 22),  # three steps of nearly equal size
        (24, {"global_batch_size": 32, "batch_tokens": None}, 24),
        (24, {"global_batch_size": 1, "batch_tokens": 100}, 20),  # of the shortest rows
        (24, {"global_batch_size": 1, "batch_tokens": 1000}, 24),
        (24, {"global_batch_size": 1, "batch_tokens": 3}, 1),
    ],
)
def test_the_largest_step_has_no_more_rows_than_the_data(rows, recipe, largest):
    assert largest_step(rows, recipe, shortest=5) == largest


def trained(name: str, *words: str):
    chosen = options(*words)
    made = graph(chosen)
    sizes = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    artifact = named(made)[name]
    return (
        sizes.size(artifact),
        sizes.training_load(artifact, stage(artifact.stage).describe_work(artifact, sizes)),
        sizes.shape(artifact),
    )


def test_streams_beside_the_first_one_give_as_many_rows_as_it_has():
    dataset = dataset_of(options())[0]
    forget, retain = dataset.facts("forget"), dataset.facts("retain")
    alone, _, shape = trained("unlearned", "method=grad_ascent", "optim.epochs=3")
    beside, load, _ = trained("unlearned", "method=grad_diff", "optim.epochs=3")

    def mean(facts):
        tokens = sum(estimated_length(fact.question) + estimated_length(fact.answer) + 10 for fact in facts) / len(
            facts
        )
        scored = sum(estimated_length(fact.answer) + 1 for fact in facts) / len(facts)
        return 6 * (shape.body_parameters * tokens + shape.head_parameters * scored)

    assert alone.flops == pytest.approx(3 * len(forget) * mean(forget), rel=1e-4)
    assert beside.flops - alone.flops == pytest.approx(3 * len(forget) * mean(retain), rel=1e-3)
    assert load.streams == 2
    assert load.batch <= len(forget) < len(retain)


def test_few_rows_take_the_memory_of_few():
    few, load, _ = trained(
        "target", "dataset.authors=2", "trainer.micro_batch_size=100000", "model.finetune.global_batch_size=100000"
    )
    rows = load.batch
    same, _, _ = trained(
        "target", "dataset.authors=2", f"trainer.micro_batch_size={rows}", "model.finetune.global_batch_size=100000"
    )
    less, _, _ = trained(
        "target", "dataset.authors=2", f"trainer.micro_batch_size={rows - 1}", "model.finetune.global_batch_size=100000"
    )
    assert few.memory == same.memory
    assert less.memory.activations < few.memory.activations


def test_stages_without_computation_have_facts_and_bytes():
    found, _, _ = sized()
    chosen = options()
    made = graph(chosen)
    sizes = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    for name in ("propose", "filter", "evaluate", "report"):
        outlook = next(sizes.size(each) for each in made.artifacts if each.stage == name)
        assert (outlook.flops, outlook.memory, outlook.items) == (0.0, None, len(dataset_of(chosen)[0].facts("forget")))
        assert outlook.disk > 4000
    assert found.disk > 100_000


def test_a_frozen_reference_model_takes_its_weights_and_a_pass_forward():
    plain, without, shape = trained("unlearned", "method=grad_diff")
    beside, load, _ = trained("unlearned", "method=kl")
    assert (without.reference, load.reference) == (False, True)
    assert beside.memory.weights - plain.memory.weights == 8 * shape.parameters  # trained in float64
    assert beside.flops / plain.flops == pytest.approx(4 / 3)


def test_a_retain_model_as_the_reference_is_no_part_of_a_model_with_adapters():
    adapters = ("method=kl", "model.lora.rank=2", "model.precision=32-true")
    within, _, shape = trained("unlearned", *adapters)
    beside, load, _ = trained("unlearned", *adapters, "method.anchor=retain")
    assert (load.reference, load.anchored) == (True, True)
    assert beside.memory.weights - within.memory.weights == 4 * shape.parameters


def test_a_sharpness_aware_training_takes_a_copy_and_reads_the_perturbed_rows_twice():
    alone, both = (trained("unlearned", f"method={name}", "optim.epochs=3")[0] for name in ("grad_ascent", "grad_diff"))
    perturbed = ("method=grad_diff", "optim.epochs=3", "optim.sam_rho=0.01")
    sharp, _, shape = trained("unlearned", *perturbed)
    assert sharp.memory.weights - both.memory.weights == 8 * shape.parameters  # trained in float64
    assert sharp.flops - both.flops == pytest.approx(alone.flops, rel=1e-3)
    assert trained("unlearned", *perturbed, "optim.sam_terms=all")[0].flops == pytest.approx(2 * both.flops, rel=1e-3)


def test_a_model_is_kept_in_its_own_precision():
    half, _, shape = trained("target", "model.precision=bf16-true")
    assert half.disk == 2 * shape.parameters + 75 * shape.vocabulary
    assert trained("target")[0].disk == 4 * shape.parameters + 75 * shape.vocabulary


def test_each_picked_answer_is_a_row():
    one, few = (trained("unlearned", "method=meow", f"method.select.k={k}") for k in (1, 3))
    assert few[0].items == 3 * one[0].items
    assert few[0].flops == pytest.approx(3 * one[0].flops, rel=1e-6)


def test_a_training_that_asks_its_model_says_so():
    wish = ("callbacks.evaluate_every_epochs=1",)
    assert [trained(name, *wish)[1].watched for name in ("target", "unlearned")] == [False, True]
    without = ("memo_every_epochs=0", "memo_every_steps=0", "evaluate_every_epochs=0")
    assert not trained("unlearned", *(f"callbacks.{each}" for each in without))[1].watched


def test_an_ability_task_reads_its_questions_and_fits_into_the_memory_of_a_block(tmp_path, monkeypatch):
    (tmp_path / "nlu/piqa").mkdir(parents=True)
    row = '{"goal": "g", "sol1": "a", "sol2": "b"}\n'
    (tmp_path / "nlu/piqa/dev.jsonl").write_text(row * 10)
    (tmp_path / "nlu/piqa/dev-labels.lst").write_text("0\n" * 10)
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))

    def ability(*words):
        chosen = options(*words)
        made = graph(chosen)
        gpu = {"gpu": False, "available": 10**12}
        sizes = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, **gpu)
        artifact = next(iter(made.evaluation.abilities.values()))
        return sizes.size(artifact), sizes.fitting(artifact), sizes.shape(artifact)

    whole, fits, shape = ability("ability=piqa")
    part, _, _ = ability("ability=piqa", "ability.limit=5")
    tokens = round(10 * len(row) / 3.5)
    assert whole.flops == 2 * (shape.body_parameters + shape.head_parameters) * tokens
    assert part.flops == pytest.approx(whole.flops / 2, rel=0.01)
    assert (whole.items, part.items, fits) == (10, 5, [])
    assert whole.disk - part.disk == 5 * 150
    assert whole.memory == part.memory
    assert whole.memory.weights == 4 * shape.parameters < whole.memory.total
    unknown, _, _ = ability("ability.tasks=[hellaswag]")
    assert (unknown.flops, unknown.items) == (0.0, 0)


def test_a_task_of_continuations_generates_and_scores_every_passage(tmp_path, monkeypatch):
    (tmp_path / "nlg/wikitext-2").mkdir(parents=True)
    for name in ("valid", "test"):
        (tmp_path / f"nlg/wikitext-2/{name}.txt").write_text(f" = T = \n {'A long sentence . ' * 20}\n" * 5)
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))

    def continuations(*words):
        chosen = options("ability=nlg", *words)
        made = graph(chosen)
        sizes = Planner(
            chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12
        )
        artifact = made.evaluation.abilities["unlearned", "nlg"]
        return sizes.size(artifact), sizes.shape(artifact)

    whole, shape = continuations()
    part, _ = continuations("ability.limit=5")
    # 10 passages, each read twice (64 tokens), of which 32 have logits.
    assert whole.flops == 2 * 2 * 10 * (shape.body_parameters * 64 + shape.head_parameters * 32)
    assert (whole.items, part.items, part.flops) == (10, 5, whole.flops / 2)
    assert whole.memory.weights == 4 * shape.parameters < whole.memory.total


def test_fine_tuning_visits_every_phrasing_and_what_is_replayed():
    once, _, _ = trained("target", "dataset.phrasings=1", "model.finetune.replay=0")
    more, _, _ = trained("target", "dataset.phrasings=3", "model.finetune.replay=5")
    chosen = options("dataset.phrasings=3")
    dataset = dataset_of(chosen)[0]
    facts = [fact for split in ("retain", "forget") for fact in dataset.facts(split)]
    further = sum(len(fact.phrasings) for fact in facts)
    assert further == 2 * len(facts)
    assert more.items == once.items + further + 5


def test_the_gradients_that_adapters_start_from_are_work_of_their_own():
    plain, without, shape = trained("unlearned", "method=npo", "model.lora.rank=2")
    first, load, _ = trained("unlearned", "method=npo", "model.lora.rank=2", "model.lora.init=fila")
    assert (without.gradients, load.gradients) == (False, True)
    dataset = dataset_of(options())[0]
    facts = [*dataset.facts("forget"), *dataset.facts("retain")]
    tokens = sum(estimated_length(fact.question) + estimated_length(fact.answer) + 10 for fact in facts)
    scored = sum(estimated_length(fact.answer) + 1 for fact in facts)
    assert first.flops - plain.flops == 6 * (shape.body_parameters * tokens + shape.head_parameters * scored)
