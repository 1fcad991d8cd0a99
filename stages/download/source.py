"""What a source of data hands over before its rows are brought to the canonical columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from stages.shared.errors import BadInput
from stages.shared.task import ProblemType

UNLABELLED = -1  # what stands for a label, in every row of a split that has none
BATCH = 10_000  # rows that are in memory at once, where rows pass through Python or through a filter


@dataclass(frozen=True)
class Labelling:
    """Which columns are the texts and the label, and how the label is to be read."""

    problem_type: ProblemType
    text_column: str
    text_pair_column: str | None
    label_column: str
    label_names: list[str] | None
    label_delimiter: str | None = None  # between the labels of one row, where they are one text

    @property
    def text_columns(self) -> list[str]:
        """The names of one or two columns."""
        return [self.text_column] if self.text_pair_column is None else [self.text_column, self.text_pair_column]

    @property
    def columns(self) -> list[str]:
        """The names of all columns that are of use; `idx` is kept where a source has one."""
        return list(dict.fromkeys([*self.text_columns, self.label_column, "idx"]))

    def check_columns(self, names: Sequence[str], split: str, place: str) -> None:
        """Makes sure that a table has every column that is asked for, each once; a test split may lack labels.

        Raises:
            BadInput: one is missing, or two have one name.
        """
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise BadInput(f"{place}: two columns are called {twice[0]!r}; rename or remove one")
        for key in ("text_column", "text_pair_column", "label_column"):
            column = getattr(self, key)
            optional = column is None or (key == "label_column" and split.split("_")[0] == "test")
            if column not in names and not optional:
                raise BadInput(f"{place}: no column {column!r} (download.{key}), only {', '.join(names)}")


@dataclass(frozen=True)
class Source:
    """Rows as they were found, split by split."""

    kind: str  # files | glue | hub
    revision: str  # 40-hex commit, or sha256 of the files
    tables: Mapping[str, pa.Table]  # split name -> rows; may be memory-mapped
    places: Mapping[str, str]  # split name -> the file or repository to name in a message
    labelling: Labelling
    metrics: list[str]


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: Path) -> pa.Table:
    """Writes rows to an Arrow file and returns them memory-mapped, so that they need not fit into memory."""
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
