"""TF-IDF: which words, and pairs of neighbouring words, a text has, as numbers that a linear model can read.

What is rare in train counts more than what is in every text. Each text of a pair has features of its own, and two more
say how much of each text the other one repeats: a linear model cannot see for itself that both have the same word.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize

# Scripts that are written without spaces, of which each character counts as a word: Thai, Lao, Burmese, Khmer, Kana,
# Chinese characters.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents that follow a letter. To Python they are no letters, and would cut Hindi or Arabic words.
MARKS = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0903\u093a-\u094f\u0981-\u0983\u09bc-\u09cd\u0a3c-\u0a4d"
TOKEN = rf"[{UNSPACED}]|(?:[^\W{UNSPACED}]|[{MARKS}])+"
PLACES = 2**22  # that words and pairs of words are counted in; few frequent ones share theirs with another
MOST_FEATURES = 2**18  # of an example, of a pair's texts together; the ones in the most texts of train
MOST_WEIGHTS = 2**22  # features times labels: the solver keeps thirty arrays of this size, a gigabyte
FEWEST_TEXTS = 2  # that a feature must occur in: of one it says nothing about another

Matrix: TypeAlias = sparse.csr_matrix


def count_words(texts: Sequence[str]) -> Matrix:
    """Counts words and pairs of neighbouring words: float64[texts, PLACES]. A word's place is its hash."""
    hashing = HashingVectorizer(
        token_pattern=TOKEN, ngram_range=(1, 2), n_features=PLACES, alternate_sign=False, norm=None
    )
    return hashing.transform(texts)


class TfIdf:
    """How the texts of train are weighted, and so any others."""

    def __init__(self, counts: Sequence[Matrix], labels: int) -> None:
        """Counts in how many texts each word is.

        Args:
            counts: of train, for each text of an example.
            labels: of the task, each of which will have a weight for each feature.
        """
        examples = counts[0].shape[0]
        most = max(1, min(MOST_FEATURES, MOST_WEIGHTS // labels) // len(counts))
        texts = [np.bincount(one.indices, minlength=PLACES) for one in counts]
        self.rarity = np.log((1 + len(counts) * examples) / (1 + np.sum(texts, axis=0))) + 1  # float64[PLACES]
        self.kept = [_most_frequent(one, most) for one in texts]
        self.weights = [
            np.log((1 + examples) / (1 + one[kept])) + 1 for one, kept in zip(texts, self.kept, strict=True)
        ]

    def __call__(self, counts: Sequence[Matrix]) -> Matrix:
        """Returns float64[examples, features] of counted texts."""
        parts = []
        for one, kept, weights in zip(counts, self.kept, self.weights, strict=True):
            part = one[:, kept]
            part.data = 1 + np.log(part.data)  # a word that is there ten times does not say ten times as much
            parts.append(normalize(part.multiply(weights).tocsr()))
        return sparse.hstack([*parts, *self._repeated(counts)], format="csr")

    def _repeated(self, counts: Sequence[Matrix]) -> list[Matrix]:
        """Returns for each text of a pair what share of its words the other has, the rare ones counted for more."""
        if len(counts) < 2:
            return []
        one, other = (_signs(text).multiply(self.rarity).tocsr() for text in counts)
        both, *wholes = (_row_sums(matrix) for matrix in (one.multiply(_signs(counts[1])), one, other))
        return [Matrix(np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)) for whole in wholes]


def _most_frequent(texts: np.ndarray, most: int) -> np.ndarray:
    """Returns the places of the words that are in the most texts, in their order; one at least, though it says nothing.

    Args:
        texts: int64[PLACES], in how many texts each word is.
    """
    order = np.argsort(-texts, kind="stable")[:most]
    return np.sort(order[: max(1, int((texts[order] >= FEWEST_TEXTS).sum()))])


def _row_sums(matrix: Matrix) -> np.ndarray:
    """Returns float64[rows, 1]."""
    return np.asarray(matrix.sum(axis=1)).reshape(-1, 1)


def _signs(counts: Matrix) -> Matrix:
    return Matrix((np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape)
