"""What params.yaml says in its section `download` of pairs in GLUE's columns: of a corpus like MRPC, of data/hard."""

from typing import Any

PAIRS: dict[str, Any] = {
    "text_column": "sentence1",
    "text_pair_column": "sentence2",
    "label_column": "label",
    "label_names": ["not_equivalent", "equivalent"],
    "group_column": None,
    "keep_columns": [],
}
HARD_PAIRS = PAIRS | {"dataset_files": "data/hard"}
