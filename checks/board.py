"""What a leaderboard holds, and its drawing: a dot and an interval for each model, as an SVG file that stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from checks.drawing import stand_alone

ROW_INCHES = 0.28
LONGEST_NAME = 40

BEST, TIED, WORSE = "best", "cannot be told apart", "worse"


@dataclass(frozen=True)
class Entry:
    """One model on one split."""

    revision: str
    changes: str  # parameters that not all of the models share
    score: float
    low: float | None  # of its interval at 1 - alpha; None: withheld
    high: float | None
    difference: float  # from the best
    difference_low: float | None
    difference_high: float | None
    p_value: float | None  # could chance alone make so much of it? None for the best
    p_holm: float | None  # the same, corrected for all pairs of models and all splits
    verdict: str


@dataclass(frozen=True)
class Board:
    """The models on one split, the best first."""

    split: str
    examples: int
    groups: int | None
    metric: str
    entries: list[Entry]


def draw_boards(boards: Sequence[Board], alpha: float) -> str:
    """Returns the text of an SVG file: the boards one below the other, each with the best model on top."""
    from stages.report.figures import COLOURS, canvas  # here: matplotlib is the report's alone, and takes seconds

    found: dict[str, Any] = {}
    rows = max(len(board.entries) for board in boards)
    height = (0.9 + ROW_INCHES * rows) * len(boards)
    with canvas("leaderboard", 6.4, height, found, nrows=len(boards), squeeze=False) as grid:
        for board, axes in zip(boards, grid[:, 0], strict=True):
            for row, one in enumerate(board.entries):
                worse = one.verdict == WORSE
                colour, marker = COLOURS["two" if worse else "one"], "s" if worse else "o"
                if one.low is not None and one.high is not None:
                    axes.hlines(row, one.low, one.high, color=colour, linewidth=2, alpha=0.6)
                axes.plot(one.score, row, marker, color=colour)
            axes.set_yticks(range(len(board.entries)), [_short(one.revision) for one in board.entries])
            axes.set_ylim(len(board.entries) - 0.4, -0.6)
            axes.axvline(board.entries[0].score, color=COLOURS["muted"], linewidth=1, linestyle=(0, (2, 2)))
            axes.set(xlabel=f"{board.metric} with {100 * (1 - alpha):g} % interval", title=board.split)
    return stand_alone(str(found["leaderboard"]), _description(boards))


def _description(boards: Sequence[Board]) -> str:
    return "; ".join(
        f"{board.split}, {board.metric}: "
        + ", ".join(f"{one.revision} {one.score:.4f} ({one.verdict})" for one in board.entries)
        for board in boards
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
