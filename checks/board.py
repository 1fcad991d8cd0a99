"""What a leaderboard holds, and its drawing: a dot and an interval for each model, as an SVG file that stands alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

# What the page's style sheet has for the report's figures.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b2129",
    "muted": "#5a6573",
    "grid": "#e1e5ea",
    "one": "#2360a5",
    "two": "#b3510f",
}
DARK = {"paper": "#14181d", "ink": "#e7ebf0", "muted": "#a3afbd", "grid": "#333c46", "one": "#7db4f0", "two": "#f0a36b"}
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
    return _alone(str(found["leaderboard"]), _description(boards))


def _alone(svg: str, description: str) -> str:
    """Gives a figure of the page what it takes from the page: colours, font and words for who cannot see it."""
    colours, dark = ("".join(f"--{name}:{colour};" for name, colour in of.items()) for of in (LIGHT, DARK))
    style = (
        f"svg{{{colours}--font:system-ui,sans-serif;background:var(--paper)}}"
        f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}text{{font-family:var(--font)}}"
    )
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img"'
    head, _, rest = svg.partition(">")
    head = head.replace("<svg", f"<svg {names}").replace(' aria-hidden="true"', "")
    return f"{head}>\n<title>{escape(description)}</title>\n<style>{style}</style>{rest}\n"


def _description(boards: Sequence[Board]) -> str:
    return "; ".join(
        f"{board.split}, {board.metric}: "
        + ", ".join(f"{one.revision} {one.score:.4f} ({one.verdict})" for one in board.entries)
        for board in boards
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
