"""What a source of data hands over before its rows are brought to the canonical columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel

from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import ProblemType

UNLABELLED = -1  # what stands for a label, in every row of a split that has none
SPLIT = re.compile(r"train|(validation|test)(_\w+)?")
ORDER = ("train", "validation", "test")
# A cell that is a number. Not one: 007, which is a text to whoever wrote it.
NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf", re.IGNORECASE)
BATCH = 10_000  # rows that are in memory at once, where rows pass through Python or through a filter

Rows = TypeVar("Rows")


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


def in_order(splits: Mapping[str, Rows]) -> dict[str, Rows]:
    """Brings splits into the order train, validation, test, others, and those of one kind into that of their names.

    A source has an order of its own, and the Hub's may begin with test.
    """
    kinds = {split: split.split("_")[0] for split in splits}
    place = {split: ORDER.index(kind) if kind in ORDER else len(ORDER) for split, kind in kinds.items()}
    return {split: splits[split] for split in sorted(splits, key=lambda split: (place[split], split))}


def check_split(split: str) -> None:
    """Makes sure that a key of `download.split_files` is the name of a split.

    Raises:
        BadInput: it is not.
    """
    if not SPLIT.fullmatch(split):
        raise BadInput(
            f"params.yaml: download.split_files: {split}: a split is train, validation or test, "
            "or validation_<name> or test_<name>"
        )


def decode_labels(labels: Any, feature: Any, labelling: Labelling, place: str) -> Any:
    """Puts names in the place of codes where `feature` says that labels are stored as codes of a ClassLabel.

    A code is a position in the stored names, whatever the names are: class_encode_column stores 0 to 11 as the names
    0, 1, 10, 11, 2 and so on. For a regression names that are numbers are those numbers, and others leave the codes.

    Args:
        labels: int[rows], or lists of them; an array, or one in chunks.
        feature: what `datasets` says of the column: a ClassLabel, a list of them, or anything else.

    Returns:
        Texts, or lists of them, null for the code -1; `labels` itself where there are no names.

    Raises:
        BadInput: a code has no name.
    """
    names: list[Any] | None = stored_names(feature)
    if names is None:
        return labels
    if isinstance(labels, pa.ChunkedArray):
        return pa.chunked_array([decode_labels(chunk, feature, labelling, place) for chunk in labels.chunks])
    if pa.types.is_nested(labels.type):
        ends = np.cumsum(pc.fill_null(pc.list_value_length(labels), 0).to_numpy(), dtype=np.int32)
        held = decode_labels(labels.flatten(), feature, labelling, place)
        return pa.ListArray.from_arrays(pa.array(np.append(np.int32(0), ends)), held, mask=labels.is_null())
    if not pa.types.is_integer(labels.type):
        return labels  # rewritten by somebody who kept what was said of it
    codes = pc.if_else(pc.equal(labels, UNLABELLED), None, labels)
    fits = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names)))
    if pc.all(fits).as_py() is False:
        wrong = codes.filter(pc.invert(fits))[0].as_py()
        raise BadInput(
            f"{place}: column {labelling.label_column!r}: code {wrong} has no name among the {len(names)} that are "
            "stored with it; write the file anew"
        )
    if labelling.problem_type == "regression":
        numeric = all(map(NUMBER.fullmatch, names))
        names = list(map(float, names if numeric else range(len(names))))
    return pa.array(names).take(codes)


def stored_names(feature: Any) -> list[str] | None:
    """Returns the names of a ClassLabel, or of a list of them; None: it is neither."""
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, ClassLabel) else None
