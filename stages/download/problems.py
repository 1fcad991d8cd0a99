"""What is wrong with the rows of the data, gathered so that one run names all of it."""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_LISTED_ROWS = 20  # of each kind of problem; the others are counted
MAX_LISTED_KINDS = 20


@dataclass(frozen=True)
class RowFault:
    """Something that is wrong with some rows of a split."""

    split: str
    place: str  # the file or repository to name
    rows: list[int]  # places in the split's table, from 0
    what: str  # such as "no text in column 'a'"
    remedy: str
    named: list[str]  # the first MAX_LISTED_ROWS of them, as a reader of the file finds them

    @property
    def message(self) -> str:
        """The problem in words."""
        return f"{self.place}: {rows_in_words(self.named, len(self.rows))}: {self.what}; {self.remedy}"


def rows_in_words(named: Sequence[str], count: int) -> str:
    """Names rows, and counts those that are not named."""
    if count == 1:
        return f"row {named[0]}"
    *most, last = [*named, *([f"{count - len(named)} more"] if count > len(named) else [])]
    return f"rows {', '.join(most)} and {last}"


def problems_in_words(problems: Sequence[RowFault]) -> str:
    """Says all problems; of many kinds, the first ones."""
    if len(problems) == 1:
        return problems[0].message
    rows = len({(problem.split, row) for problem in problems for row in problem.rows})
    shown = [problem.message for problem in problems[:MAX_LISTED_KINDS]]
    if len(problems) > MAX_LISTED_KINDS:
        shown.append(f"{len(problems) - MAX_LISTED_KINDS} more kinds of problems")
    return f"{len(problems)} problems in {rows} row{'s' if rows > 1 else ''}: {'; also '.join(shown)}"
