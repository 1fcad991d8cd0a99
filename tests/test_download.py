"""download: the stage as a whole says what it made, and bad input leaves nothing behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from stages.shared.task.task import read_task
from tests.tables import PAIRS, write_csv


def test_the_task_says_what_was_asked_and_where_it_came_from_but_no_path(
    run_download: Callable[..., Any], tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        write_csv(tmp_path / "data" / f"{split}.csv", PAIRS)
    run_download()
    task = read_task(tmp_path / "raw" / "task.json")
    assert (task.name, task.problem_type, task.label_names) == ("files", "single_label_classification", ["no", "yes"])
    assert len(task.revision) == 64
    assert str(tmp_path) not in (tmp_path / "raw" / "task.json").read_text()


BAD: dict[str, Any] = {
    "a missing column": (
        {"train": PAIRS, "validation": PAIRS},
        {"text_column": "sentence"},
        r"train.csv: no column 'sentence' \(download.text_column\), only a, b, y",
    ),
    "an unknown label": (
        {"train": PAIRS, "validation": [*PAIRS, ("x", "y", 7)]},
        {},
        r"validation.csv: row 5: label 7 is not among download.label_names \['no', 'yes'\]; add it there",
    ),
    "a label seen only in validation": (
        {"train": [("x", "y", "a"), ("v", "w", "b")], "validation": [("x", "z", "c")]},
        {"label_names": None},
        r"validation.csv: row 1: label 'c' is never seen in train \(\['a', 'b'\]\)",
    ),
    "a named label seen only in validation": (
        {"train": [("x", "y", "a"), ("v", "w", "b")], "validation": [("x", "z", "c")]},
        {"label_names": ["a", "b", "c"]},
        r"validation.csv: row 1: label 'c' is never seen in train",
    ),
    "an empty split": (
        {"train": PAIRS, "validation": []},
        {},
        r"validation.csv: the validation split is empty; add rows or remove it",
    ),
    "a null text": (
        {"train": PAIRS, "validation": [*PAIRS, ("x", None, 1)]},
        {},
        r"validation.csv: row 5: no text in column 'b'; fill it in or remove the row",
    ),
    "a null label": (
        {"train": [*PAIRS, ("x", "y", None)], "validation": PAIRS},
        {},
        r"train.csv: row 5: no value in column 'y'; label every row of the split, or none",
    ),
    "one class only": (
        {"train": [("x", "y", "a")], "validation": [("x", "z", "a")]},
        {"label_names": None},
        r"a classification needs two or more different labels, got \['a'\]",
    ),
    "a blank label": (
        {"train": [*PAIRS, ("x", "y", "  ")], "validation": PAIRS},
        {},
        r"train.csv: row 5: no value in column 'y'",
    ),
    "a label that is no plain number": (
        {"train": [("x", "y", "5"), ("v", "w", "05")], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: row 2: a regression needs numbers in its label column, found '05'",
    ),
    "a label with an underscore": (
        {"train": [("x", "y", "5"), ("v", "w", "1_000")], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: row 2: a regression needs numbers in its label column, found '1_000'",
    ),
    "a number of more than 32 bits": (
        {"train": [("x", "y", 1), ("v", "w", 1e39)], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: row 2: label 1e\+39 is not a finite 32-bit number; correct the row",
    ),
    "a validation split of -1": (
        {"train": [("x", "y", 1), ("v", "w", 0.5)], "validation": [("x", "z", -1)]},
        {"problem_type": "regression"},
        r"validation.csv: the validation split has no labels, or -1 throughout",
    ),
    "a train split of -1": (
        {"train": [("x", "y", -1)], "validation": PAIRS},
        {"problem_type": "regression"},
        r"train.csv: no labels in column 'y', or -1 throughout; the train split needs a label in every row",
    ),
    "fractions that leave nothing": (
        {"train": PAIRS},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        r"download: validation_fraction 0.5, test_fraction 0.5 leave no rows for train; together they must be below 1",
    ),
    "files of the splits of GLUE": (
        {},
        {"dataset": "glue/mrpc", "split_files": {"train": "a"}},
        r"download.split_files: glue/\* brings its own splits; set it to null",
    ),
    "texts for a regression": (
        {"train": [("x", "y", "a")], "validation": [("x", "z", "a")]},
        {"problem_type": "regression"},
        r"train.csv: row 1: a regression needs numbers in its label column, found 'a'",
    ),
    "no train split": (
        {"validation": PAIRS},
        {},
        r"no train.csv\|tsv\|jsonl\|parquet\|arrow there, only validation.csv",
    ),
    "no validation split": ({"train": PAIRS}, {}, r"no validation split; add one, set download.validation_fraction"),
    "a fraction for a split that exists": (
        {"train": PAIRS, "validation": PAIRS},
        {"validation_fraction": 0.5},
        r"download.validation_fraction: the data already have a validation split; set it to null",
    ),
    "an unknown source": (
        {"train": PAIRS, "validation": PAIRS},
        {"dataset": "kaggle:x"},
        r"download.dataset: must be files, glue/<task> or hub:<owner>/<name>, got 'kaggle:x'",
    ),
    "an unknown GLUE task": ({}, {"dataset": "glue/xyz"}, r"download.dataset: unknown GLUE task 'xyz'; known: "),
    "an unknown checkpoint": (
        {"train": PAIRS, "validation": PAIRS},
        {"checkpoint": "s3:x"},
        r"download.checkpoint: must be files, package:<module>/<folder> or hub:<owner>/<name>, got 's3:x'",
    ),
    "a package that is not installed": (
        {"train": PAIRS, "validation": PAIRS},
        {"checkpoint": "package:no_such_package/model"},
        r"download.checkpoint: no installed package 'no_such_package'; add it to requirements.txt",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_leaves_nothing_behind(
    case: str, run_download: Callable[..., Any], tmp_path: Path
) -> None:
    files, changes, message = BAD[case]
    for split, rows in files.items():
        write_csv(tmp_path / "data" / f"{split}.csv", rows)
    with pytest.raises(BadInput, match=message) as raised:
        run_download(**changes)
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
