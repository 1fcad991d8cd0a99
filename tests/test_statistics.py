"""Intervals: held to SciPy, statsmodels, scikit-learn, published examples, and to the coverage that they promise."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize, minimize_scalar
from statsmodels.stats.proportion import proportion_confint

from stages.evaluate.constant import constant_scores
from stages.shared.statistics import tables
from stages.shared.statistics.bootstrap import Interval, bca_interval, bootstrap_intervals
from stages.shared.statistics.confidence import is_share, metric_intervals, unseen, why_withheld
from stages.shared.statistics.influence import FISHER, LOGARITHM, PLAIN, influences, student_interval
from stages.shared.statistics.proportions import score_intervals, tango_ends, wilson_ends
from stages.shared.statistics.tables import Table, example_losses, tabulate
from stages.shared.task.metrics import METRICS, OverCounts
from stages.shared.task.scorer import score
from stages.shared.task.task import Task

CLASSES, SETS, NUMBERS = "single_label_classification", "multi_label_classification", "regression"


def make_task(problem: Any, columns: int = 2, metrics: list[str] | None = None) -> Task:
    fitting = [name for name, metric in METRICS.items() if problem in metric.problem_types]
    fitting = [name for name in fitting if columns == 2 or not METRICS[name].for_more_labels]
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


def intervals(task: Task, labels: np.ndarray, logits: list[np.ndarray], resamples: int, seed: int) -> dict[str, Any]:
    """Those that are given."""
    found = metric_intervals(task, labels, logits, confidence=0.95, resamples=resamples, seed=seed)
    return {name: one for name, one in found.items() if one.low is not None}


def bootstrapped(
    task: Task, labels: np.ndarray, predictions: list[np.ndarray], resamples: int, seed: int
) -> dict[str, Interval]:
    return bootstrap_intervals(task, labels, predictions, confidence=0.95, resamples=resamples, seed=seed)


def formula(name: str) -> Any:
    form = METRICS[name].resampled
    assert isinstance(form, OverCounts)
    return form.formula


COUNTED = [(CLASSES, 2), (CLASSES, 5), (SETS, 4)]
PROBLEMS = [*COUNTED, (NUMBERS, 1)]


@pytest.mark.parametrize(("problem", "columns"), COUNTED)
@pytest.mark.parametrize("models", [1, 2])
def test_a_resample_scores_as_its_examples_written_out(problem: str, columns: int, models: int) -> None:
    """Weights are a way to write a resample: scikit-learn on the repeated rows says the same."""
    task = make_task(problem, columns)
    labels, logits = draw(task, 60, models=models)
    predictions = [task.problem.predict(one) for one in logits]
    rows = np.random.default_rng(1).integers(0, 60, (20, 60))
    table = tabulate(task, labels, predictions)
    cells = cells_of(table, task, labels, predictions)
    weights = np.stack([np.bincount(cells[row], minlength=len(table.counts)) for row in rows]).astype(float)
    assert list(table.metrics) == task.metrics
    for name, compute in table.metrics.items():
        expected = [[value(name, task, labels[row], one[row]) for row in rows] for one in logits]
        assert compute(weights) == pytest.approx(np.array(expected), abs=1e-6), name


def value(name: str, task: Task, labels: np.ndarray, logits: np.ndarray) -> float:
    if name == "loss":
        return task.problem.loss(logits, labels)
    return METRICS[name].score(labels, task.problem.predict(logits))


def cells_of(table: Table, task: Task, labels: np.ndarray, predictions: list[np.ndarray]) -> np.ndarray:
    """Finds the cell of each example: by kind, or in the order in which they were spread."""
    if len(table.counts) == len(labels):
        return np.random.default_rng(0).permutation(len(labels))
    codes = np.ravel_multi_index((labels, *predictions), (task.columns,) * (1 + len(predictions)))
    return np.unique(codes, return_inverse=True)[1]


@pytest.mark.parametrize(("problem", "columns"), PROBLEMS)
def test_the_interval_is_about_the_score(problem: str, columns: int) -> None:
    task = make_task(problem, columns)
    labels, (one, two) = draw(task, 300, models=2)
    scores = [score(task, logits, labels) for logits in (one, two)]
    for name, interval in intervals(task, labels, [one], 200, 0).items():
        assert interval.low < scores[0][name] < interval.high
    for name, interval in intervals(task, labels, [one, two], 200, 0).items():
        assert interval.low < scores[1][name] - scores[0][name] < interval.high
    for name, (own, _) in influences(task, labels, one, example_losses(task, one, labels)):
        assert own == pytest.approx(scores[0][name], abs=1e-6)


def test_the_bootstraps_interval_of_an_accuracy_is_scipys() -> None:
    task = make_task(CLASSES, metrics=["accuracy"])
    labels, logits = draw(task, 408, models=2)
    one, two = (task.problem.predict(each) for each in logits)
    right = [(each == labels).astype(float) for each in (one, two)]
    for predictions, values in (([one], right[0]), ([one, two], right[1] - right[0])):
        ours = bootstrapped(task, labels, predictions, 10_000, 0)["accuracy"]
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


@pytest.mark.parametrize("name", ["pearson", "spearmanr", "mean_squared_error", "loss"])
def test_an_influence_is_what_an_example_left_out_takes_away(name: str) -> None:
    """Times n - 1, and up to terms of 1 / n: the jackknife."""
    task = make_task(NUMBERS)
    labels, (logits,) = draw(task, 400)
    own, influence = dict(influences(task, labels, logits, example_losses(task, logits, labels)))[name]
    assert own == pytest.approx(value(name, task, labels, logits), abs=1e-6)  # SciPy's, of float32
    assert influence.mean() == pytest.approx(0.0, abs=1e-9)
    left_out = [value(name, task, np.delete(labels, row), np.delete(logits, row, axis=0)) for row in range(400)]
    jackknife = 399 * (own - np.array(left_out))
    assert influence == pytest.approx(jackknife, abs=0.05 * np.abs(influence).max())


def test_students_interval_of_a_mean_is_that_of_the_textbook() -> None:
    """On the scale of a difference, with Satterthwaite's degrees of freedom for the variance of these very values."""
    values = np.random.default_rng(0).normal(1.0, 2.0, 50)
    own, influence = values.mean(), values - values.mean()
    kurtosis = np.mean(influence**4) / np.mean(influence**2) ** 2
    expected = stats.t.interval(0.95, 2 * 50 / (kurtosis - 1), own, values.std(ddof=1) / np.sqrt(50))
    assert student_interval(own, influence, PLAIN, 0.95) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scale", "to", "back", "slope"),
    [
        (LOGARITHM, np.log, np.exp, lambda own: 1 / own),
        (FISHER, np.arctanh, np.tanh, lambda own: 1 / (1 - own**2)),
    ],
)
def test_students_interval_of_one_model_is_taken_on_its_scale(scale: Any, to: Any, back: Any, slope: Any) -> None:
    influence = np.random.default_rng(0).exponential(size=60)
    influence -= influence.mean()
    squares = influence**2
    freedom = squares.sum() ** 2 / (squares**2).sum() - 1
    reach = stats.t.ppf(0.975, freedom) * influence.std(ddof=1) / np.sqrt(60) * slope(0.4)
    expected = back(to(0.4) - reach), back(to(0.4) + reach)
    assert student_interval(0.4, influence, scale, 0.95) == pytest.approx(expected)


def test_no_influence_is_no_interval() -> None:
    assert student_interval(0.4, np.zeros(60), LOGARITHM, 0.95) == (0.4, 0.4)


@pytest.mark.parametrize(
    ("right", "examples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_is_that_of_newcombe_and_statsmodels(right: int, examples: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    found = [float(end) for end in wilson_ends(np.array(right), np.array(examples), 0.95)]
    assert found == pytest.approx([low, high], abs=5e-5)
    assert found == pytest.approx(proportion_confint(right, examples, alpha=0.05, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost", "examples"), [(12, 2, 50), (0, 5, 20), (30, 19, 408), (1, 0, 30), (7, 7, 14), (0, 3, 3)]
)
def test_tangos_ends_are_where_the_score_is_1_96(gained: int, lost: int, examples: int) -> None:
    """The score by its definition: the likeliest shares under a difference are found by a search, not by a formula."""

    def score(difference: float) -> float:
        def minus_likelihood(share: float) -> float:
            rest = 1 - 2 * share - difference
            parts = [(gained, share + difference), (lost, share), (examples - gained - lost, rest)]
            return -sum(count * np.log(max(part, 1e-300)) for count, part in parts if count)

        bounds = (max(0.0, -difference), (1 - difference) / 2)
        share = float(minimize_scalar(minus_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x)
        variance = examples * (2 * share + difference - difference**2)
        return float((gained - lost - examples * difference) / np.sqrt(variance))

    low, high = (float(end) for end in tango_ends(np.array(gained), np.array(lost), np.array(examples), 0.95))
    assert low <= (gained - lost) / examples <= high
    for end, expected in ((low, 1.959964), (high, -1.959964)):
        if abs(end) < 1 - 1e-9:
            assert score(end) == pytest.approx(expected, abs=2e-3)


def test_tangos_interval_of_no_flips_is_wide() -> None:
    """z ** 2 / (n + z ** 2): Tango (1998), equation 24 with b = c = 0."""
    low, high = tango_ends(np.zeros(2), np.zeros(2), np.array([20, 408]), 0.95)
    expected = 1.959964**2 / (np.array([20, 408]) + 1.959964**2)
    assert high == pytest.approx(expected, abs=1e-6) and low == pytest.approx(-expected, abs=1e-6)


@pytest.mark.parametrize(("problem", "columns"), COUNTED)
@pytest.mark.parametrize("models", [1, 2])
def test_score_intervals_of_many_examples_are_about_the_bootstraps(problem: str, columns: int, models: int) -> None:
    task = make_task(problem, columns)
    labels, logits = draw(task, 4000, models=models)
    predictions = [task.problem.predict(one) for one in logits]
    formulas = {name: formula(name) for name in task.metrics if name != "accuracy"}
    scored = score_intervals(task, labels, predictions, formulas, 0.95)
    drawn = bootstrapped(task, labels, predictions, 2000, 0)
    for name, (low, high) in scored.items():
        width = drawn[name].high - drawn[name].low
        assert (low + high) / 2 == pytest.approx(drawn[name].value, abs=0.1 * width), name
        assert 0.6 * width < high - low < 1.5 * width, name


def test_a_score_interval_moves_each_class_by_its_own() -> None:
    """By hand, for two classes: Wilson's lower halves, in shares of all examples, added by squares."""
    task = make_task(CLASSES, metrics=["accuracy"])
    labels = np.array([0] * 30 + [1] * 10)
    predictions = np.array([0] * 25 + [1] * 5 + [1] * 10)
    low, _ = score_intervals(task, labels, [predictions], {"accuracy": formula("accuracy")}, 0.95)["accuracy"]
    ends = [float(wilson_ends(np.array(k), np.array(n), 0.95)[0]) for k, n in ((25, 30), (10, 10))]
    parts = np.array([25 - 30 * ends[0], 10 - 10 * ends[1]]) / 40
    assert low == pytest.approx(35 / 40 - np.sqrt(np.sum(parts**2)))


@pytest.mark.parametrize(("problem", "columns"), [(NUMBERS, 1), (CLASSES, 2)])
def test_groups_are_drawn_whole(problem: str, columns: int) -> None:
    """Twins say as much as one of them: the interval of pairs of equal examples is that of half as many."""
    task = make_task(problem, columns)
    labels, (logits,) = draw(task, 200)
    groups = np.repeat(np.arange(200), 2)
    twins = labels.repeat(2), [logits.repeat(2, axis=0)]
    single = intervals(task, labels, [logits], 4000, 0)
    found = metric_intervals(task, *twins, confidence=0.95, resamples=4000, seed=0, groups=groups)
    for name, one in single.items():
        if not is_share(task, name):
            assert (found[name].low, found[name].high) == pytest.approx(
                (one.low, one.high), abs=0.06 * (one.high - one.low)
            )


@pytest.mark.slow
def test_blocks_give_the_interval_of_single_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(SETS, 4)
    labels, (logits,) = draw(task, 3000)
    predictions = [task.problem.predict(logits)]
    blocks = bootstrapped(task, labels, predictions, 4000, 0)
    monkeypatch.setattr(tables, "MOST_CELLS", 3000)
    for name, exact in bootstrapped(task, labels, predictions, 4000, 0).items():
        width = exact.high - exact.low
        assert tuple(blocks[name]) == pytest.approx(tuple(exact), abs=0.08 * width), name


@pytest.mark.parametrize(("problem", "columns", "cells"), [(CLASSES, 2, 4), (SETS, 3, tables.MOST_CELLS)])
def test_a_million_examples_are_a_few_cells(problem: str, columns: int, cells: int) -> None:
    task = make_task(problem, columns)
    labels, (logits,) = draw(task, 1_000_000)
    assert len(tabulate(task, labels, [task.problem.predict(logits)]).counts) == cells


def test_the_seed_and_nothing_else_decides() -> None:
    task = make_task(CLASSES)
    labels, logits = draw(task, 100)
    one, two, three = (intervals(task, labels, logits, 500, seed) for seed in (0, 0, 1))
    assert one == two != three


def test_a_perfect_score_leaves_the_width_to_wilson() -> None:
    task = make_task(CLASSES, metrics=["accuracy", "f1"])
    labels = np.arange(100) % 2
    logits = np.eye(2, dtype=np.float32)[labels]
    assert bootstrapped(task, labels, [labels], 500, 0)["accuracy"] == (1.0, 1.0, 1.0)
    found = metric_intervals(task, labels, [logits], confidence=0.95, resamples=500, seed=0)
    assert found["accuracy"].low == pytest.approx(100 / (100 + 1.959964**2), abs=1e-6)
    assert found["accuracy"].method == "wilson" and found["f1"].high == 1.0
    # Each class of 50 may be 0.9286 right: by squares, a bit more than that of one class is lost by F1.
    assert 0.93 < (found["f1"].low or 0) < 0.97


@pytest.mark.parametrize(
    ("problem", "metric", "examples", "reason"),
    [
        (CLASSES, "accuracy", 5, None),
        (CLASSES, "f1_micro", 5, None),
        (CLASSES, "f1", 9, "9 examples; an interval takes 10"),
        (CLASSES, "f1", 40, "4 examples of 'label 1'; an interval takes 5 of each label"),
        (CLASSES, "f1_macro", 100, None),
        (CLASSES, "matthews_correlation", 100, None),
        (CLASSES, "loss", 190, "19 wrong answers carry the loss; its interval takes 20"),
        (CLASSES, "loss", 200, None),
        (NUMBERS, "pearson", 29, "29 examples; that of numbers takes 30"),
        (NUMBERS, "mean_squared_error", 30, None),
    ],
)
def test_an_interval_is_withheld_in_words_or_given(
    problem: str, metric: str, examples: int, reason: str | None
) -> None:
    """One in ten is of the second class, and one in ten is wrong."""
    task = make_task(problem)
    labels = np.arange(examples) % 10
    predictions = labels if problem == NUMBERS else np.where(labels == 1, 1, 0)
    if problem == CLASSES:
        labels = np.where(labels == 0, 1, 0)
        labels, predictions = labels, np.where(np.arange(examples) % 10 == 5, 1 - labels, labels)
    assert why_withheld(task, metric, labels, [predictions]) == reason


def test_what_may_change_unseen_widens_a_difference_of_no_change() -> None:
    """Equal logits of 200: 1.9 % may get another example's answer, which costs the mean loss of shuffled answers."""
    task = make_task(CLASSES, metrics=["accuracy"])
    labels, (logits,) = draw(task, 200)
    share = 1.959964**2 / (200 + 1.959964**2)
    shuffled = [task.problem.loss(logits[np.random.default_rng(seed).permutation(200)], labels) for seed in range(50)]
    reach = unseen(task, "loss", labels, [logits, logits], 0.95, 0)
    assert reach == pytest.approx(share * np.mean(shuffled), rel=0.2)
    found = metric_intervals(task, labels, [logits, logits], confidence=0.95, resamples=200, seed=0)
    assert (found["loss"].low, found["loss"].high) == pytest.approx((-reach, reach))


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


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_correlation_has_no_interval_and_no_traceback(sign: int) -> None:
    task = make_task(NUMBERS)
    labels = np.arange(60, dtype=np.float32)
    found = metric_intervals(task, labels, [sign * labels[:, np.newaxis]], confidence=0.95, resamples=200, seed=0)
    for name in ("pearson", "spearmanr"):
        assert (found[name].low, found[name].withheld) == (
            None,
            "no example differs from the others, so nothing says how sure it is",
        )


def test_of_one_label_alone_the_constant_is_perfect() -> None:
    task = make_task(CLASSES)
    found = constant_scores(task, np.ones(20, dtype=np.int64))
    assert found == {name: float(name != "matthews_correlation") for name in task.metrics} | {"loss": 0}


def test_constant_predictions_do_not_crash() -> None:
    for problem, columns in PROBLEMS:
        task = make_task(problem, columns)
        labels, _ = draw(task, 50)
        logits = np.zeros((50, columns), dtype=np.float32)
        for name, interval in metric_intervals(task, labels, [logits], confidence=0.95, resamples=200, seed=0).items():
            assert interval.low is None or interval.low <= score(task, logits, labels)[name] <= (interval.high or 0), (
                name
            )
