"""download from the Hub: what is pinned arrives byte for byte, and what goes wrong is one line; a stand-in serves."""

import errno
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset, load_from_disk
from ruamel.yaml import YAML

from stages.shared.task import read_task
from tests.hub import Files, Hub

ROOT = Path(__file__).parents[1]
GLUE_COMMIT = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
OLD, NEW, UNKNOWN = "0123456789" * 4, "89abcdef" * 5, "f" * 40

TRAIN = [("The shop opens at nine.", "At nine the shop opens.", 1), ("A cat slept.", "A bus was late.", 0)]
VALIDATION = [("It rained all day.", "All day it rained.", 1), ("He paid.", "She sang.", 0)]
TEST = [("The bell rang twice.", "Twice the bell rang.", 1)]
OTHER = [("Another commit.", "Other rows.", 0), ("They differ.", "So much.", 1)]

Rows = list[tuple[str, str, int]]
Download = Callable[..., subprocess.CompletedProcess[str]]


def parquet(rows: Rows) -> bytes:
    columns = {
        "sentence1": pa.array([row[0] for row in rows]),
        "sentence2": pa.array([row[1] for row in rows]),
        "label": pa.array([row[2] for row in rows], pa.int64()),
        "idx": pa.array(range(len(rows)), pa.int32()),
    }
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


def dataset(names: tuple[str, str] = ("not_equivalent", "equivalent"), /, **configs: dict[str, Rows]) -> Files:
    """Makes a repository as GLUE's is: a folder of parquet files for each configuration, described by the card."""
    features = [
        {"name": "sentence1", "dtype": "string"},
        {"name": "sentence2", "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": dict(zip("01", names, strict=True))}}},
        {"name": "idx", "dtype": "int32"},
    ]
    card: dict[str, Any] = {"configs": [], "dataset_info": []}
    files: Files = {}
    for config, splits in configs.items():
        paths = [{"split": split, "path": f"{config}/{split}-*"} for split in splits]
        counts = [{"name": split, "num_examples": len(rows)} for split, rows in splits.items()]
        card["configs"].append({"config_name": config, "data_files": paths})
        card["dataset_info"].append({"config_name": config, "features": features, "splits": counts})
        for split, rows in splits.items():
            files[f"{config}/{split}-00000-of-00001.parquet"] = parquet(rows)
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(card, stream)
    return {"README.md": f"---\n{stream.getvalue()}---\nInvented sentences.\n".encode()} | files


PAIRS = dataset(default={"train": TRAIN, "validation": VALIDATION})
OTHER_PAIRS = dataset(default={"train": OTHER, "validation": OTHER})
GLUE = dataset(
    cola={"train": OTHER, "validation": OTHER}, mrpc={"train": TRAIN, "validation": VALIDATION, "test": TEST}
)
LABEL_FILE = "default/train-00000-of-00001.parquet"


def hub_of(files: Files, kind: str = "dataset", other: Files | None = None) -> Hub:
    """A Hub with someone/pairs or someone/model: `files` at the commit OLD, something else at NEW."""
    name = "someone/pairs" if kind == "dataset" else "someone/model"
    commits = {OLD: files, NEW: OTHER_PAIRS if other is None else other}
    return Hub({(kind, name): commits, ("dataset", "nyu-mll/glue"): {GLUE_COMMIT: GLUE, NEW: OTHER_PAIRS}})


@pytest.fixture
def checkpoint_files(tiny_checkpoint: Path) -> Files:
    """The tiny checkpoint as a repository, with what others also put there."""
    files = {file.name: file.read_bytes() for file in tiny_checkpoint.iterdir()}
    return files | {"README.md": b"A model.", "pytorch_model.bin": b"pickle", "1_Pooling/config.json": b"{}"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This process's environment without what would send the clients elsewhere, and with caches of its own."""
    strange = re.compile(r"(HF|HUGGING_?FACE|TRANSFORMERS|DATASETS)_.*|(HTTPS?|ALL|NO)_PROXY", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not strange.fullmatch(name)}
    return kept | {"HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def download(tmp_path: Path, tiny_checkpoint: Path, environment: dict[str, str]) -> Download:
    """Runs the stage's program in tmp_path, on local files where no Hub source is asked for."""

    def run(hub: Hub, /, env: dict[str, str] | None = None, **changes: Any) -> subprocess.CompletedProcess[str]:
        params = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        params["download"] |= {
            "dataset": "files",
            "dataset_files": str(tmp_path / "local"),
            "checkpoint": "files",
            "checkpoint_files": str(tiny_checkpoint),
        } | changes
        sections = {name: params[name] for name in ("download", "execution")}
        YAML(typ="safe", pure=True).dump(sections, tmp_path / "params.yaml")
        return subprocess.run(
            [sys.executable, "-m", "stages.download"],
            cwd=tmp_path,
            env=environment | {"HF_ENDPOINT": hub.endpoint} | (env or {}),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    (tmp_path / "local").mkdir()
    for split, rows in {"train": TRAIN, "validation": VALIDATION}.items():
        (tmp_path / "local" / f"{split}.parquet").write_bytes(parquet(rows))
    return run


def rows_of(split: Dataset) -> Rows:
    return list(zip(split["text"], split["text_pair"], split["label"], strict=True))


def assert_fails_cleanly(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Returns the one line on stderr; nothing was left behind, whole or half-written."""
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"download: .+\n", done.stderr), done.stderr
    outs = [path for out in ("data", "models", "metrics") for path in (folder / out).rglob("*") if path.is_file()]
    assert not outs
    return done.stderr.rstrip()


def test_glue_mrpc_comes_from_its_fixed_commit_with_its_own_columns_labels_and_metrics(
    download: Download, tmp_path: Path
) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, dataset="glue/mrpc", text_column="a", text_pair_column=None, metrics=["f1_macro"])
    assert (done.returncode, done.stderr) == (0, "")
    splits = load_from_disk(str(tmp_path / "data" / "raw"))
    assert {name: rows_of(split) for name, split in splits.items()} == {
        "train": TRAIN,
        "validation": VALIDATION,
        "test": TEST,
    }
    assert splits["train"].column_names == ["text", "text_pair", "label", "idx"]
    assert splits["train"].features["label"].names == ["not_equivalent", "equivalent"]
    task = read_task(tmp_path / "data" / "raw" / "task.json")
    assert (task.name, task.source, task.revision) == ("glue/mrpc", "glue", GLUE_COMMIT)
    assert (task.label_names, task.metrics) == (["not_equivalent", "equivalent"], ["accuracy", "f1"])


def test_a_pinned_dataset_is_read_at_its_commit_and_says_nothing(download: Download, tmp_path: Path) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, dataset="hub:someone/pairs", dataset_revision=OLD)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows_of(load_from_disk(str(tmp_path / "data" / "raw"))["train"]) == TRAIN
    task = read_task(tmp_path / "data" / "raw" / "task.json")
    assert (task.source, task.revision) == ("hub", OLD)


def test_a_configuration_is_chosen_by_its_name_and_brings_its_label_names(download: Download, tmp_path: Path) -> None:
    splits = {"train": TRAIN, "validation": VALIDATION}
    files = dataset(("unlike", "alike"), first={"train": OTHER, "validation": OTHER}, second=splits)
    with hub_of(files) as hub:
        done = download(hub, dataset="hub:someone/pairs:second", dataset_revision=OLD, label_names=None)
    assert (done.returncode, done.stderr) == (0, "")
    train = load_from_disk(str(tmp_path / "data" / "raw"))["train"]
    assert (rows_of(train), train.features["label"].names) == (TRAIN, ["unlike", "alike"])


@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_what_is_not_pinned_warns_with_the_line_to_paste(
    kind: str, download: Download, checkpoint_files: Files, tmp_path: Path
) -> None:
    files, name = {"dataset": (PAIRS, "pairs"), "checkpoint": (checkpoint_files, "model")}[kind]
    with hub_of({}, {"dataset": "dataset", "checkpoint": "model"}[kind], other=files) as hub:
        done = download(hub, **{kind: f"hub:someone/{name}"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"download: warning: {kind} someone/{name} is not pinned; paste into params.yaml: {kind}_revision: {NEW}\n"
    )
    if kind == "dataset":
        assert read_task(tmp_path / "data" / "raw" / "task.json").revision == NEW


def test_a_pinned_checkpoint_arrives_byte_for_byte_without_pickles_and_subfolders(
    download: Download, checkpoint_files: Files, tmp_path: Path
) -> None:
    with hub_of(checkpoint_files, "model") as hub:
        done = download(hub, checkpoint="hub:someone/model", checkpoint_revision=OLD)
    assert (done.returncode, done.stderr) == (0, "")
    taken = {file.name: file.read_bytes() for file in (tmp_path / "models" / "pretrained").iterdir()}
    wanted = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert taken == {name: checkpoint_files[name] for name in wanted}
    assert not [path for _, path in hub.requests if path.endswith((".bin", "1_Pooling/config.json"))]


def test_a_checkpoint_of_pickles_only_is_refused_before_anything_is_fetched(
    download: Download, checkpoint_files: Files, tmp_path: Path
) -> None:
    del checkpoint_files["model.safetensors"]
    with hub_of(checkpoint_files, "model") as hub:
        line = assert_fails_cleanly(download(hub, checkpoint="hub:someone/model", checkpoint_revision=OLD), tmp_path)
    assert "checkpoint someone/model: no *.safetensors, only pytorch_model.bin, which can run code when loaded" in line
    assert [path for _, path in hub.requests] == [f"/api/models/someone/model/revision/{OLD}"]


PINNED_DATASET = {"dataset": "hub:someone/pairs", "dataset_revision": OLD}
PINNED_CHECKPOINT = {"checkpoint": "hub:someone/model", "checkpoint_revision": OLD}
FAULTS: dict[str, tuple[dict[str, int | None], dict[str, str], str]] = {
    "GLUE, and every answer is 500": (
        {"": 500},
        {"dataset": "glue/mrpc"},
        "dataset nyu-mll/glue: cannot be read from {endpoint}: the answer was 500 Internal Server Error; "
        "check the network and run again, or use local files",
    ),
    "a checkpoint, and every answer is 500": (
        {"": 500},
        PINNED_CHECKPOINT,
        "checkpoint someone/model: cannot be read from {endpoint}: the answer was 500 Internal Server Error; ",
    ),
    "a silent Hub": (
        {"": None},
        PINNED_DATASET,
        "dataset someone/pairs: cannot be read from {endpoint}: timed out; check the network and run again, ",
    ),
    "a dataset that breaks off halfway": (
        {"validation.*parquet": 403},
        PINNED_DATASET,
        "dataset someone/pairs: cannot be read from {endpoint}: the answer was 403 Forbidden; check ",
    ),
    "a checkpoint that breaks off halfway": (
        {"safetensors": 403},
        PINNED_CHECKPOINT,
        "checkpoint someone/model: cannot be read from {endpoint}: the answer was 403 Forbidden; check ",
    ),
    "an unknown dataset": (
        {},
        {"dataset": "hub:no/such", "dataset_revision": OLD},
        "dataset no/such: not found on {endpoint}; check download.dataset, or `hf auth login` if it is private",
    ),
    "an unknown checkpoint": (
        {},
        {"checkpoint": "hub:no/such"},
        "checkpoint no/such: not found on {endpoint}; check download.checkpoint, or ",
    ),
    "an unknown commit of a dataset": (
        {},
        PINNED_DATASET | {"dataset_revision": UNKNOWN},
        f"dataset someone/pairs: no commit {UNKNOWN} on {{endpoint}}; check download.dataset_revision",
    ),
    "an unknown commit of a checkpoint": (
        {},
        PINNED_CHECKPOINT | {"checkpoint_revision": UNKNOWN},
        f"checkpoint someone/model: no commit {UNKNOWN} on {{endpoint}}; check download.checkpoint_revision",
    ),
    "an unknown configuration": (
        {},
        PINNED_DATASET | {"dataset": "hub:someone/pairs:nope"},
        "dataset someone/pairs:nope: cannot be read from {endpoint}: BuilderConfig 'nope' not found. "
        "Available: ['default']; check the configuration (hub:<owner>/<name>:<config>)",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing_behind(
    case: str, download: Download, checkpoint_files: Files, tmp_path: Path
) -> None:
    status, changes, message = FAULTS[case]
    with hub_of(PAIRS) as hub:
        hub.repositories["model", "someone/model"] = {OLD: checkpoint_files}
        hub.status = status
        done = download(hub, env={"HF_HUB_ETAG_TIMEOUT": "1"} if None in status.values() else {}, **changes)
    assert message.format(endpoint=hub.endpoint) in assert_fails_cleanly(done, tmp_path)


@pytest.mark.parametrize("changes", [PINNED_DATASET, PINNED_CHECKPOINT], ids=["dataset", "checkpoint"])
def test_a_hub_out_of_reach_is_named_with_the_repository_and_the_remedy(
    changes: dict[str, str], download: Download, tmp_path: Path
) -> None:
    with hub_of(PAIRS) as hub:
        pass  # its port is closed from here on
    line = assert_fails_cleanly(download(hub, **changes), tmp_path)
    kind, name = next(iter(changes.items()))
    assert line == (
        f"download: {kind} {name.removeprefix('hub:')}: cannot be read from {hub.endpoint}: "
        f"[Errno {errno.ECONNREFUSED}] Connection refused; check the network and run again, or use local files"
    )


@pytest.mark.parametrize(("kind", "revision"), [("dataset", "main"), ("checkpoint", OLD[:7]), ("dataset", NEW.upper())])
def test_a_revision_that_is_no_commit_is_refused_before_any_request(
    kind: str, revision: str, download: Download, tmp_path: Path
) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, **{kind: "hub:someone/pairs", f"{kind}_revision": revision})
    assert assert_fails_cleanly(done, tmp_path) == (
        f"download: params.yaml: download.{kind}_revision: "
        f"expected the 40 hexadecimal digits of a commit, got {revision!r}"
    )
    assert not hub.requests


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a closed port", "a refused folder"])
def test_another_commit_in_the_cache_is_never_used_in_place_of_the_pinned_one(
    fault: str, download: Download, environment: dict[str, str], tmp_path: Path
) -> None:
    fill = f"import datasets; print(len(datasets.load_dataset('someone/pairs', revision={NEW!r})['train']))"
    with hub_of(PAIRS) as hub:
        for cache in ({}, {"HF_DATASETS_CACHE": str(tmp_path / ".scratch" / "cache" / "datasets")}):
            subprocess.run(
                [sys.executable, "-c", fill],
                env=environment | {"HF_ENDPOINT": hub.endpoint} | cache,
                cwd=tmp_path,
                check=True,
                capture_output=True,
            )
        hub.status = {"/tree/.*/default": 403}  # after a few good answers: the commit is there, its card arrives
        if fault != "a closed port":
            done = download(hub, **PINNED_DATASET)
    if fault == "a closed port":
        done = download(hub, **PINNED_DATASET)
    assert f"dataset someone/pairs: cannot be read from {hub.endpoint}: " in assert_fails_cleanly(done, tmp_path)


@pytest.mark.slow
def test_labels_that_changed_on_the_way_are_noticed_and_the_remedy_helps(download: Download, tmp_path: Path) -> None:
    flipped = parquet([(first, second, 1 - label) for first, second, label in TRAIN])
    assert (len(flipped), flipped) != (len(PAIRS[LABEL_FILE]), PAIRS[LABEL_FILE])
    with hub_of(PAIRS) as hub:
        hub.damaged[LABEL_FILE] = flipped
        line = assert_fails_cleanly(download(hub, **PINNED_DATASET), tmp_path)
        assert f"dataset someone/pairs: {LABEL_FILE} is damaged: sha256 " in line
        hub.damaged.clear()
        assert assert_fails_cleanly(download(hub, **PINNED_DATASET), tmp_path) == line  # the cache keeps it
        remedy = re.search(r"; delete (\S+) and run again$", line)
        assert remedy
        shutil.rmtree(remedy[1])
        assert download(hub, **PINNED_DATASET).returncode == 0
    assert rows_of(load_from_disk(str(tmp_path / "data" / "raw"))["train"]) == TRAIN


def test_a_table_that_cannot_be_read_because_it_is_damaged_is_called_damaged(
    download: Download, tmp_path: Path
) -> None:
    with hub_of(PAIRS) as hub:
        hub.damaged[LABEL_FILE] = bytes(len(PAIRS[LABEL_FILE]))
        done = download(hub, **PINNED_DATASET)
    assert done.returncode == 1
    assert f"dataset someone/pairs: {LABEL_FILE} is damaged: sha256 " in done.stderr.splitlines()[-1]


def test_weights_that_changed_on_the_way_are_noticed(
    download: Download, checkpoint_files: Files, tmp_path: Path
) -> None:
    weights = checkpoint_files["model.safetensors"]
    with hub_of(checkpoint_files, "model") as hub:
        hub.damaged["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
        line = assert_fails_cleanly(download(hub, **PINNED_CHECKPOINT), tmp_path)
    assert "checkpoint someone/model: model.safetensors is damaged: sha256 " in line
    assert line.endswith("; run again")


def test_a_local_folder_of_the_same_name_is_not_taken_for_the_repository(download: Download, tmp_path: Path) -> None:
    (tmp_path / "someone" / "pairs").mkdir(parents=True)
    for split in ("train", "validation"):
        (tmp_path / "someone" / "pairs" / f"{split}.parquet").write_bytes(parquet(OTHER))
    with hub_of(PAIRS) as hub:
        done = download(hub, **PINNED_DATASET)
    assert done.returncode == 0, done.stderr
    assert rows_of(load_from_disk(str(tmp_path / "data" / "raw"))["train"]) == TRAIN


def test_a_slash_at_the_end_of_the_endpoint_changes_nothing(download: Download, tmp_path: Path) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, env={"HF_ENDPOINT": f"{hub.endpoint}/"}, **PINNED_DATASET)
    assert (done.returncode, done.stderr) == (0, "")
    # A client that cuts one letter too many off an address asks for the model atasets/someone.
    assert not [path for _, path in hub.requests if "/datasets/someone/pairs/" not in path]


def test_a_full_disk_is_not_blamed_on_the_hub() -> None:
    from datasets.exceptions import DatasetGenerationError

    from stages.download.hub import _hub_errors

    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as raised, _hub_errors("dataset x/y", "check the network"):
        raise DatasetGenerationError("An error occurred while generating the dataset") from full
    assert raised.value.errno == errno.ENOSPC
