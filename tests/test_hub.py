"""download from the Hub: what is pinned arrives byte for byte, and nothing in its place; a stand-in serves."""

import errno
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk

from stages.shared.task.task import read_task
from tests.hub import Fault, Files
from tests.repositories import (
    NEW,
    OLD,
    OTHER,
    PAIRS,
    PINNED_CHECKPOINT,
    PINNED_DATASET,
    TABLE_FILE,
    TRAIN,
    VALIDATION,
    Config,
    Downloader,
    dataset,
    hub_of,
    parquet,
)

Rows = list[tuple[str, str, int]]


def rows_of(split: Dataset) -> Rows:
    return list(zip(split["text"], split["text_pair"], split["label"], strict=True))


def assert_fails_cleanly(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Returns the one line on stderr; nothing was left behind, whole or half-written."""
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"download: .+\n", done.stderr), done.stderr
    outs = [path for out in ("data", "models", "metrics") for path in (folder / out).rglob("*") if path.is_file()]
    assert not outs
    return done.stderr.rstrip()


def test_a_pinned_dataset_is_read_at_its_commit_and_says_nothing(download: Downloader, tmp_path: Path) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, dataset="hub:someone/pairs", dataset_revision=OLD)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows_of(load_from_disk(str(tmp_path / "data" / "raw"))["train"]) == TRAIN
    task = read_task(tmp_path / "data" / "raw" / "task.json")
    assert (task.source, task.revision) == ("hub", OLD)


def test_a_configuration_is_chosen_by_its_name_and_brings_its_label_names(download: Downloader, tmp_path: Path) -> None:
    first = Config({"train": OTHER, "validation": OTHER})
    files = dataset(first=first, second=Config({"train": TRAIN, "validation": VALIDATION}, ("unlike", "alike")))
    with hub_of(files) as hub:
        done = download(hub, dataset="hub:someone/pairs:second", dataset_revision=OLD, label_names=None)
    assert (done.returncode, done.stderr) == (0, "")
    train = load_from_disk(str(tmp_path / "data" / "raw"))["train"]
    assert (rows_of(train), train.features["label"].names) == (TRAIN, ["unlike", "alike"])


@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_what_is_not_pinned_warns_with_the_line_to_paste(
    kind: str, download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    name = {"dataset": "pairs", "checkpoint": "model"}[kind]
    with hub_of() as hub:
        hub.repositories["model", "someone/model"][NEW] = checkpoint_files
        done = download(hub, **{kind: f"hub:someone/{name}"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"download: warning: {kind} someone/{name} is not pinned; paste into params.yaml: {kind}_revision: {NEW}\n"
    )
    if kind == "dataset":
        assert read_task(tmp_path / "data" / "raw" / "task.json").revision == NEW


def test_a_pinned_checkpoint_arrives_byte_for_byte_without_pickles_and_subfolders(
    download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        done = download(hub, checkpoint="hub:someone/model", checkpoint_revision=OLD)
    assert (done.returncode, done.stderr) == (0, "")
    taken = {file.name: file.read_bytes() for file in (tmp_path / "models" / "pretrained").iterdir()}
    wanted = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert taken == {name: checkpoint_files[name] for name in wanted}
    assert not [path for _, path in hub.requests if path.endswith((".bin", "1_Pooling/config.json"))]


def test_a_checkpoint_of_pickles_only_is_refused_before_anything_is_fetched(
    download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    del checkpoint_files["model.safetensors"]
    with hub_of(checkpoint=checkpoint_files) as hub:
        line = assert_fails_cleanly(download(hub, checkpoint="hub:someone/model", checkpoint_revision=OLD), tmp_path)
    assert "checkpoint someone/model: no *.safetensors, only pytorch_model.bin, which can run code when loaded" in line
    assert [path for _, path in hub.requests] == [f"/api/models/someone/model/revision/{OLD}"]


@pytest.mark.parametrize(("kind", "revision"), [("dataset", "main"), ("checkpoint", OLD[:7]), ("dataset", NEW.upper())])
def test_a_revision_that_is_no_commit_is_refused_before_any_request(
    kind: str, revision: str, download: Downloader, tmp_path: Path
) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, **{kind: "hub:someone/pairs", f"{kind}_revision": revision})
    assert assert_fails_cleanly(done, tmp_path) == (
        f"download: params.yaml: download.{kind}_revision: "
        f"expected the 40 hexadecimal digits of a commit, got {revision!r}"
    )
    assert not hub.requests


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a closed port", "a refused list"])
def test_another_commit_in_the_cache_is_never_used_in_place_of_the_pinned_one(
    fault: str, download: Downloader, tmp_path: Path
) -> None:
    fill = f"import datasets; print(len(datasets.load_dataset('someone/pairs', revision={NEW!r})['train']))"
    with hub_of(PAIRS) as hub:
        for cache in ({}, {"HF_DATASETS_CACHE": str(tmp_path / ".scratch" / "cache" / "datasets")}):
            subprocess.run(
                [sys.executable, "-c", fill],
                env=download.environment | {"HF_ENDPOINT": hub.endpoint} | cache,
                cwd=tmp_path,
                check=True,
                capture_output=True,
            )
        hub.faults = [Fault("/tree/", status=403)]
        if fault != "a closed port":
            done = download(hub, **PINNED_DATASET)
    if fault == "a closed port":
        done = download(hub, **PINNED_DATASET)
    assert f"dataset someone/pairs: cannot be read from {hub.endpoint}: " in assert_fails_cleanly(done, tmp_path)


def test_a_local_folder_of_the_same_name_is_not_taken_for_the_repository(download: Downloader, tmp_path: Path) -> None:
    (tmp_path / "someone" / "pairs").mkdir(parents=True)
    for split in ("train", "validation"):
        (tmp_path / "someone" / "pairs" / f"{split}.parquet").write_bytes(parquet(OTHER))
    with hub_of(PAIRS) as hub:
        done = download(hub, **PINNED_DATASET)
    assert done.returncode == 0, done.stderr
    assert rows_of(load_from_disk(str(tmp_path / "data" / "raw"))["train"]) == TRAIN


def test_a_slash_at_the_end_of_the_endpoint_changes_nothing(download: Downloader, tmp_path: Path) -> None:
    with hub_of(PAIRS) as hub:
        done = download(hub, env={"HF_ENDPOINT": f"{hub.endpoint}/"}, **PINNED_DATASET)
    assert (done.returncode, done.stderr) == (0, "")
    # A client that cuts one letter too many off an address asks for the model atasets/someone.
    assert not [path for _, path in hub.requests if "/datasets/someone/pairs/" not in path]


@pytest.mark.slow
def test_a_damaged_file_in_the_cache_is_fetched_anew(
    download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    sources = {**PINNED_DATASET, **PINNED_CHECKPOINT}
    with hub_of(checkpoint=checkpoint_files) as hub:
        assert download(hub, **sources).returncode == 0
        for repository, file in (
            ("datasets--someone--pairs", TABLE_FILE),
            ("models--someone--model", "tokenizer.json"),
        ):
            blob = tmp_path / "hf" / "hub" / repository / "snapshots" / OLD / file
            blob.write_bytes(bytes(blob.stat().st_size))
        hub.seen.clear()
        done = download(hub, **sources)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.rpartition("/")[2] for method, path in hub.requests if method == "GET" and "/resolve/" in path] == [
        TABLE_FILE.rpartition("/")[2],
        "tokenizer.json",
    ]
    assert rows_of(load_from_disk(str(tmp_path / "data" / "raw"))["train"]) == TRAIN
    taken = tmp_path / "models" / "pretrained" / "tokenizer.json"
    assert taken.read_bytes() == checkpoint_files["tokenizer.json"]


@pytest.mark.slow
def test_private_repositories_open_to_the_usual_token_which_goes_nowhere_else(
    download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    token, sources = "hf_notforothers", {**PINNED_DATASET, **PINNED_CHECKPOINT}
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.token, hub.storage = token, True
        refused = assert_fails_cleanly(download(hub, env={"HF_TOKEN": "hf_wrong"}, **sources), tmp_path)
        assert "not found on" in refused and "hf auth login" in refused and "hf_wrong" not in refused
        hub.seen.clear()
        hub.faults = [Fault("safetensors", status=500, times=1), Fault("/storage/", keep=200, reset=True, times=1)]
        done = download(hub, env={"HF_TOKEN": token}, **sources)
    assert (done.returncode, done.stderr) == (0, "")
    assert token not in done.stdout
    told = {(request.host == hub.storage_host, request.authorization) for request in hub.seen}
    assert told == {(False, f"Bearer {token}"), (True, None)}
    written = [file for out in ("data", "models", "metrics", ".scratch") for file in (tmp_path / out).rglob("*")]
    assert not [file for file in written if file.is_file() and token.encode() in file.read_bytes()]


@pytest.mark.slow
def test_rows_are_mapped_from_the_disk_and_outlive_the_folder_they_were_read_from(
    download: Downloader, tmp_path: Path
) -> None:
    """In memory a hundred thousand rows would be some 100 MB of Arrow."""
    rows = [(f"{'x' * 500} {number}", f"{'y' * 500} {number}", number % 2) for number in range(100_000)]
    files = dataset(default=Config({"train": rows, "validation": VALIDATION}))
    code = """
import stages, pyarrow as pa
stages.environment.go_online()
from pathlib import Path
from stages.download.hub import read_hub
from stages.download.source import Labelling
labelling = Labelling("single_label_classification", "sentence1", "sentence2", "label", None)
source = read_hub("someone/pairs", "{}", None, labelling, 20.0)
assert not Path(".scratch/hub").exists()
assert pa.total_allocated_bytes() < 2**22, pa.total_allocated_bytes()
table = source.tables["train"]
print(table.num_rows, table.nbytes > 2**26, table["sentence1"][99_999].as_py()[-6:])
"""
    with hub_of(files) as hub:
        done = subprocess.run(
            [sys.executable, "-c", code.format(OLD)],
            env=download.environment | {"HF_ENDPOINT": hub.endpoint},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert (done.stdout, done.stderr) == ("100000 True  99999\n", "")


def test_stored_codes_are_positions_though_their_names_are_numbers(download: Downloader, tmp_path: Path) -> None:
    """class_encode_column sorts names as texts: here the code 1 is called 10, and 2 is called 2."""
    rows = [("zero", "none", 0), ("ten", "many", 1), ("two", "few", 2)]
    files = dataset(default=Config({"train": rows, "validation": rows[:1]}, ("0", "10", "2")))
    with hub_of(files) as hub:
        done = download(hub, **PINNED_DATASET, label_names=["0", "2", "10"])
    assert done.returncode == 0, done.stderr
    train = load_from_disk(str(tmp_path / "data" / "raw"))["train"]
    assert (train["label"][:], train.features["label"].names) == ([0, 2, 1], ["0", "2", "10"])


def test_leakage_is_an_error_whatever_the_order_of_the_splits(download: Downloader, tmp_path: Path) -> None:
    with hub_of(dataset(default=Config({"test": TRAIN, "validation": VALIDATION, "train": TRAIN}))) as hub:
        line = assert_fails_cleanly(download(hub, **PINNED_DATASET, on_leakage="error"), tmp_path)
    assert "2 of 2 test examples are also in train; remove them" in line


def test_splits_may_have_other_names_on_the_hub(download: Downloader, tmp_path: Path) -> None:
    files = dataset(default=Config({"dev": VALIDATION, "train": TRAIN, "extra": OTHER}))
    with hub_of(files) as hub:
        done = download(hub, **PINNED_DATASET, split_files={"validation": "dev", "train": "train"})
    assert (done.returncode, done.stderr) == (0, "")
    splits = load_from_disk(str(tmp_path / "data" / "raw"))
    assert {name: rows_of(split) for name, split in splits.items()} == {"train": TRAIN, "validation": VALIDATION}
    assert list(splits) == ["train", "validation"]


@pytest.mark.parametrize(
    ("split_files", "message"),
    [
        (
            {"train": "train", "validation": "dev"},
            "validation: dataset someone/pairs has no split 'dev', only train, validation",
        ),
        ({"train": "train", "validation": "train"}, "train: 'train' is another split too; name each once"),
    ],
)
def test_a_split_that_the_dataset_lacks_or_that_is_taken_is_refused(
    split_files: dict[str, str], message: str, download: Downloader, tmp_path: Path
) -> None:
    with hub_of(PAIRS) as hub:
        line = assert_fails_cleanly(download(hub, **PINNED_DATASET, split_files=split_files), tmp_path)
    assert line == f"download: params.yaml: download.split_files: {message}"


@pytest.mark.slow
def test_a_list_of_classes_brings_its_names_too(download: Downloader, tmp_path: Path) -> None:
    """Multi-label datasets of the Hub have it; `datasets` writes its features into the parquet file."""
    features = Features({"text": Value("string"), "label": List(ClassLabel(names=["cold", "warm", "wet"]))})
    files = {}
    for name, texts in (("train", ["snow", "tea"]), ("validation", ["ice", "soup"])):
        stream = io.BytesIO()
        Dataset.from_dict({"text": texts, "label": [[0, 2], [1, 2]]}, features=features).to_parquet(stream)
        files[f"data/{name}-00000-of-00001.parquet"] = stream.getvalue()
    with hub_of(files) as hub:
        changes = {"text_column": "text", "text_pair_column": None, "label_names": None, "metrics": ["f1_micro"]}
        done = download(hub, **PINNED_DATASET, problem_type="multi_label_classification", **changes)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_task(tmp_path / "data" / "raw" / "task.json").label_names == ["cold", "warm", "wet"]
    assert load_from_disk(str(tmp_path / "data" / "raw"))["train"]["label"][:] == [[1, 0, 1], [0, 1, 1]]


def test_a_full_disk_is_not_blamed_on_the_hub() -> None:
    from datasets.exceptions import DatasetGenerationError

    from stages.download.hub import hub_session

    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as raised, hub_session("dataset x/y", 1):
        raise DatasetGenerationError("An error occurred while generating the dataset") from full
    assert raised.value.errno == errno.ENOSPC


def csv_dataset(train: bytes, name: str = "train.csv") -> Files:
    return {"README.md": b"Rows.\n", name: train, "validation.csv": b"sentence1,sentence2,label\none,x,0\ntwo,x,1\n"}


HEADER = b"sentence1,sentence2,label\n"


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            csv_dataset(HEADER + b'"one,x,0\ntwo,x,1\n"three",x,0\n'),
            "dataset someone/pairs: train.csv: line 2, on to line 4: a quoted cell goes on behind its closing quote",
        ),
        (
            csv_dataset(HEADER + b'one,x,0\n"two,x,1\n'),
            "dataset someone/pairs: train.csv: line 3: a quote opens a cell and is never closed",
        ),
        (
            csv_dataset(HEADER.decode().encode("utf-16")),
            "dataset someone/pairs: train.csv: the text is UTF-16, not UTF-8; save it as UTF-8",
        ),
        (
            csv_dataset(HEADER + b"one,x,0\ntwo,x,1\nsentence1,sentence2,label\n"),
            "someone/pairs: row 3: is the header line again; remove it",
        ),
    ],
)
def test_a_csv_of_the_hub_is_held_to_the_rules_of_a_local_one(
    files: Files, line: str, download: Downloader, tmp_path: Path
) -> None:
    with hub_of(files) as hub:
        said = assert_fails_cleanly(download(hub, **PINNED_DATASET, label_names=None), tmp_path)
    assert line in said
