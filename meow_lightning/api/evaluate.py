"""Evaluation as a function: models answer the evaluation sets, and every metric is computed from their predictions."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.api.evaluation import Evaluation
from meow_lightning.config.composition import library_options
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.examples import Dataset, evaluated_examples
from meow_lightning.data.values.secrets import public_texts
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics import sets_that_need
from meow_lightning.evaluation.predict import Question, generation_budget, generation_prompt, predict
from meow_lightning.evaluation.protocols.predict import predict_under_protocol
from meow_lightning.evaluation.protocols.registry import check_protocol, counted_rows
from meow_lightning.evaluation.sets import benchmark_of
from meow_lightning.evaluation.suite.inputs import SideInputs
from meow_lightning.evaluation.suite.suite import evaluate as compute_metrics
from meow_lightning.generation.batch_size import AdaptiveBatchSize, fitting_batch_size
from meow_lightning.memo.measure import Measure
from meow_lightning.memo.scoring import score
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.types import AnswerRow, Progress, ScoredText

GIVEN = "no {role} model was given to evaluate()"


def evaluate(
    model: LanguageModel,
    dataset: Dataset,
    *,
    target: LanguageModel | None = None,
    retain: LanguageModel | None = None,
    measure: str | Measure | None = "clean",
    options: Sequence[str] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate an unlearned model on a dataset's evaluation sets, beside the models that it is compared with.

    Numbers equal those of the pipeline's stages ``predict``, ``score`` and ``evaluate`` with the same settings. A
    metric that needs a model that is not given is missing, with the reason.

    Args:
        model: The unlearned model, on the device where it computes.
        dataset: The facts.
        target: The model before unlearning; needed by metrics that compare with it, such as leakage.
        retain: A model that never saw the forget set; needed by forget quality.
        measure: Measure of memorization, as in :func:`meow_lightning.memo.score`; ``None`` to leave it out.
        options: Further words of the command line, from the groups ``evaluation`` and ``trainer``, such as
            ``evaluation.protocol=open_unlearning``, ``evaluation.max_new_tokens=32`` or ``trainer.eval_batch_size=8``.
        progress: Called with the number of questions that a model has answered.

    Returns:
        The metrics with their definitions, and the predictions behind them.

    Raises:
        UserError: An option is invalid, or the protocol cannot evaluate this dataset or prompt.
    """
    chosen = library_options(options)
    if chosen.evaluation.selection_fraction:
        raise UserError("evaluation.selection_fraction selects a checkpoint, which takes the pipeline: use meow.run")
    given = {"target": target, "retain": retain, "unlearned": model}
    models = {role: each for role, each in given.items() if each is not None}
    for each in models.values():
        check_protocol(chosen.evaluation.protocol, dataset, template=each.encoder.template)
    rows = {role: _predictions(each, dataset, chosen, progress) for role, each in models.items()}
    scores: dict[str, list[ScoredText]] = {}
    if measure is not None:
        facts, size = dataset.facts("forget"), chosen.trainer.generation_batch_size
        scores = {role: score(each, facts, measure=measure, batch_size=size) for role, each in models.items()}
    benchmark = benchmark_of([each.info for each in dataset.evaluation().values()])
    results = compute_metrics(
        rows, {role: {"answers": each} for role, each in scores.items()},
        truth_ratio_mean=chosen.evaluation.truth_ratio_mean,
        absent={role: GIVEN.format(role=role) for role, each in given.items() if each is None},
        protocol=chosen.evaluation.protocol, benchmark=benchmark,
        side_inputs=SideInputs(
            public=public_texts(dataset.facts("retain")), extra_metrics=tuple(chosen.evaluation.extra_metrics),
            examples=evaluated_examples(dataset),
        ),
    )  # fmt: skip
    return Evaluation(results=results, predictions=rows, scores=scores, settings=chosen.evaluation, benchmark=benchmark)


def _predictions(
    model: LanguageModel, dataset: Dataset, options: RunConfig, progress: Progress | None
) -> list[AnswerRow]:
    evaluation, trainer = options.evaluation, options.trainer
    protocol, batch, evaluated = evaluation.protocol, trainer.eval_batch_size, dataset.evaluation()
    sets = {name: counted_rows(protocol, facts) for name, facts in evaluated.items()}
    questions = [(name, index, fact) for name, facts in sets.items() for index, fact in enumerate(facts)]
    gradients = (
        sets_that_need("gradient", [each.info for each in evaluated.values()]) if evaluation.gradient_norm else []
    )
    report = None if progress is None else (lambda done: progress(done, len(questions), "questions"))
    if protocol != "none":
        return list(
            predict_under_protocol(
                protocol, model.model, model.encoder, questions, batch=batch, gradients=gradients, progress=report
            )  # type: ignore[arg-type]
        )
    budget = evaluation.max_new_tokens
    return list(
        predict(
            model.model, model.encoder, questions, max_new_tokens=budget, batch=batch,
            slots=_slots(model, questions, budget, trainer.generation_batch_size), gradients=gradients,
            progress=report,
        )
    )  # fmt: skip


def _slots(model: LanguageModel, questions: Sequence[Question], budget: int, size: int | None) -> AdaptiveBatchSize:
    if size is not None:
        return AdaptiveBatchSize(size, note=None)
    encoder = model.encoder
    longest = max(len(generation_prompt(encoder, example)) for _, _, example in questions)
    most = max(generation_budget(encoder, example, max_new_tokens=budget) for _, _, example in questions)
    return fitting_batch_size(model.model, tokens=longest, generated=most, shared=False, processes=1, note=None)
