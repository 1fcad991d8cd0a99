"""Intervals: held to SciPy, statsmodels, scikit-learn, published examples, and to the coverage that they promise."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from statsmodels.stats.proportion import proportion_confint

from stages.evaluate import bootstrap, tables
from stages.evaluate.bootstrap import Interval, bca_interval, bootstrap_intervals, wilson_interval
from stages.evaluate.constant import constant_scores
from stages.evaluate.ranks import spearman_influence
from stages.evaluate.tables import Table, tabulate
from stages.shared.task.metrics import METRICS
from stages.shared.task.scorer import score
from stages.shared.task.task import Task

CLASSES, SETS, NUMBERS = "single_label_classification", "multi_label_classification", "regression"


def make_task(problem: Any, columns: int = 2, metrics: list[str] | None = None) -> Task:
    fitting = [name for name, metric in METRICS.items() if problem in metric.problem_types]
    fitting = [name for name in fitting if name != "f1" or columns == 2]
    names = [] if problem == NUMBERS else [f"label {index}" for index in range(columns)]
    return Task("files", problem, names, metrics or fitting, "files", "0")


def draw(task: Task, examples: int, seed: int = 0, models: int = 1) -> tuple[np.ndarray, list[np.ndarray]]:
    """Makes labels, and models that know something of them; numbers have ties."""
    generator = np.random.default_rng(seed)
    if task.problem_type == NUMBERS:
        labels = (generator.normal(size=examples) * 2).round().astype(np.float32)
        knows = labels[:, None]
    elif task.problem_type == SETS:
        labels = (generator.random((examples, task.columns)) < 0.3).astype(np.float32)
        knows = 2 * labels - 1
    else:
        labels = generator.integers(0, task.columns, examples)
        knows = 1.5 * np.eye(task.columns)[labels]
    noise = generator.normal(size=(models, *knows.shape))
    return labels, [(knows + one).round(1 if task.problem_type == NUMBERS else 6).astype(np.float32) for one in noise]


def intervals(
    task: Task, labels: np.ndarray, logits: list[np.ndarray], resamples: int, seed: int
) -> dict[str, Interval]:
    return bootstrap_intervals(task, labels, logits, confidence=0.95, resamples=resamples, seed=seed)


PROBLEMS = [(CLASSES, 2), (CLASSES, 5), (SETS, 4), (NUMBERS, 1)]


@pytest.mark.parametrize(("problem", "columns"), PROBLEMS)
@pytest.mark.parametrize("models", [1, 2])
def test_a_resample_scores_as_its_examples_written_out(problem: str, columns: int, models: int) -> None:
    """Weights are a way to write a resample: scikit-learn and SciPy on the repeated rows say the same."""
    task = make_task(problem, columns)
    labels, logits = draw(task, 60, models=models)
    rows = np.random.default_rng(1).integers(0, 60, (20, 60))
    for table in tabulate(task, labels, logits):
        cells = cells_of(table, task, labels, logits)
        weights = np.stack([np.bincount(cells[row], minlength=len(table.counts)) for row in rows]).astype(float)
        for name, compute in table.metrics.items():
            expected = [[value(name, task, labels[row], one[row]) for row in rows] for one in logits]
            assert compute(weights) == pytest.approx(np.array(expected), abs=1e-6), name


def value(name: str, task: Task, labels: np.ndarray, logits: np.ndarray) -> float:
    if name == "loss":
        return task.problem.loss(logits, labels)
    return METRICS[name].score(labels, task.problem.predict(logits))


def cells_of(table: Table, task: Task, labels: np.ndarray, logits: list[np.ndarray]) -> np.ndarray:
    """Finds the cell of each example: by kind, or in the order in which they were spread; ranks keep theirs."""
    if "spearmanr" in table.metrics:
        return np.arange(len(labels))
    if len(table.counts) == len(labels):
        return np.random.default_rng(0).permutation(len(labels))
    codes = np.ravel_multi_index(
        (labels, *(task.problem.predict(one) for one in logits)), (task.columns,) * (1 + len(logits))
    )
    return np.unique(codes, return_inverse=True)[1]


@pytest.mark.parametrize(("problem", "columns"), PROBLEMS)
def test_the_value_is_the_score(problem: str, columns: int) -> None:
    task = make_task(problem, columns)
    labels, (one, two) = draw(task, 300, models=2)
    scores = [score(task, logits, labels) for logits in (one, two)]
    for name, interval in intervals(task, labels, [one], 200, 0).items():
        assert interval.value == pytest.approx(scores[0][name], abs=1e-6)
        assert interval.low < interval.value < interval.high
    for name, interval in intervals(task, labels, [one, two], 200, 0).items():
        assert interval.value == pytest.approx(scores[1][name] - scores[0][name], abs=1e-6)


def correlation(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    x, y = (array - array.mean(axis=axis, keepdims=True) for array in (x, y))
    return np.sum(x * y, axis=axis) / np.sqrt(np.sum(x * x, axis=axis) * np.sum(y * y, axis=axis))


@pytest.mark.parametrize(
    ("metric", "statistic"),
    [
        ("pearson", correlation),
        ("mean_squared_error", lambda x, y, axis=-1: np.mean((x - y) ** 2, axis=axis)),
    ],
)
def test_the_interval_is_scipys(metric: str, statistic: Callable[..., np.ndarray]) -> None:
    """To 3 % of the width, which is what 10,000 resamples leave to chance."""
    task = make_task(NUMBERS, metrics=[metric])
    labels, (logits,) = draw(task, 120)
    ours = intervals(task, labels, [logits], 10_000, 0)[metric]
    pair = (labels.astype(float), logits[:, 0].astype(float))
    theirs = stats.bootstrap(pair, statistic, paired=True, method="BCa", n_resamples=10_000, rng=1).confidence_interval
    assert tuple(ours[1:]) == pytest.approx(tuple(theirs), abs=0.03 * (theirs.high - theirs.low))


def test_the_interval_of_an_accuracy_is_scipys() -> None:
    task = make_task(CLASSES, metrics=["accuracy"])
    labels, (one, two) = draw(task, 408, models=2)
    right = [(logits.argmax(axis=1) == labels).astype(float) for logits in (one, two)]
    for logits, values in (([one], right[0]), ([one, two], right[1] - right[0])):
        ours = intervals(task, labels, logits, 10_000, 0)["accuracy"]
        theirs = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=10_000, rng=1).confidence_interval
        assert tuple(ours[1:]) == pytest.approx(tuple(theirs), abs=1.01 / 408)  # a step of the accuracy


def test_bca_is_that_of_the_book() -> None:
    """Efron & Tibshirani (1993), section 14.4, the variance of 26 spatial test scores: 171.5, BCa 90 % (115.8, 259.6).

    Their a is 0.061 and z0 0.146; the plain percentiles are (100.8, 233.9). They drew 2,000 resamples.
    """
    scores = "48 36 20 29 42 42 20 42 22 41 45 14 6 0 33 28 34 4 32 24 47 41 24 26 30 41"
    values = np.array(scores.split(), dtype=float)
    assert values.var() == pytest.approx(171.5, abs=0.05)
    drawn = values[np.random.default_rng(0).integers(0, 26, (100_000, 26))].var(axis=1)
    jackknife = np.array([np.delete(values, index).var() for index in range(26)])
    found = bca_interval(float(values.var()), drawn, jackknife, np.ones(26, dtype=np.int64), 0.90)
    assert (found.low, found.high) == pytest.approx((115.8, 259.6), abs=4)
    assert np.quantile(drawn, [0.05, 0.95]) == pytest.approx((100.8, 233.9), abs=4)


@pytest.mark.parametrize(
    ("right", "examples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_that_of_newcombe_and_statsmodels(right: int, examples: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    found = wilson_interval(right, examples, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(right, examples, alpha=0.05, method="wilson"), abs=1e-12
    )


def test_the_influence_on_spearman_is_its_derivative() -> None:
    """With ties; the derivative is taken from the weighted ranks, which are another piece of code."""
    task = make_task(NUMBERS, metrics=["spearmanr"])
    labels, (logits,) = draw(task, 200)
    value, influence = spearman_influence(labels, logits[:, 0])
    assert value == pytest.approx(stats.spearmanr(labels, logits[:, 0]).statistic, abs=1e-12)
    step = 1e-4
    weights = np.ones((200, 200)) + step * np.eye(200)
    moved = tables._rank_table("spearmanr", labels, [logits[:, 0]]).metrics["spearmanr"](weights)[0]
    assert (moved - value) * 200 / step == pytest.approx(influence, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "columns"), [(SETS, 4), (NUMBERS, 1)])
def test_blocks_give_the_interval_of_single_examples(
    problem: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(problem, columns)
    labels, (logits,) = draw(task, 3000)
    blocks = intervals(task, labels, [logits], 4000, 0)
    monkeypatch.setattr(tables, "MOST_CELLS", 3000)
    for name, exact in intervals(task, labels, [logits], 4000, 0).items():
        width = exact.high - exact.low
        assert tuple(blocks[name]) == pytest.approx(tuple(exact), abs=0.08 * width), name


@pytest.mark.parametrize(("problem", "columns"), [(CLASSES, 2), (SETS, 3), (NUMBERS, 1)])
def test_a_million_examples_are_a_few_cells(problem: str, columns: int) -> None:
    task = make_task(problem, columns)
    labels, logits = draw(task, 1_000_000)
    sizes = [len(table.counts) for table in tabulate(task, labels, logits)]
    assert max(sizes) <= tables.MOST_CELLS
    if problem == CLASSES:
        assert sizes[0] == 4


def test_the_seed_and_nothing_else_decides() -> None:
    task = make_task(CLASSES)
    labels, logits = draw(task, 100)
    one, two, three = (intervals(task, labels, logits, 500, seed) for seed in (0, 0, 1))
    assert one == two != three


def test_a_perfect_score_leaves_the_width_to_wilson() -> None:
    task = make_task(CLASSES, metrics=["accuracy"])
    labels = np.arange(100) % 2
    logits = np.eye(2, dtype=np.float32)[labels]
    assert intervals(task, labels, [logits], 500, 0)["accuracy"] == (1.0, 1.0, 1.0)
    assert wilson_interval(100, 100, 0.95).low == pytest.approx(100 / (100 + 1.959964**2), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("problem", "columns"), [(CLASSES, 2), (CLASSES, 5), (SETS, 4)])
def test_the_best_constant_answer_is_the_best_of_all_by_scikit_learn(problem: str, columns: int, seed: int) -> None:
    """Every label, and every set of labels, given to all examples; labels are of unequal shares."""
    task = make_task(problem, columns)
    generator = np.random.default_rng(seed)
    if problem == CLASSES:
        labels = generator.choice(columns, p=generator.dirichlet(np.ones(columns)), size=40)
        answers = [np.full(40, label) for label in range(columns)]
    else:
        labels = (generator.random((40, columns)) < generator.random(columns)).astype(np.float32)
        answers = [np.tile(np.array(one, dtype=np.float32), (40, 1)) for one in product((0, 1), repeat=columns)]
    found = constant_scores(task, labels)
    for name in task.metrics:
        expected = max(METRICS[name].score(labels, answer) for answer in answers)
        assert found[name] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize(("problem", "columns"), PROBLEMS)
def test_no_constant_logits_have_a_lower_loss_than_the_labels_shares(problem: str, columns: int) -> None:
    task = make_task(problem, columns)
    labels, _ = draw(task, 60)
    best = constant_scores(task, labels)["loss"]
    found = minimize(lambda one: task.problem.loss(np.tile(one, (60, 1)), labels), np.zeros(columns))
    assert best == pytest.approx(found.fun, abs=1e-5)


def test_the_best_constant_number_is_the_mean() -> None:
    task = make_task(NUMBERS)
    labels, _ = draw(task, 60)
    found = constant_scores(task, labels)
    assert found["mean_squared_error"] == pytest.approx(
        METRICS["mean_squared_error"].score(labels, np.full(60, labels.mean()))
    )
    assert (found["pearson"], found["spearmanr"]) == (0.0, 0.0)


def test_of_one_label_alone_the_constant_is_perfect() -> None:
    found = constant_scores(make_task(CLASSES), np.ones(20, dtype=np.int64))
    assert found == {"accuracy": 1, "f1": 1, "f1_macro": 1, "f1_micro": 1, "matthews_correlation": 0, "loss": 0}


def test_constant_predictions_do_not_crash() -> None:
    for problem, columns in PROBLEMS:
        task = make_task(problem, columns)
        labels, _ = draw(task, 50)
        logits = np.zeros((50, columns), dtype=np.float32)
        for name, interval in intervals(task, labels, [logits], 200, 0).items():
            assert np.isfinite(interval).all(), name
            assert interval.value == pytest.approx(score(task, logits, labels)[name], abs=1e-6)


# Coverage, by simulation


def simulate(task: Task, examples: int, samples: int, sample: Callable[[int], Any], resamples: int) -> dict[str, float]:
    """Returns the share of samples whose 95 % interval holds the truth, which is the metric of a very large sample."""
    labels, logits = sample(1_000_000)
    truth = {
        name: float(compute(table.counts[None].astype(float))[0, 0])
        for table in tabulate(task, labels, [logits])
        for name, compute in table.metrics.items()
        if name != "loss"
    }
    hits = dict.fromkeys(truth, 0)
    for index in range(samples):
        labels, logits = sample(examples)
        for table in tabulate(task, labels, [logits]):
            if set(table.metrics) == {"loss"}:
                continue
            own, drawn, left_out = bootstrap._resample(table, resamples, index)
            for name in table.metrics.keys() & hits.keys():
                _, low, high = bca_interval(
                    float(own[name][0, 0]), drawn[name][0], left_out[name][0], table.counts, 0.95
                )
                hits[name] += low - 1e-9 <= truth[name] <= high + 1e-9
    return {name: count / samples for name, count in hits.items()}


@pytest.mark.slow
@pytest.mark.parametrize("examples", [100, pytest.param(408, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(("accuracy", "shares"), [(0.8, [0.5, 0.5]), (0.86, [0.32, 0.68]), (0.75, [0.4, 0.3, 0.3])])
def test_intervals_of_classes_cover_the_truth(accuracy: float, shares: list[float], examples: int) -> None:
    classes = len(shares)
    task = make_task(CLASSES, classes)
    generator = np.random.default_rng(0)

    def sample(number: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.choice(classes, p=shares, size=number)
        wrong = (labels + generator.integers(1, classes, number)) % classes
        predicted = np.where(generator.random(number) < accuracy, labels, wrong)
        return labels, np.eye(classes, dtype=np.float32)[predicted]

    for name, covered in simulate(task, examples, 2000, sample, 2000).items():
        assert 0.93 <= covered <= 0.97, f"{name}: {covered}"


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "samples"), [(100, 600), pytest.param(408, 300, marks=pytest.mark.exhaustive)])
def test_intervals_of_correlations_cover_the_truth(examples: int, samples: int) -> None:
    task = make_task(NUMBERS, metrics=["pearson", "spearmanr"])
    generator = np.random.default_rng(0)

    def sample(number: int) -> tuple[np.ndarray, np.ndarray]:
        labels = generator.normal(size=number)
        return labels, (0.8 * labels + 0.6 * generator.normal(size=number))[:, None]

    for name, covered in simulate(task, examples, samples, sample, 1000).items():
        assert 0.93 <= covered <= 0.97, f"{name}: {covered}"
