"""Reads label names that `datasets` stored: a ClassLabel has codes in the rows and their names in the schema."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Features

from stages.download.column_types import NUMBER
from stages.download.source import UNLABELLED, Labelling
from stages.shared.runtime.errors import BadInput


def stored_feature(schema: pa.Schema, column: str, place: str) -> Any:
    """Returns what `datasets` keeps of a column in the schema of its files; None where it keeps nothing.

    Raises:
        BadInput: what is kept there is not of its making.
    """
    if b"huggingface" not in (schema.metadata or {}):
        return None
    try:
        return Features.from_arrow_schema(schema).get(column)
    except Exception as error:  # of any kind: the file may hold anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BadInput(
            f"{place}: what `datasets` stored in its schema cannot be read ({reason}); write the file again"
        ) from None


def stored_names(feature: Any) -> list[str] | None:
    """Returns the names of a ClassLabel, or of a list of them; None where the feature is neither."""
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, ClassLabel) else None


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
        members = decode_labels(labels.flatten(), feature, labelling, place)
        return pa.ListArray.from_arrays(pa.array(np.append(np.int32(0), ends)), members, mask=labels.is_null())
    if not pa.types.is_integer(labels.type):
        return labels  # Another program has replaced the codes and kept what `datasets` said of the column.
    codes = pc.if_else(pc.equal(labels, UNLABELLED), None, labels)
    has_name = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names)))
    if pc.all(has_name).as_py() is False:
        wrong = codes.filter(pc.invert(has_name))[0].as_py()
        raise BadInput(
            f"{place}: column {labelling.label_column!r}: code {wrong} is none of the {len(names)} label names "
            "stored with it; write the file again"
        )
    if labelling.problem_type == "regression":
        numeric = all(map(NUMBER.fullmatch, names))
        names = list(map(float, names if numeric else range(len(names))))
    return pa.array(names).take(codes)
