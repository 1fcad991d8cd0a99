"""Invented repositories in the forms that the Hub publishes, and a way to run `download` against them."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from ruamel.yaml import YAML

from benchmarks.hard_pairs import HARD_PAIRS
from tests.hub import Files, Hub
from tests.project import PARAMS

ROOT = Path(__file__).parents[1]
GLUE_COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
OLD, NEW, UNKNOWN = "0123456789" * 4, "89abcdef" * 5, "f" * 40

TRAIN = [("The shop opens at nine.", "At nine the shop opens.", 1), ("A cat slept.", "A bus was late.", 0)]
VALIDATION = [("It rained all day.", "All day it rained.", 1), ("He paid.", "She sang.", 0)]
OTHER = [("Another commit.", "Other rows.", 0), ("They differ.", "So much.", 1)]

Rows = Sequence[tuple[Any, ...]]  # texts, then the label
PAIR = ("sentence1", "sentence2")


def table(rows: Rows, texts: Sequence[str] = PAIR) -> pa.Table:
    """The columns of a GLUE configuration; labels that are whole numbers are classes."""
    labels = [row[-1] for row in rows]
    columns = {name: pa.array([row[place] for row in rows]) for place, name in enumerate(texts)}
    kind = pa.float32() if isinstance(labels[0], float) else pa.int64()
    return pa.table(columns | {"label": pa.array(labels, kind), "idx": pa.array(range(len(rows)), pa.int32())})


def parquet(rows: Rows, texts: Sequence[str] = PAIR) -> bytes:
    """The same as the bytes of a file."""
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table(rows, texts), stream)
    return stream.getvalue()


@dataclass(frozen=True)
class Config:
    """A configuration of a dataset repository."""

    splits: Mapping[str, Rows]
    label_names: Sequence[str] = ("not_equivalent", "equivalent")  # empty: a number
    texts: Sequence[str] = PAIR


def dataset(**configs: Config) -> Files:
    """Makes a repository as GLUE's is: a folder of parquet files for each configuration, described by the card."""
    card: dict[str, Any] = {"configs": [], "dataset_info": []}
    files: Files = {}
    for name, config in configs.items():
        classes = {"class_label": {"names": {str(index): text for index, text in enumerate(config.label_names)}}}
        features = [
            *({"name": text, "dtype": "string"} for text in config.texts),
            {"name": "label", "dtype": classes if config.label_names else "float32"},
            {"name": "idx", "dtype": "int32"},
        ]
        paths = [{"split": split, "path": f"{name}/{split}-*"} for split in config.splits]
        counts = [{"name": split, "num_examples": len(rows)} for split, rows in config.splits.items()]
        card["configs"].append({"config_name": name, "data_files": paths})
        card["dataset_info"].append({"config_name": name, "features": features, "splits": counts})
        for split, rows in config.splits.items():
            files[f"{name}/{split}-00000-of-00001.parquet"] = parquet(rows, config.texts)
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(card, stream)
    return {"README.md": f"---\n{stream.getvalue()}---\nInvented sentences.\n".encode()} | files


def glue(rows: int) -> Files:
    """Invents `rows` training rows, and half as many of every other split, for each configuration that is used.

    Columns, label names and their order, splits: those of the dataset card of nyu-mll/glue at `GLUE_COMMIT`. As there,
    the labels of test splits are -1.
    """
    nli, entailment = ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")
    usual = ("train", "validation", "test")
    matched = ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
    card: dict[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
        "ax": (nli, entailment, ("test",)),
        "cola": (("sentence",), ("unacceptable", "acceptable"), usual),
        "mnli": (nli, entailment, matched),
        "mrpc": (PAIR, ("not_equivalent", "equivalent"), usual),
        "qnli": (("question", "sentence"), ("entailment", "not_entailment"), usual),
        "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), usual),
        "rte": (PAIR, ("entailment", "not_entailment"), usual),
        "sst2": (("sentence",), ("negative", "positive"), usual),
        "stsb": (PAIR, (), usual),
        "wnli": (PAIR, ("not_entailment", "entailment"), usual),
    }
    configs = {}
    for name, (texts, label_names, splits) in card.items():
        made = {}
        for split in splits:
            number = rows if split == "train" else max(rows // 2, 2)
            made[split] = [
                (*(f"{name} {split} row {row} {text}" for text in texts), _label(row, label_names, split))
                for row in range(number)
            ]
        configs[name] = Config(made, label_names, texts)
    return dataset(**configs)


def _label(row: int, label_names: Sequence[str], split: str) -> int | float:
    if split.startswith("test"):
        return -1 if label_names else -1.0
    return row % len(label_names) if label_names else row % 6 * 0.9


PAIRS = dataset(default=Config({"train": TRAIN, "validation": VALIDATION}))
OTHER_PAIRS = dataset(default=Config({"train": OTHER, "validation": VALIDATION}))
GLUE = glue(4)
TABLE_FILE = "default/train-00000-of-00001.parquet"
PINNED_DATASET = {"dataset": "hub:someone/pairs", "dataset_revision": OLD}
PINNED_CHECKPOINT = {"checkpoint": "hub:someone/model", "checkpoint_revision": OLD}


def hub_of(files: Files = PAIRS, checkpoint: Files | None = None) -> Hub:
    """A Hub with GLUE, someone/pairs (`files` at the commit OLD, others at NEW) and someone/model (`checkpoint`)."""
    return Hub(
        {
            ("dataset", "someone/pairs"): {OLD: files, NEW: OTHER_PAIRS},
            ("dataset", "nyu-mll/glue"): {GLUE_COMMIT: GLUE, NEW: OTHER_PAIRS},
            ("model", "someone/model"): {OLD: checkpoint or {}, NEW: {}},
        }
    )


@dataclass(frozen=True)
class Downloader:
    """Runs the stage's program in a folder, on local files where no Hub source is asked for."""

    folder: Path
    checkpoint: Path  # the local one

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment without what would send the clients elsewhere, and with a cache of its own."""
        strange = re.compile(r"(HF|HUGGING_?FACE|TRANSFORMERS|DATASETS)_.*|(HTTPS?|ALL|NO)_PROXY", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not strange.fullmatch(name)}
        return kept | {"HF_HOME": str(self.folder / "hf"), "PYTHONPATH": str(ROOT)}

    def __call__(
        self, hub: Hub, /, env: dict[str, str] | None = None, seconds: float = 20, **changes: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Runs it with `changes` in params.yaml: download; a request may bring nothing for `seconds`."""
        (self.folder / "local").mkdir(exist_ok=True)
        for split, rows in {"train": TRAIN, "validation": VALIDATION}.items():
            (self.folder / "local" / f"{split}.parquet").write_bytes(parquet(rows))
        params = deepcopy(PARAMS)
        params["download"] |= (
            HARD_PAIRS
            | {
                "dataset": "files",
                "dataset_files": str(self.folder / "local"),
                "checkpoint": "files",
                "checkpoint_files": str(self.checkpoint),
            }
            | changes
        )
        params["execution"]["network_timeout_seconds"] = seconds
        sections = {name: params[name] for name in ("download", "execution")}
        YAML(typ="safe", pure=True).dump(sections, self.folder / "params.yaml")
        return subprocess.run(
            [sys.executable, "-m", "stages.download"],
            cwd=self.folder,
            env=self.environment | {"HF_ENDPOINT": hub.endpoint} | (env or {}),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
