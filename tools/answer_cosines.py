"""Print whether the inverted answers that a run trained on pull against each other: cosines of their gradients.

Takes the words of the command line, as ``run.py`` does; the run is computed up to ``unlearn``, or found in the store:

    python tools/answer_cosines.py method=meow method.select.k=3
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean

import meow_lightning as meow
from meow_lightning.config.composition import compose_options
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, mean_samples, percentiles
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import Selection, model_folder
from meow_lightning.types import InvertedFact

SAMPLES = 2_000  # of the bootstrap over facts
MEANINGS = {
    "inverted": "two inverted answers of a fact",
    "true": "an inverted answer and the true one",
    "unrelated": "inverted answers of two facts",
}


def trained_on(run: meow.Run) -> list[InvertedFact]:
    """Return the inverted facts that the run's unlearned model was trained on."""
    folders = dict(run.artifacts)
    positions = Selection.read(folders["unlearn unlearned"]).positions
    written = FilterResult.read(folders["filter"]).inverted
    return [each for each in written if each.position in positions.get(each.fact, ())]


def table(cosines: Sequence[meow.AnswerCosines]) -> str:
    """Format the means over facts with the 95 % intervals of a bootstrap over facts."""
    bootstrap = Bootstrap(bootstrap_samples=SAMPLES, seed=0)
    head = ("mean", "95 % interval", "facts below 0")
    lines = [f"| cosine of the gradients, {len(cosines)} facts | {' | '.join(head)} |", "|---|---|---|---|"]
    for name, meaning in MEANINGS.items():
        values = [getattr(each, name) for each in cosines]
        low, high = percentiles(mean_samples(values, bootstrap.counts("forget", len(values))), confidence_level=0.95)
        below = fmean(value < 0 for value in values)
        lines.append(f"| {meaning} | {fmean(values):.3f} | {low:.3f} to {high:.3f} | {below:.0%} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> None:
    """Compute the run and print the table.

    Raises:
        UserError: The method trains on no inverted facts, or the run fails.
    """
    method = compose_options(list(words)).method
    if method.select is None:
        raise meow.UserError(f"method={method.name} trains on no inverted facts: expected method=meow")
    outputs = [word.partition("=")[2] for word in words if word.startswith("outputs=")]
    run = meow.run([*words, "goal=unlearn"], outputs=outputs[-1] if outputs else "outputs")
    options, prompt = run.options, run.options.model.prompt
    dataset = options.dataset.instantiate(allow=options.trusted_packages)
    facts = dataset.facts("forget") if options.limit is None else dataset.facts("forget")[: options.limit]
    (target,) = (folder for name, folder in run.artifacts.items() if name in ("finetune target", "link target"))
    model = meow.LanguageModel.from_pretrained(
        model_folder(target), prompt={name: getattr(prompt, name) for name in type(prompt).names()}
    )
    print(table(list(meow.answer_cosines(model, facts, trained_on(run)))))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except meow.UserError as error:
        sys.exit(str(error))
