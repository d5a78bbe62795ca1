"""TF-IDF vectors of texts, and the texts that are nearest to another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from meow_lightning.data.words import words_and_marks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DIGITS = 9  # of a similarity; further ones depend on the machine, and ties must not


def tfidf(texts: Sequence[str]) -> tuple[csr_array, dict[str, tuple[int, float]]]:
    """Compute one row per text: the counts of its words by their inverse document frequency, of length 1 (or 0).

    Args:
        texts: The N texts.

    Returns:
        The rows, (N, words); and of each word its column and its weight log(N / n), where n texts contain it.
    """
    import numpy as np
    from scipy.sparse import csr_array

    counts = [_words(text) for text in texts]
    frequency = Counter(word for each in counts for word in each)
    words = {word: (place, math.log(len(texts) / times)) for place, (word, times) in enumerate(frequency.items())}
    rows = [_weighted(each, words) for each in counts]
    data = np.array([value for row in rows for value in row.values()])
    columns = np.array([place for row in rows for place in row], dtype=np.int64)
    ends = np.cumsum([0, *map(len, rows)])
    return csr_array((data, columns, ends), shape=(len(texts), max(1, len(words)))), words


def nearest(text: str, others: tuple[str, ...]) -> list[int]:
    """List the texts that share a weighty word with another, the nearest by cosine first, of equally near the first.

    The inverse document frequencies are those of the texts.

    Args:
        text: The text.
        others: The texts to search; their vectors are kept for the next call.
    """
    import numpy as np

    vectors, words = _vectors(others)
    own = np.zeros(vectors.shape[1])
    for place, value in _weighted(_words(text), words).items():
        own[place] = value
    cosines = (vectors @ own).round(DIGITS)
    return sorted(np.flatnonzero(cosines > 0).tolist(), key=lambda place: (-cosines[place], place))


@lru_cache(maxsize=4)
def _vectors(texts: tuple[str, ...]) -> tuple[csr_array, dict[str, tuple[int, float]]]:
    return tfidf(texts)


def _words(text: str) -> Counter[str]:
    return Counter(word for word in words_and_marks(text) if word[0].isalnum())


def _weighted(counts: Mapping[str, int], words: Mapping[str, tuple[int, float]]) -> dict[int, float]:
    """Weigh the counts of known words, by column, and scale them to length 1."""
    row = {words[word][0]: times * words[word][1] for word, times in counts.items() if word in words}
    norm = math.sqrt(math.fsum(value**2 for value in row.values())) or 1.0
    return {place: value / norm for place, value in row.items()}
