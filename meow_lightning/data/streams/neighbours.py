"""Stream of hard retain rows: the retain examples whose questions are most like those to forget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from meow_lightning.data.encoding import TRAINED_FIELDS, digest_of, training_segments
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import Chosen, StreamBuilder
from meow_lightning.data.tfidf import DIGITS, tfidf
from meow_lightning.errors import UserError
from meow_lightning.types import Segments


class Neighbours(StreamBuilder):
    """The retain examples whose questions are nearest to those of the forget set, in the order of the retain set.

    In the order of the forget set, each question gets its nearest examples that no earlier one has, so that many
    questions of one form do not share a few neighbours. Nearness is the cosine of TF-IDF vectors: a word's count in the
    question times log(N / n), where n of the N questions to forget and to retain contain it. Of equally near ones the
    first in the retain set counts; a question without a common word is no neighbour. For passages, the shown beginning
    is the question.

    Args:
        per_question: Neighbours per question, 1 or more; fewer where the retain set has no more.
    """

    splits = ("retain",)
    compared = False

    def __init__(self, per_question: int) -> None:
        self.per_question = per_question

    def chosen(self, dataset: Dataset, *, seed: int) -> list[Chosen]:
        """List the neighbours, each with the question that it was chosen for.

        Raises:
            UserError: No retain question shares a word with a question to forget.
        """
        forget, retain = dataset.facts("forget"), dataset.facts("retain")
        questions = tuple(example.question for example in forget), tuple(example.question for example in retain)
        taken = {
            place: Chosen(retain[place].id, forget[row].id, similarity)
            for place, row, similarity in _chosen(*questions, self.per_question)
        }
        if not taken:
            raise UserError(
                f"no retain question of dataset={dataset.name} shares a word with a question to forget, so none is a "
                "neighbour; set method.neighbours=0 to train on the whole retain set"
            )
        return [taken[place] for place in sorted(taken)]

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build the rows of the neighbours with their further phrasings."""
        return training_segments(self.examples(dataset, seed=seed))

    def digest(self, dataset: Dataset, *, seed: int) -> str:
        """Digest what training reads of the neighbours."""
        return digest_of(self.examples(dataset, seed=seed), TRAINED_FIELDS)

    def examples(self, dataset: Dataset, *, seed: int) -> Sequence[Example]:
        """Return the neighbours."""
        by_id = {example.id: example for example in dataset.facts("retain")}
        return [by_id[each.example] for each in self.chosen(dataset, seed=seed)]


@lru_cache(maxsize=4)  # planning asks for the rows, their digest and their number
def _chosen(
    questions: tuple[str, ...], others: tuple[str, ...], per_question: int
) -> tuple[tuple[int, int, float], ...]:  # fmt: skip
    """List the chosen texts: (place of the text, place of the question, cosine)."""
    taken: dict[int, tuple[int, int, float]] = {}
    for row, near in enumerate(_nearest(questions, others)):
        for place, similarity in islice((pair for pair in near if pair[0] not in taken), per_question):
            taken[place] = (place, row, similarity)
    return tuple(taken.values())


def _nearest(questions: Sequence[str], others: Sequence[str]) -> Iterator[list[tuple[int, float]]]:
    """Yield the texts for each question by nearness: (place, cosine above 0), the nearest first."""
    vectors, _ = tfidf([*questions, *others])
    cosines = vectors[: len(questions)] @ vectors[len(questions) :].T
    for row in range(len(questions)):
        ends = slice(cosines.indptr[row], cosines.indptr[row + 1])
        pairs = zip(cosines.indices[ends].tolist(), cosines.data[ends].round(DIGITS).tolist(), strict=True)
        near = sorted((-cosine, place) for place, cosine in pairs if cosine > 0)
        yield [(place, -cosine) for cosine, place in near]
