"""Linear models on any features: logistic regression for labels, one for each of several, and ridge for numbers.

How much the weights are held back is chosen on a tenth of train, so that a baseline is no straw man, and nothing of the
splits that are scored. The solvers draw nothing and run on one thread, with the kernels that every processor has (see
`runtime/environment.py`), so the same examples give the same bits.
"""

import warnings
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from stages.shared.task.task import Task

STRENGTHS = (0.1, 1.0, 10.0, 100.0)  # of the data against the penalty: C of scikit-learn, 1 / alpha
USUAL = 1.0  # where there are too few examples to choose by
FEWEST_TO_CHOOSE = 20  # examples, or groups of them
SHARE = 10  # one part in so many of train is held out for the choice
SEED = 0  # of what is held out
STEPS = 300  # of the solver, which takes about fifty
PRECISE = 1e-5  # the gradient, or the residual, at which it stops

Features: TypeAlias = np.ndarray | sparse.csr_matrix  # float64[examples, features]


@dataclass(frozen=True)
class LinearModel:
    """Weights, and what they were fitted with."""

    task: Task
    weights: np.ndarray  # float64[columns that were fitted, features]
    constants: np.ndarray  # float64[columns that were fitted]
    columns: np.ndarray  # int64: which columns of the logits these are
    others: np.ndarray  # float64[columns]: the logits of a column that was not fitted
    strength: float
    precise: bool  # whether the solver came to its end

    def logits(self, features: Features) -> np.ndarray:
        """Returns float32[examples, columns]."""
        fitted = features @ self.weights.T + self.constants
        logits = np.tile(self.others, (len(fitted), 1))
        if self.task.problem.exclusive:  # a label that train does not have is less likely than one in all its examples
            logits += logsumexp(fitted, axis=1, keepdims=True)
        logits[:, self.columns] = fitted
        return logits.astype(np.float32)


def fit_chosen(task: Task, features: Features, labels: np.ndarray, groups: np.ndarray | None) -> LinearModel:
    """Fits with the strength that loses the least on a tenth of the examples, then on all of them.

    Args:
        labels: as in `problem_types.Problem`.
        groups: int64[examples] from 0: a group is held out whole. None: each example is on its own.
    """
    drawn = len(labels) if groups is None else int(groups.max()) + 1
    if drawn < FEWEST_TO_CHOOSE:
        return fit(task, features, labels, USUAL)
    out = np.random.default_rng(SEED).permutation(drawn) % SHARE == 0
    held = out if groups is None else out[groups]
    losses = [
        round(task.problem.loss(fit(task, features[~held], labels[~held], one).logits(features[held]), labels[held]), 6)
        for one in STRENGTHS
    ]
    return fit(task, features, labels, STRENGTHS[int(np.argmin(losses))])


def fit(task: Task, features: Features, labels: np.ndarray, strength: float) -> LinearModel:
    """Fits one model on all examples."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = (_numbers if task.problem.numeric else _classes if task.problem.exclusive else _several)(
            task, features, labels, strength
        )
    precise = not any(issubclass(one.category, ConvergenceWarning) for one in caught)
    return LinearModel(task, *found, strength, precise)


Fitted = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # weights, constants, columns, others


def _numbers(task: Task, features: Features, labels: np.ndarray, strength: float) -> Fitted:
    model = Ridge(alpha=1 / strength, solver="sparse_cg", tol=PRECISE)
    model.fit(features, labels.astype(np.float64))
    return np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_), np.array([0]), np.zeros(1)


def _classes(task: Task, features: Features, labels: np.ndarray, strength: float) -> Fitted:
    present, others = np.unique(labels), np.full(task.columns, -np.log(len(labels) + 1))
    if len(present) == 1:
        return np.zeros((1, features.shape[1])), np.zeros(1), present, others
    model = _logistic(strength).fit(features, labels)
    weights, constants = model.coef_, model.intercept_
    if len(present) == 2:  # of two labels the model has the odds of the second
        weights, constants = (np.concatenate([np.zeros_like(one), one]) for one in (weights, constants))
    return weights, constants, present, others


def _several(task: Task, features: Features, labels: np.ndarray, strength: float) -> Fitted:
    """Fits a model for each label; one that all examples have, or none, gets the odds of one more example."""
    counts = labels.sum(axis=0, dtype=np.float64)
    others = np.log((counts + 0.5) / (len(labels) - counts + 0.5))
    columns = np.flatnonzero((counts > 0) & (counts < len(labels)))
    models = [_logistic(strength).fit(features, labels[:, column] > 0.5) for column in columns]
    weights = np.concatenate([np.zeros((0, features.shape[1])), *(one.coef_ for one in models)])
    return weights, np.concatenate([np.zeros(0), *(one.intercept_ for one in models)]), columns, others


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, solver="lbfgs", tol=PRECISE, max_iter=STEPS)
