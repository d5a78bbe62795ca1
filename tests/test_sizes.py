from __future__ import annotations

from test_pipeline import options

from meow_lightning.cellmodels import dataset_of
from meow_lightning.data.rows import rough_tokens
from meow_lightning.pipeline import graph
from meow_lightning.sizes import Sizes


def sized(*words: str, there: int = 10**12):
    """What answering takes of the target model, and what would fit."""
    chosen = options("trainer.eval_batch=1", "trainer.slots=1", *words)
    made = graph(chosen)
    sizes = Sizes(chosen, dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, there=there)
    answering = made.artifacts["answer/target"]
    return sizes.size(answering), sizes.fitting(answering), sizes.shape(answering)


def test_a_gradient_is_as_much_work_as_a_training_step_of_its_row():
    (_, _, _, work), _, shape = sized()
    (_, _, _, without), _, _ = sized("evaluation.gradient_norm=false")
    dataset = dataset_of(options())[0]
    tokens = sum(rough_tokens(fact) for name in ("forget", "holdout") for fact in dataset.facts(name))
    assert work - without == 6 * shape.parameters * tokens


def test_a_gradient_that_does_not_fit_may_be_left_out():
    long = ("model.architecture.layers=40", "model.architecture.intermediate_size=20000")
    (memory, _, _, _), _, _ = sized(*long)
    (less, _, _, _), _, _ = sized(*long, "evaluation.gradient_norm=false")
    assert memory.gradients > 0 == less.gradients
    assert less.total < memory.total
    _, found, _ = sized(*long, there=memory.total - 1)
    assert found == [("evaluation.gradient_norm=false", less.total)]
