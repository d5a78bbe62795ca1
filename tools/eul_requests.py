"""Print how two requests of 16 facts are forgotten together, one after the other, and apart and then fused.

Takes the words of the command line, as ``run.py`` does; the target model is computed, or found in the store:

    python tools/eul_requests.py outputs=outputs
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import meow_lightning as meow
from meow_lightning.data.examples import Dataset, EvalSet, Example
from meow_lightning.methods.eul import Eul
from meow_lightning.models.unlearning_layers import fold, fuse

FACTS = 16  # per request
KEPT = 64  # retain facts to evaluate
RECIPE = {"lr": 3e-3, "epochs": 30, "global_batch_size": 8}
RIDGE = 1e-6
SETS = {"first": "request 1", "second": "request 2", "retain": "kept facts"}


class Request(meow.FactDataset):
    """A dataset that forgets some facts, and is evaluated on both requests and on kept facts.

    Args:
        dataset: The dataset.
        forget: The facts to forget.
        sets: The evaluation sets.
    """

    def __init__(self, dataset: Dataset, forget: Sequence[Example], sets: dict[str, EvalSet]) -> None:
        super().__init__(dataset)
        self._forget, self._sets = list(forget), sets

    def facts(self, split: str) -> list[Example]:
        """Return the examples of a split."""
        return self._forget if split == "forget" else super().facts(split)

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets by name."""
        return self._sets


def requests(dataset: meow.FactDataset) -> tuple[Request, Request, Request]:
    """Build the first request, the second, and both at once, of the first facts that the dataset forgets."""
    first, second = dataset.forget[:FACTS], dataset.forget[FACTS : 2 * FACTS]
    kept = dataset.evaluation()["retain"][:KEPT]
    sets = {
        "first": EvalSet("first", tuple(first), "forget"),
        "second": EvalSet("second", tuple(second), "forget"),
        "retain": EvalSet("retain", kept, "retain"),
    }
    return tuple(Request(dataset, facts, sets) for facts in (first, second, [*first, *second]))  # type: ignore[return-value]


def unlearned(model: meow.LanguageModel, request: Request) -> tuple[meow.LanguageModel, Eul]:
    """Unlearn one request; returns the model, and the method with the layers that it trained."""
    method: Eul = meow.methods.Eul()
    return meow.unlearn(model, request, method=method, **RECIPE), method


def fused(target: meow.LanguageModel, methods: Sequence[Eul]) -> meow.LanguageModel:
    """Fuse requests that were unlearned apart."""
    model = target.duplicate()
    fold(model.model, fuse([method.corrections for method in methods], ridge=RIDGE))
    return model


def row(name: str, model: meow.LanguageModel, request: Request) -> str:
    """Format the value accuracies of a model as a row of the table."""
    result = meow.evaluate(model, request, measure=None, options=["evaluation.gradient_norm=false"])
    values = " | ".join(f"{result[f'{each}/value_accuracy']:.2f}" for each in SETS)
    return f"| {name} | {values} |"


def table(target: meow.LanguageModel, dataset: meow.FactDataset) -> Iterator[str]:
    """Train all models from the target model, and yield the lines of the table."""
    first, second, both = requests(dataset)
    yield f"| value accuracy | {' | '.join(SETS.values())} |"
    yield "|---|---|---|---|"
    yield row("target model", target, both)
    (one, one_method), (other, other_method) = (unlearned(target, each) for each in (first, second))
    yield row("request 1 alone", one, both)
    yield row("request 2 alone", other, both)
    yield row("both at once", unlearned(target, both)[0], both)
    yield row("request 1, then request 2", unlearned(one, second)[0], both)
    yield row("apart, then fused", fused(target, [one_method, other_method]), both)


def main(words: Sequence[str]) -> None:
    """Compute the target model and print the table.

    Raises:
        UserError: An option is invalid.
    """
    outputs = [word.partition("=")[2] for word in words if word.startswith("outputs=")]
    run = meow.run([*words, "method=eul", "goal=finetune"], outputs=outputs[-1] if outputs else "outputs")
    folder, prompt = run.artifacts["finetune target"] / "model", run.options.model.prompt.plain()
    target = meow.LanguageModel.from_pretrained(folder, prompt=prompt, precision="32-true")
    for line in table(target, meow.load_dataset(run.options.dataset.name, seed=run.options.seed)):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
