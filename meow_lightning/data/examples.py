"""Examples: what datasets consist of, a fact or a passage of a document; and the evaluation sets that they form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, overload

from meow_lightning.config.model_options import INIT_STREAMS
from meow_lightning.errors import UserError
from meow_lightning.types import AnswerRow, Fact, Purpose, Scoring, Segments, SetInfo


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document: raw text with a cut, before which the model reads and after which it is trained.

    No prompt template applies to it. It has none of the further texts of a :class:`~meow_lightning.types.Fact`.

    Attributes:
        id: Stable identifier, unique within a dataset; stored results refer to the passage by it.
        text: The text, as it stands in the document.
        prefix: Number of its first characters that are shown; from 1 to its length minus 1.
        ends: Whether the document ends with it, so that an end token follows in training.
    """

    id: str
    text: str
    prefix: int
    ends: bool

    paraphrase: ClassVar[None] = None
    perturbed: ClassVar[tuple[str, ...]] = ()
    value: ClassVar[None] = None
    values: ClassVar[tuple[str, ...]] = ()
    alternatives: ClassVar[tuple[str, ...]] = ()
    inverted: ClassVar[tuple[str, ...]] = ()
    phrasings: ClassVar[tuple[tuple[str, str], ...]] = ()
    rewordings: ClassVar[tuple[str, ...]] = ()

    @property
    def question(self) -> str:
        """The prefix: what the model is shown."""
        return self.text[: self.prefix]

    @property
    def answer(self) -> str:
        """The rest, which begins with the blank at the cut, if there is one."""
        return self.text[self.prefix :]

    @property
    def segments(self) -> Segments:
        """Prefix and rest, as raw text."""
        return Segments(self.question, self.answer, raw=True, ends=self.ends)


Example = Fact | Passage


def expected_texts(marked: Example | AnswerRow) -> tuple[str, ...]:
    """List the texts that a correct answer gives: ``values``, else ``value``; empty if the dataset marks neither.

    An answer to a fact to keep gives all of them; one to a fact to forget must not give any.

    Args:
        marked: An example, or a model's answer to it.
    """
    return tuple(each for each in marked.values or (marked.value,) if each is not None and each.strip())


def secret_texts(marked: Example | AnswerRow) -> tuple[str, ...]:
    """List the texts each of which gives a fact away wherever it is said: several ``values``, else ``value``.

    One text alone in ``values`` is no secret: it marks what evaluation looks for in the answer to its own question, and
    in TOFU it is often a common word or "Yes". Datasets mark one secret as ``value``.

    Args:
        marked: An example, or a model's answer to it.
    """
    texts = marked.values if len(marked.values) > 1 else (marked.value,)
    return tuple(each for each in texts if each is not None and each.strip())


@dataclass(frozen=True, slots=True)
class EvalSet(Sequence[Example]):
    """The examples of an evaluation set, with what metrics must know about them.

    Attributes:
        name: Name of the set.
        examples: Its examples, in the order of evaluation.
        purpose: What the set is for, see :class:`~meow_lightning.types.SetInfo`.
        scoring: How likelihoods of its answers count, see there.
    """

    name: str
    examples: tuple[Example, ...]
    purpose: Purpose
    scoring: Scoring = "free"

    @property
    def info(self) -> SetInfo:
        """What metrics know of the set besides its rows."""
        return SetInfo(self.name, self.purpose, self.scoring)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Example, ...]: ...

    def __getitem__(self, place: int | slice) -> Example | tuple[Example, ...]:
        return self.examples[place]

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)


class Dataset(Protocol):
    """Named splits of examples; the dataset's options determine all of them."""

    name: str
    public: bool  # whether its texts may appear in logs without explicit consent

    def facts(self, split: str) -> Sequence[Example]:
        """Return the examples of a split: ``forget``, ``retain``, or the name of an evaluation set.

        A split that the dataset lacks is empty, except for names that no dataset of this kind has.

        Raises:
            UserError: Unknown split.
        """
        ...

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets by name, in report order."""
        ...

    def pretraining_examples(self, rows: int, seed: int) -> Sequence[Example]:
        """Sample rows for pretraining a base model: language, but nothing that any split forgets."""
        ...

    def tokenizer_corpus(self) -> Sequence[tuple[str, str] | Segments]:
        """Return the (question, answer) pairs, and the segments of raw text, to train this dataset's tokenizer on."""
        ...

    def caveats(self) -> tuple[str, ...]:
        """Return caveats for readers of the results, one sentence each."""
        ...


def is_passage(example: Example) -> bool:
    """Whether an example is raw text, which no prompt template and no published evaluation protocol applies to."""
    return isinstance(example, Passage)


def check_init(init: str, dataset: Dataset) -> None:
    """Check that a dataset has the examples that initial values of adapters depend on.

    Args:
        init: ``model.lora.init``.
        dataset: The dataset.

    Raises:
        UserError: It lacks some.
    """
    for name in INIT_STREAMS[init]:
        if not dataset.facts(name):
            raise UserError(
                f"model.lora.init={init} compares the forget set with the retain set, but dataset={dataset.name} has "
                f"no {name} set; provide one, or set model.lora.init=pissa"
            )


def references(example: Example) -> list[Segments]:
    """List the texts whose likelihood is computed: true answer, paraphrase if any, wrong answers."""
    true = example.segments
    paraphrase = [] if example.paraphrase is None else [example.paraphrase]
    return [true, *(true._replace(target=text) for text in (*paraphrase, *example.perturbed))]


def attributes(example: Example, names: Sequence[str]) -> list[Any]:
    """Return the named attributes of a fact; of a passage all of them, after the word ``passage``.

    Args:
        example: The example.
        names: Attributes of :class:`~meow_lightning.types.Fact`; empty for all but ``rewordings``, which only attacks
            read. ``values`` is left out where it is empty, so that the keys of datasets without it do not depend on it.
    """
    if isinstance(example, Passage):
        return ["passage", example.id, example.text, example.prefix, example.ends]
    chosen = names or [field.name for field in fields(example) if field.name != "rewordings"]
    return [getattr(example, name) for name in chosen if name != "values" or example.values]


def evaluated_examples(dataset: Dataset) -> dict[str, Example]:
    """Collect the examples of all evaluation sets by their ids."""
    return {example.id: example for each in dataset.evaluation().values() for example in each}


def benchmark_sets(
    sets: Mapping[str, Sequence[Example]], *, utility: Sequence[str] = ("real_authors", "world_facts")
) -> dict[str, EvalSet]:
    """Build the evaluation sets of a benchmark in TOFU's form.

    ``forget``, ``retain`` and ``holdout`` serve the purpose that they are named after, with free answers; the others
    measure utility, where the true answer competes with wrong ones, since a fact of the real world has many correct
    phrasings.

    Args:
        sets: Examples by set, in report order.
        utility: Names of the sets that measure utility.

    Raises:
        KeyError: A set has another name.
    """
    purposes: dict[str, Purpose] = {"forget": "forget", "retain": "retain", "holdout": "holdout"}
    return {
        name: EvalSet(name, tuple(examples), "utility", "options")
        if name in utility
        else EvalSet(name, tuple(examples), purposes[name])
        for name, examples in sets.items()
    }
