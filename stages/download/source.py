"""What every source of data returns, before its rows are brought to the canonical columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from stages.download.problems import MAX_LISTED_ROWS, RowFault, problems_in_words
from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import ProblemType

UNLABELLED = -1  # It stands for the label in every row of a split that has no labels, as in GLUE's test splits.
SPLIT_NAME = re.compile(r"train|(validation|test)(_\w+)?")
SPLIT_KINDS = ("train", "validation", "test")
BATCH_ROWS = 10_000  # As many rows are in memory at once where rows pass through Python or through a filter.

Rows = TypeVar("Rows")


@dataclass(frozen=True)
class Labelling:
    """Which columns are the texts and the label, and how the label is to be read; the fields are parameters."""

    problem_type: ProblemType
    text_column: str | list[str]
    text_pair_column: str | list[str] | None
    label_column: str
    label_names: list[str] | None
    label_delimiter: str | None = None
    label_aliases: Mapping[str, str | None] | None = None
    group_column: str | None = None
    id_column: str | None = None
    keep_columns: Sequence[str] = ()

    @property
    def texts(self) -> list[list[str]]:
        """For the text, and for the second one of a pair, the names of the columns that it is joined from."""
        return [as_list(columns) for columns in (self.text_column, self.text_pair_column) if columns is not None]

    @property
    def text_columns(self) -> list[str]:
        """The names of all columns of texts, each once."""
        return list(dict.fromkeys(name for columns in self.texts for name in columns))

    @property
    def columns(self) -> list[str]:
        """The names of all columns that are of use; `idx` is kept where a source has one."""
        others = [name for name in (self.group_column, self.id_column) if name is not None]
        return list(dict.fromkeys([*self.text_columns, self.label_column, "idx", *others, *self.keep_columns]))

    def columns_of(self, names: Sequence[str], split: str, place: str) -> list[str]:
        """Returns the columns of use that a table with the columns `names` has; a test split may lack labels.

        Raises:
            BadInput: a column that is asked for is missing, or two columns have the same name.
        """
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise BadInput(f"{place}: two columns are called {twice[0]!r}; rename or remove one")
        keys = ("text_column", "text_pair_column", "label_column", "group_column", "id_column", "keep_columns")
        for key in keys:
            optional = key == "label_column" and split_kind(split) == "test"
            for column in as_list(getattr(self, key)):
                if column not in names and not optional:
                    raise BadInput(f"{place}: no column {column!r} (download.{key}), only {', '.join(names)}")
        return [name for name in self.columns if name in names]


def as_list(columns: str | Sequence[str] | None) -> list[str]:
    """Returns the names of columns that are given as one name, several or none."""
    return [columns] if isinstance(columns, str) else list(columns or ())


@dataclass(frozen=True)
class Source:
    """Rows as they were found, split by split, and what is wrong with them."""

    kind: str  # files | glue | hub
    revision: str  # 40-hex commit, or sha256 of the files
    tables: Mapping[str, pa.Table]  # split name -> rows; may be memory-mapped
    places: Mapping[str, str]  # split name -> the file or repository to name in a message
    labelling: Labelling
    metrics: list[str] | None = None  # those that belong to the data; None: download.metrics names them
    # Split name -> int64[rows]: the number of each row in its files, from 0; of a split that lost none, nothing.
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    headers: Mapping[str, np.ndarray] = field(default_factory=dict)  # split -> int64[some]: rows that are no examples
    problems: list[RowFault] = field(default_factory=list)  # what `report` was told of

    def report(self, split: str, rows: Any, what: str, remedy: str) -> None:
        """Notes something that is wrong with rows of a split; `refuse` says it, with all else that is wrong.

        Args:
            rows: int[any]: places in the table, from 0. None of them: nothing is wrong.
        """
        rows = np.setdiff1d(np.asarray(rows, dtype=np.int64), self.headers.get(split, ())).tolist()
        if rows:
            self.problems.append(RowFault(split, self.places[split], rows, what, remedy, self._named(split, rows)))

    def refuse(self) -> None:
        """Says all that was reported.

        Raises:
            BadInput: something was.
        """
        if self.problems:
            raise BadInput(problems_in_words(self.problems))

    def _named(self, split: str, rows: Sequence[int]) -> list[str]:
        """Names the first few of some rows as a reader of the file finds them: by number, and by id where they have."""
        shown = np.asarray(rows[:MAX_LISTED_ROWS])
        numbers = self.numbers[split][shown] if split in self.numbers else shown
        column = self.labelling.id_column
        if column is None:
            return [str(number + 1) for number in numbers.tolist()]
        ids = self.tables[split][column].take(pa.array(shown)).to_pylist()
        return [f"{number + 1} (id {name})" for number, name in zip(numbers.tolist(), ids, strict=True)]


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> pa.Table:
    """Writes rows to an Arrow file and returns them memory-mapped, so that they need not fit into memory."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def filtered(table: pa.Table, chosen: np.ndarray, file: Path) -> pa.Table:
    """Returns the rows where `chosen`, bool[rows], holds, memory-mapped from a new file."""
    batches = table.to_batches(BATCH_ROWS)
    masks = np.split(chosen, np.cumsum(list(map(len, batches)))[:-1])
    kept = (batch.filter(pa.array(mask)) for batch, mask in zip(batches, masks, strict=True))
    return spill(kept, table.schema, file)


def split_kind(split: str) -> str:
    """Returns what a split is used as: `validation` for validation_matched."""
    return split.partition("_")[0]


def in_order(splits: Mapping[str, Rows]) -> dict[str, Rows]:
    """Brings splits into the order train, validation, test, others, and those of one kind into that of their names.

    The sources have orders of their own: that of a dataset on the Hub may begin with test.
    """

    def place(split: str) -> tuple[int, str]:
        return (*SPLIT_KINDS, split_kind(split)).index(split_kind(split)), split

    return {split: splits[split] for split in sorted(splits, key=place)}


def check_split_name(split: str) -> None:
    """Makes sure that a key of `download.split_files` is the name of a split.

    Raises:
        BadInput: it is not.
    """
    if not SPLIT_NAME.fullmatch(split):
        raise BadInput(
            f"params.yaml: download.split_files: {split}: a split is train, validation or test, "
            "or validation_<name> or test_<name>"
        )
