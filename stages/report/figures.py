"""The figures, as SVG that takes its colours and fonts from the page, so that one drawing fits every theme."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest

from stages.report.answers import BINS, Answers, histogram_quantiles
from stages.shared.statistics.labels import LabelScore
from stages.shared.task.metrics import METRICS

# Colours that occur nowhere else: in the SVG they become the page's own, `var(--ink)` and its like.
COLOURS = {
    "ink": "#010203",
    "muted": "#010204",
    "grid": "#010205",
    "one": "#010206",
    "two": "#010207",
    "three": "#010208",
    "four": "#010209",
}
SERIES = ("one", "two", "three", "four")
LINES = ("-", "--", "-.", ":")  # colour alone tells nothing to many readers
MARKERS = ("o", "s", "^", "D")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be selected, and the page's font draws it
    "text.parse_math": False,  # a label may hold dollar signs
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "text.color": COLOURS["ink"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}
CLASSES_SHOWN = 30  # rows of a figure that has one for each class
POINTS = 1500  # of a scatter plot
CURVES_SHOWN = 4  # of a figure with a curve for each class


@dataclass(frozen=True)
class Drawing:
    """A figure of the page."""

    name: str  # its id
    title: str
    caption: str
    description: str  # what it shows, for who cannot see it
    svg: Markup


@contextmanager
def canvas(name: str, width: float, height: float, found: dict[str, Markup], **grid: Any) -> Iterator[Any]:
    """Yields the axes of a new figure, sized in inches, and puts the finished SVG into `found` under `name`.

    Nobody's matplotlibrc, fonts or clock get into it: settings are matplotlib's own with ours on top, and only the
    fonts that matplotlib brings are measured.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page's font draws the text
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        matplotlib.rcParams["svg.hashsalt"] = name
        fontManager.ttflist = _own_fonts()
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)
        yield figure.subplots(**grid)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    found[name] = _for_the_page(stream.getvalue())


@cache
def _own_fonts() -> list[FontEntry]:
    """Returns the entry of the one font that the figures are laid out with, as matplotlib brings it."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return [FontEntry(fname=str(path), name="DejaVu Sans", style="normal", variant="normal", weight=400)]


def _for_the_page(svg: str) -> Markup:
    """Takes away what a page does not need of an SVG file, and gives it the page's colours.

    Texts were escaped by matplotlib, so the result is safe as it is.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([A-Za-z][\w.-]*)", svg))  # a page has each id once; these are hashes
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"(font: (?:\w+ )*[\d.]+px) [^;\"]*", r"\1 var(--font)", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(re.sub(r"\n\s*", "\n", svg).strip())


def learning_curves(
    history: Sequence[Mapping[str, float]],
    metrics: Sequence[str],
    kept: int,
    split: str,
    intervals: Mapping[str, Mapping[str, Any] | None],
) -> list[Drawing]:
    """Loss on train and validation after each epoch, and as many metrics of validation as lines can be told apart.

    A squared error is not among these: it has a scale of its own, and is the loss already.

    Args:
        intervals: the records of the kept epoch's metrics on `split`, where there are any; they are drawn at it.
    """
    losses = {"train": "train_loss", split: "loss"}
    by_epoch = partial(_by_epoch, history=history, kept=kept, intervals=intervals)
    drawings = [by_epoch("learning-curve-loss", "Loss", losses, unit="loss")]
    scores = {name: name for name in metrics if METRICS[name].greater_is_better}
    scores = dict(list(scores.items())[: len(SERIES)])
    if scores:
        title = f"Metrics on {split}"
        drawings.append(by_epoch("learning-curve-metrics", title, scores, unit="score"))
    return drawings


def _by_epoch(
    name: str,
    title: str,
    columns: Mapping[str, str],
    *,
    unit: str,
    history: Sequence[Mapping[str, float]],
    kept: int,
    intervals: Mapping[str, Mapping[str, Any] | None],
) -> Drawing:
    """Draws columns of the history, given as label -> column, and marks the kept epoch, with the intervals there."""
    epochs = [row["epoch"] for row in history]
    found: dict[str, Markup] = {}
    drawn = None
    with canvas(name, 4.2, 2.8, found) as axes:
        for index, (label, column) in enumerate(columns.items()):
            axes.plot(epochs, [row[column] for row in history], **_line(index), label=label)
            record = intervals.get(column)
            if record and record["low"] is not None:
                place = kept + 0.02 * index * len(history)  # beside each other, where several would hide one another
                axes.vlines(
                    place, record["low"], record["high"], color=COLOURS[SERIES[index]], linewidth=2.5, alpha=0.6
                )
                drawn = record["confidence"]
        axes.axvline(kept, color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)))
        axes.set(ylabel=unit, xlabel="epoch", xlim=(min(epochs) - 0.2, max(epochs) + 0.2))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        _legend(axes)
    description = "; ".join(
        f"{label} went from {history[0][column]:.4f} to {history[-1][column]:.4f}" for label, column in columns.items()
    )
    description += f", in {len(history)} epoch{'s' if len(history) > 1 else ''}. Epoch {kept} was kept."
    measured = "Measured at the end of each epoch"
    if "train_loss" in columns.values():
        measured += "; the loss on train is the mean during the epoch, while the model learns"
    caption = f"{measured}. Epoch {kept}, at the dotted line, was kept"
    caption += f"; the bars there are its {100 * drawn:g} % intervals." if drawn else "."
    return Drawing(name, title, caption, description, found[name])


def _line(index: int) -> dict[str, Any]:
    return {"color": COLOURS[SERIES[index]], "linestyle": LINES[index], "marker": MARKERS[index]}


def binary_scores(answers: Answers, names: Sequence[str]) -> Drawing:
    """How probable the second of two classes was held, for the examples of either."""
    name = f"scores-{answers.split}"
    bars = answers.histogram[1].reshape(2, 20, BINS // 20).sum(axis=2)
    found: dict[str, Markup] = {}
    with canvas(name, 4.2, 2.8, found) as axes:
        edges = np.linspace(0, 1, 21)
        for index, label in enumerate(names):
            colour = COLOURS[SERIES[index]]
            axes.stairs(bars[index], edges, color=colour, linestyle=LINES[index], linewidth=1.6, label=label)
            axes.stairs(bars[index], edges, color=colour, fill=True, alpha=0.15)
        axes.axvline(0.5, color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)))
        axes.set(xlabel=f"probability of {_short(names[1])}", ylabel="examples", xlim=(0, 1))
        _legend(axes)
    middle = [histogram_quantiles(answers.histogram[1, index], (0.5,))[0] for index in range(2)]
    description = "; ".join(
        f"examples of {label} have a median probability of {names[1]} of {median:.2f}"
        for label, median in zip(names, middle, strict=True)
        if not np.isnan(median)
    )
    caption = (
        "If the two peaks are far apart, the model separates the classes. The prediction changes at the dotted line."
    )
    return Drawing(name, "Scores by true label", caption, description, found[name])


def class_scores_strips(answers: Answers, scores: Sequence[LabelScore]) -> Drawing:
    """How probable each class was held, for examples that are of it and for the others."""
    name = f"scores-{answers.split}"
    shown = most_frequent(scores)
    found: dict[str, Markup] = {}
    with canvas(name, 4.2, 1.0 + 0.24 * len(shown), found) as axes:
        for member, offset, series, label in ((1, -0.16, "one", "of the class"), (0, 0.16, "two", "of others")):
            quantiles = np.stack(
                [histogram_quantiles(answers.histogram[i, member], (0.05, 0.25, 0.5, 0.75, 0.95)) for i in shown]
            )
            rows = np.arange(len(shown)) + offset
            axes.hlines(rows, quantiles[:, 0], quantiles[:, 4], color=COLOURS[series], linewidth=1)
            axes.hlines(rows, quantiles[:, 1], quantiles[:, 3], color=COLOURS[series], linewidth=3.5)
            axes.plot(quantiles[:, 2], rows, MARKERS[1 - member], color=COLOURS[series], label=label, markersize=5)
        axes.set_yticks(range(len(shown)), [_short(scores[i].name) for i in shown])
        axes.set(xlabel="probability of the class", xlim=(0, 1))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        _legend(axes)
    medians = [histogram_quantiles(answers.histogram[i, 1], (0.5,))[0] for i in shown]
    description = "Median probability of its class, for examples of it: " + ", ".join(
        f"{scores[i].name} {median:.2f}" for i, median in zip(shown, medians, strict=True) if not np.isnan(median)
    )
    caption = "Median, middle 50 % and middle 90 % of the probability of the class."
    if len(shown) < len(scores):
        caption += f" Shown are the {len(shown)} most frequent of {len(scores)} classes."
    return Drawing(name, "Scores by true label", caption, description, found[name])


def most_frequent(scores: Sequence[LabelScore]) -> list[int]:
    """Returns the classes that a figure has rows for, in the order of the logits."""
    by_frequency = sorted(range(len(scores)), key=lambda i: -scores[i].actual)
    return sorted(by_frequency[:CLASSES_SHOWN])


def scatter(answers: Answers) -> Drawing:
    """Predicted against true numbers."""
    name = f"scatter-{answers.split}"
    rows = np.unique(np.linspace(0, len(answers) - 1, min(POINTS, len(answers))).astype(np.int64))
    truth, predicted = np.asarray(answers.labels[rows]), answers.predicted[rows]
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    found: dict[str, Markup] = {}
    with canvas(name, 4.2, 3.6, found) as axes:
        axes.plot([low, high], [low, high], color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)), label="equal")
        axes.plot(truth, predicted, "o", color=COLOURS["one"], alpha=0.45, markersize=3, markeredgewidth=0)
        axes.set(xlabel="true", ylabel="predicted")
        _legend(axes)
    caption = "Predictions on the dotted line are exact."
    if len(rows) < len(answers):
        caption += f" {len(rows):,} of {len(answers):,} examples are shown, evenly spaced in the split."
    description = (
        f"True values from {truth.min():.2f} to {truth.max():.2f}, predicted ones from {predicted.min():.2f} to "
        f"{predicted.max():.2f}."
    )
    return Drawing(name, "Predicted against true", caption, description, found[name])


def residuals(answers: Answers) -> Drawing:
    """How the errors of numbers are distributed."""
    name = f"residuals-{answers.split}"
    errors = answers.predicted.astype(np.float64) - np.asarray(answers.labels)
    found: dict[str, Markup] = {}
    with canvas(name, 4.2, 3.6, found) as axes:
        counts, edges = np.histogram(errors, bins=24)
        axes.stairs(counts, edges, color=COLOURS["one"], linewidth=1.6)
        axes.stairs(counts, edges, color=COLOURS["one"], fill=True, alpha=0.15)
        axes.axvline(0.0, color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)))
        axes.set(xlabel="predicted minus true", ylabel="examples")
    description = (
        f"The mean error is {errors.mean():+.3f}, the mean absolute error {np.abs(errors).mean():.3f}, the largest "
        f"{np.abs(errors).max():.3f}."
    )
    return Drawing(name, "Errors", "Left of the dotted line, the prediction is too low.", description, found[name])


def reliability(
    rows: Sequence[Mapping[str, str]], split: str, interval: float, calibrated: Sequence[Mapping[str, str]] = ()
) -> Drawing:
    """Share that is right against the confidence it was said with, in bins (columns of calibration.csv).

    Args:
        interval: the confidence of the interval that is drawn around each share, Wilson's.
        calibrated: the same of calibrated probabilities, if there are any; then the others are but a line.
    """
    name = f"reliability-{split}"
    filled = [row for row in calibrated or rows if float(row["examples"]) > 0]
    confidence, accuracy, count = (
        np.array([float(row[column]) for row in filled]) for column in ("confidence", "accuracy", "examples")
    )
    gap = _gap(filled)
    ends = [
        binomtest(round(share * number), int(number)).proportion_ci(interval, method="wilson")
        for share, number in zip(accuracy, count, strict=True)
    ]
    found: dict[str, Markup] = {}
    with canvas(name, 4.2, 2.8, found) as axes:
        right = "as right as they say" if calibrated else "calibrated"
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)), label=right)
        if calibrated:
            own = [[float(row[column]) for row in rows] for column in ("confidence", "accuracy")]
            axes.plot(*own, color=COLOURS["two"], linestyle="--", marker="s", label="the model's own")
        label = "calibrated" if calibrated else None
        axes.plot(confidence, accuracy, color=COLOURS["one"], linewidth=1, label=label)
        axes.vlines(
            confidence, [end.low for end in ends], [end.high for end in ends], color=COLOURS["one"], linewidth=1
        )
        axes.scatter(
            confidence,
            accuracy,
            s=12 + 110 * count / count.max(),
            color=COLOURS["one"],
            alpha=0.8,
            linewidths=0,
            clip_on=False,
        )
        axes.set(xlabel="confidence", ylabel="share correct", xlim=(0, 1.02), ylim=(-0.02, 1.02))
        _legend(axes)
    caption = (
        "Below the dotted line the model is overconfident, above it underconfident. A larger dot stands for more "
        f"examples, and its line is their {100 * interval:g} % interval. The expected calibration error, the mean "
        f"distance from the dotted line, is {gap:.3f}."
    )
    if calibrated:
        caption = caption.removesuffix(".") + f", and {_gap(rows):.3f} for the model's own probabilities."
    description = "; ".join(
        f"at a confidence of {c:.2f}, {a:.2f} right ({int(n)} examples)"
        for c, a, n in zip(confidence, accuracy, count, strict=True)
    )
    return Drawing(name, "Reliability", caption, description, found[name])


def _gap(rows: Sequence[Mapping[str, str]]) -> float:
    """Returns the expected calibration error of some bins."""
    confidence, accuracy, count = (
        np.array([float(row[column]) for row in rows]) for column in ("confidence", "accuracy", "examples")
    )
    return float(np.sum(count * np.abs(confidence - accuracy)) / np.sum(count))


def precision_recall(rows: Sequence[Mapping[str, str]], split: str, prevalence: Mapping[str, float]) -> Drawing:
    """Precision against recall at every threshold (columns of precision_recall.csv).

    Args:
        prevalence: the share of the examples that carry each label, which is the precision of a model that guesses.
    """
    name = f"precision-recall-{split}"
    curves = read_curves(rows, "recall", "precision")
    shown, found = shown_curves(curves, prevalence), dict[str, Markup]()
    with canvas(name, 4.2, 2.8, found) as axes:
        draw_curves(axes, shown)
        for index, label in enumerate(shown):
            axes.axhline(prevalence[label], color=COLOURS[SERIES[index]], linewidth=1, linestyle=(0, (1, 2)))
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(-0.02, 1.02))
        _legend(axes)
    caption = (
        "Along the curve, the threshold falls: recall rises, and precision usually drops. The horizontal dotted line "
        "is the share of examples with the label, which is the precision of random guessing. With average_precision in "
        "evaluate.metrics, the average precision is among the results." + _most_frequent_of(shown, curves, prevalence)
    )
    half = {label: precision[np.abs(recall - 0.5).argmin()] for label, (recall, precision) in curves.items()}
    description = "Precision at a recall of one half: " + ", ".join(
        f"{label} {value:.2f}" for label, value in half.items()
    )
    return Drawing(name, "Precision and recall", caption, description, found[name])


def roc(rows: Sequence[Mapping[str, str]], split: str, prevalence: Mapping[str, float]) -> Drawing:
    """True against false positives at every threshold (columns of roc.csv).

    Args:
        prevalence: the share of the examples that carry each label.
    """
    name = f"roc-{split}"
    curves = read_curves(rows, "false_positive_rate", "true_positive_rate")
    shown, found = shown_curves(curves, prevalence), dict[str, Markup]()
    with canvas(name, 4.2, 2.8, found) as axes:
        draw_curves(axes, shown)
        axes.plot([0, 1], [0, 1], color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)), label="chance")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        _legend(axes)
    areas = {label: float(np.trapezoid(up, across)) for label, (across, up) in curves.items()}
    area = "Area under the curve: " + ", ".join(f"{label} {value:.3f}" for label, value in areas.items())
    caption = (
        f"{area}. With roc_auc in evaluate.metrics, the area and its interval are among the results."
        f"{_most_frequent_of(shown, curves, prevalence)}"
    )
    return Drawing(name, "ROC", caption, area, found[name])


def read_curves(rows: Sequence[Mapping[str, str]], across: str, up: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the two coordinates, float64[points], of every label's curve, in the order of the rows."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        points.setdefault(row["label"], []).append((float(row[across]), float(row[up])))
    return {label: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for label, pairs in points.items()}


def shown_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], prevalence: Mapping[str, float]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns as many curves as can be told apart: of more labels those that most examples carry, in their order."""
    most = sorted(curves, key=lambda label: -prevalence[label])[:CURVES_SHOWN]
    return {label: curve for label, curve in curves.items() if label in most}


def draw_curves(axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Draws the curves."""
    for index, (label, (across, up)) in enumerate(curves.items()):
        axes.plot(across, up, color=COLOURS[SERIES[index]], linestyle=LINES[index], label=_short(label))


def _most_frequent_of(shown: Mapping[str, Any], curves: Mapping[str, Any], prevalence: Mapping[str, float]) -> str:
    """Says by what rule labels were left out, if any were."""
    return f" Shown are the {len(shown)} most frequent of {len(prevalence)} labels." if len(shown) < len(curves) else ""


def _legend(axes: Axes) -> None:
    """Names the lines above the axes, where nothing is drawn that it could hide."""
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        room = sum(len(label) + 5 for label in labels) <= 48
        columns = len(labels) if room else 2 if max(map(len, labels)) <= 18 else 1
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderaxespad=0.2, handlelength=2.2)


def _short(label: str, longest: int = 24) -> str:
    return label if len(label) <= longest else f"{label[: longest - 1]}…"
