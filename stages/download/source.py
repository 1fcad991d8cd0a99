"""What a source of data hands over before its rows are brought to the canonical columns."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from stages.shared.task import ProblemType


@dataclass(frozen=True)
class Labelling:
    """Which columns are the texts and the label, and how the label is to be read."""

    problem_type: ProblemType
    text_column: str
    text_pair_column: str | None
    label_column: str
    label_names: list[str] | None


@dataclass(frozen=True)
class Source:
    """Rows as they were found, split by split."""

    kind: str  # files | glue | hub
    revision: str  # 40-hex commit, or sha256 of the files
    tables: Mapping[str, pa.Table]  # split name -> rows
    places: Mapping[str, str]  # split name -> the file or repository to name in a message
    labelling: Labelling
    metrics: list[str]
