"""What every source of data returns, before its rows are brought to the canonical columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

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
    text_column: str
    text_pair_column: str | None
    label_column: str
    label_names: list[str] | None
    label_delimiter: str | None = None
    group_column: str | None = None
    keep_columns: Sequence[str] = ()

    @property
    def text_columns(self) -> list[str]:
        """The names of one or two columns."""
        return [self.text_column] if self.text_pair_column is None else [self.text_column, self.text_pair_column]

    @property
    def columns(self) -> list[str]:
        """The names of all columns that are of use; `idx` is kept where a source has one."""
        groups = [] if self.group_column is None else [self.group_column]
        return list(dict.fromkeys([*self.text_columns, self.label_column, "idx", *groups, *self.keep_columns]))

    def columns_of(self, names: Sequence[str], split: str, place: str) -> list[str]:
        """Returns the columns of use that a table with the columns `names` has; a test split may lack labels.

        Raises:
            BadInput: a column that is asked for is missing, or two columns have the same name.
        """
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise BadInput(f"{place}: two columns are called {twice[0]!r}; rename or remove one")
        for key in ("text_column", "text_pair_column", "label_column", "group_column"):
            column = getattr(self, key)
            optional = column is None or (key == "label_column" and split_kind(split) == "test")
            if column not in names and not optional:
                raise BadInput(f"{place}: no column {column!r} (download.{key}), only {', '.join(names)}")
        for column in self.keep_columns:
            if column not in names:
                raise BadInput(f"{place}: no column {column!r} (download.keep_columns), only {', '.join(names)}")
        return [name for name in self.columns if name in names]


@dataclass(frozen=True)
class Source:
    """Rows as they were found, split by split."""

    kind: str  # files | glue | hub
    revision: str  # 40-hex commit, or sha256 of the files
    tables: Mapping[str, pa.Table]  # split name -> rows; may be memory-mapped
    places: Mapping[str, str]  # split name -> the file or repository to name in a message
    labelling: Labelling
    metrics: list[str] | None = None  # those that belong to the data; None: download.metrics names them


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> pa.Table:
    """Writes rows to an Arrow file and returns them memory-mapped, so that they need not fit into memory."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


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
