"""The pairs of data/hard, as the section `download` of params.yaml."""

from typing import Any

HARD_PAIRS: dict[str, Any] = {
    "dataset_files": "data/hard",
    "text_column": "sentence1",
    "text_pair_column": "sentence2",
    "label_names": ["not_equivalent", "equivalent"],
    "group_column": None,
    "keep_columns": [],
}
