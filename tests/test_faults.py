"""docs/faults.md: every row happens as it is written, and every fault that is tried has its row."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.hub import Fault, Files, Hub
from tests.project import Project
from tests.repositories import (
    NEW,
    OLD,
    PAIRS,
    PINNED_CHECKPOINT,
    PINNED_DATASET,
    TABLE_FILE,
    TRAIN,
    UNKNOWN,
    Downloader,
    hub_of,
    parquet,
)

ROOT = Path(__file__).parents[1]
GET = ("GET",)
FLIPPED = parquet([(*texts, 1 - label) for *texts, label in TRAIN])


class Row(NamedTuple):
    """One line of the table."""

    fault: str
    seen: str
    status: str
    left: str


def rows() -> list[Row]:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    lines = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| fault ", "| --- "))
    ]
    return [Row(*(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])) for line in lines]


class Case(NamedTuple):
    """How a fault is brought about."""

    changes: dict[str, Any]  # in params.yaml: download
    faults: tuple[Fault, ...] = ()
    prepare: Callable[[Hub], object] | None = None
    seconds: float = 2  # execution.network_timeout_seconds


def files(hub: Hub, kind: str = "dataset") -> Files:
    """The files of the pinned commit of the invented dataset or model."""
    return hub.repositories[kind, "someone/pairs" if kind == "dataset" else "someone/model"][OLD]


def elsewhere(hub: Hub) -> None:
    card = files(hub)["README.md"].decode()
    files(hub)["README.md"] = card.replace("default/train-*", "https://example.org/train.parquet").encode()


def gated(hub: Hub) -> None:
    hub.faults = [Fault("", status=403, headers={"X-Error-Code": "GatedRepo"})]


PROGRAM = b"open('was-here', 'w')"
CASES = {
    "the Hub is out of reach": Case(PINNED_DATASET, prepare=lambda hub: hub.__exit__(None, None, None)),
    "it never answers": Case(PINNED_DATASET, (Fault("", silent=True),)),
    "it sends headers without end": Case(PINNED_CHECKPOINT, (Fault("", dribble=0.02),)),
    "it falls silent after a few good answers": Case(PINNED_DATASET, (Fault("parquet", silent=True),)),
    "a file comes a byte now and then": Case(PINNED_CHECKPOINT, (Fault("safetensors", trickle=0.05, methods=GET),)),
    "every answer is 500": Case({"dataset": "glue/mrpc"}, (Fault("", status=500),)),
    "500 in the middle, twice": Case(PINNED_DATASET, (Fault("parquet", status=500, times=2, methods=GET),), seconds=20),
    "429, and to wait for long": Case(PINNED_CHECKPOINT, (Fault("", status=429, headers={"Retry-After": "300"}),)),
    "429, and to wait for a second": Case(
        PINNED_CHECKPOINT, (Fault("", status=429, headers={"Retry-After": "1"}, times=1),), seconds=20
    ),
    "the connection is reset, twice": Case(
        PINNED_CHECKPOINT, (Fault("safetensors", keep=5000, reset=True, times=2, methods=GET),), seconds=20
    ),
    "the connection is always reset": Case(PINNED_CHECKPOINT, (Fault("safetensors", keep=0, reset=True, methods=GET),)),
    "a file is always cut off": Case(
        PINNED_DATASET, (Fault("parquet", keep=500, methods=GET),), lambda hub: setattr(hub, "ranges", False)
    ),
    "a table is altered on the way, once": Case(
        PINNED_DATASET, (Fault(TABLE_FILE, content=FLIPPED, times=1, methods=GET),), seconds=20
    ),
    "a table is altered on the way, always": Case(
        PINNED_DATASET, (Fault(TABLE_FILE, content=FLIPPED, methods=GET),), seconds=20
    ),
    "a table becomes unreadable on the way": Case(
        PINNED_DATASET, (Fault(TABLE_FILE, content=bytes(len(PAIRS[TABLE_FILE])), methods=GET),), seconds=20
    ),
    "a file of another size comes": Case(
        PINNED_DATASET, (Fault(TABLE_FILE, content=b"short", methods=GET),), seconds=20
    ),
    "weights are altered on the way, once": Case(
        PINNED_CHECKPOINT, (Fault("safetensors", content=b"", times=1, methods=GET),), seconds=20
    ),
    "weights are altered on the way, always": Case(
        PINNED_CHECKPOINT, (Fault("safetensors", content=b"", methods=GET),), seconds=20
    ),
    "the answer is of another commit": Case(PINNED_DATASET, (Fault("/api/", headers={"X-Repo-Commit": NEW}),)),
    "a file is of another commit": Case(PINNED_DATASET, (Fault("parquet", headers={"X-Repo-Commit": NEW}),)),
    "the answer is no JSON": Case(PINNED_DATASET, (Fault("/api/", content=b"<html>Log in to this network</html>"),)),
    "no such dataset, or a private one": Case({"dataset": "hub:no/such", "dataset_revision": OLD}),
    "a gated checkpoint": Case(PINNED_CHECKPOINT, prepare=gated),
    "access ends in the middle": Case(PINNED_DATASET, (Fault("validation.*parquet", status=403),)),
    "no such commit": Case(PINNED_CHECKPOINT | {"checkpoint_revision": UNKNOWN}),
    "a branch in place of a commit": Case(PINNED_DATASET | {"dataset_revision": "main"}),
    "no such configuration": Case(PINNED_DATASET | {"dataset": "hub:someone/pairs:nope"}),
    "no such GLUE task": Case({"dataset": "glue/mrcp"}),
    "a dataset that is a program": Case(
        PINNED_DATASET, prepare=lambda hub: files(hub).update({"pairs.py": PROGRAM, "metric.py": PROGRAM})
    ),
    "data outside the repository": Case(PINNED_DATASET, prepare=elsewhere),
    "a checkpoint of pickles only": Case(
        PINNED_CHECKPOINT, prepare=lambda hub: files(hub, "model").pop("model.safetensors")
    ),
}


def test_the_page_and_the_tests_know_the_same_faults() -> None:
    assert [row.fault for row in rows()] == list(CASES)
    assert len(CASES) >= 12


def expected(row: Row) -> re.Pattern[str]:
    """Turns what the page says is seen into a pattern: `<n>`, `<hash>` and `<hub>` stand for what varies."""
    if row.seen == "nothing":
        return re.compile("")
    quoted = row.seen.removeprefix("`` ").removesuffix(" ``") if row.seen.startswith("``") else row.seen.strip("`")
    text = re.escape(quoted).replace("attempts", "attempts?")
    for name, pattern in {"n": r"\d+", "hash": "[0-9a-f]{40,64}", "hub": r"http://127\.0\.0\.1:\d+"}.items():
        text = text.replace(f"<{name}>", pattern)
    return re.compile(f"download: {text}\n")


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(), ids=lambda row: row.fault)
def test_a_fault_is_seen_as_the_page_says(row: Row, download: Downloader, checkpoint_files: Files) -> None:
    case = CASES[row.fault]
    weights = checkpoint_files["model.safetensors"]
    earlier = {
        name: download.folder / name for name in ("data/raw/rows", "models/pretrained/model", "metrics/data.json")
    }
    for file in earlier.values():
        file.parent.mkdir(parents=True)
        file.write_text("earlier")
    with hub_of(dict(PAIRS), dict(checkpoint_files)) as hub:
        hub.faults = [Fault(**vars(fault)) for fault in case.faults]
        for fault in hub.faults:
            if fault.content == b"":  # as many bytes, but others
                fault.content = weights[:-1] + bytes([weights[-1] ^ 1])
        if case.prepare is not None:
            case.prepare(hub)
        done = download(hub, seconds=case.seconds, **case.changes)
    assert expected(row).fullmatch(done.stderr), done.stderr
    assert str(done.returncode) == row.status
    if row.left == "the new outputs":
        assert not any(file.exists() and file.read_text() == "earlier" for file in earlier.values())
        assert {path.name for path in (download.folder / "data" / "raw").iterdir()} >= {"train", "task.json"}
    else:
        assert row.left == "the earlier outputs"
        assert all(file.read_text() == "earlier" for file in earlier.values())
        assert len([path for path in (download.folder / "data").rglob("*") if path.is_file()]) == 1
    # nothing half-written, here or in the Hub's cache, and nothing damaged either
    assert not [path for path in download.folder.rglob("*") if path.name.endswith((".partial", ".incomplete"))]
    assert not (download.folder / ".scratch" / "hub").exists()
    damaged = {fault.content for fault in hub.faults} - {None}
    blobs = [path for path in (download.folder / "hf").rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in blobs if path.read_bytes() in damaged]
    assert not list(download.folder.rglob("was-here"))  # no program of a repository has run


@pytest.mark.slow
def test_under_dvc_the_earlier_outputs_are_gone_and_come_back_as_the_page_says(tiny: Project, tmp_path: Path) -> None:
    outs = [tiny.folder / name for name in ("data/raw", "models/pretrained", "metrics/data.json")]

    def contents() -> dict[Path, bytes]:
        files = [file for out in outs for file in (out, *out.rglob("*")) if file.is_file()]
        return {file: file.read_bytes() for file in files}

    earlier = contents()
    assert {outs[0] / "task.json", outs[1] / "model.safetensors", outs[2]} < set(earlier)
    tiny.set(download__dataset="hub:someone/pairs", download__dataset_revision=OLD)
    done = tiny.run("dvc", "repro", check=False, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode != 0 and "dataset someone/pairs: cannot be read from http://127.0.0.1:9" in done.stderr
    assert not contents()  # before it runs a stage, DVC deletes what it will write
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    for command in ("dvc checkout", "git checkout metrics"):
        assert f"`{command}`" in page
        tiny.run(*command.split())
    assert contents() == earlier
    tiny.run("git", "checkout", "params.yaml")
    assert tiny.repro() == []
