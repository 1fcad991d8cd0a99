"""tests/faults.md: every row happens as it is written, and every fault that is tried has its row."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stages.shared.runtime.errors import BadInput
from tests.hostile import Ground
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


DATA_PART = "## When the data are not clean"  # tests/test_data_faults.py
HOSTILE_PART = "## When somebody means harm"


def rows(hostile: bool = False) -> list[Row]:
    """Returns the lines of the page's first table, or of the one of hostile faults."""
    text = (ROOT / "tests" / "faults.md").read_text(encoding="utf-8").partition(HOSTILE_PART)[2 if hostile else 0]
    text = text.partition(DATA_PART)[0]
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
    "it stops answering after a few good answers": Case(PINNED_DATASET, (Fault("parquet", silent=True),)),
    "a file arrives a byte at a time": Case(PINNED_CHECKPOINT, (Fault("safetensors", trickle=0.05, methods=GET),)),
    "every answer is 500": Case({"dataset": "glue/mrpc"}, (Fault("", status=500),)),
    "500 in the middle, twice": Case(PINNED_DATASET, (Fault("parquet", status=500, times=2, methods=GET),), seconds=20),
    "429 with a long Retry-After": Case(PINNED_CHECKPOINT, (Fault("", status=429, headers={"Retry-After": "300"}),)),
    "429 with a Retry-After of one second": Case(
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
    "a file arrives with another size": Case(
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


def without_hashes(entries: list[dict[str, Any]]) -> Any:
    return [{name: entry[name] for name in ("type", "path", "size")} for entry in entries]


def without_weights(entries: list[dict[str, Any]]) -> Any:
    return [entry for entry in entries if not entry["path"].endswith("safetensors")]


def leading_out(entries: list[dict[str, Any]]) -> Any:
    return [entry | {"path": "../../config.json"} if entry["path"] == "config.json" else entry for entry in entries]


def listed(change: Callable[[list[dict[str, Any]]], Any]) -> Fault:
    """Alters the list of the files and their hashes."""
    return Fault("/tree/", alter=lambda answer: json.dumps(change(json.loads(answer))).encode())


def in_config(**values: Any) -> Callable[[Hub], object]:
    """Puts keys into config.json, under its right hash."""

    def change(hub: Hub) -> None:
        config = json.loads(files(hub, "model")["config.json"])
        files(hub, "model")["config.json"] = json.dumps(config | values).encode()

    return change


def in_card(text: str) -> Callable[[Hub], object]:
    return lambda hub: files(hub).update({"README.md": f"---\n{text}\n---\n".encode()})


def an_index_that_leads_out(hub: Hub) -> None:
    weights = {"weight_map": {"pooler.dense.bias": "../../x.safetensors"}}
    del files(hub, "model")["model.safetensors"]
    files(hub, "model")["model.safetensors.index.json"] = json.dumps(weights).encode()


def a_long_line(hub: Hub) -> None:
    table = files(hub)
    table.clear()
    table |= {f"{split}.jsonl": b'{"sentence1": "' + b"x" * 2**25 for split in ("train", "validation")}


REPEATED = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    + [f"{two}: &{two} [{', '.join([f'*{one}'] * 10)}]" for one, two in zip("abcdefgh", "bcdefghi", strict=True)]
)
ELSEWHERE = {"Link": '<http://example.org/>; rel="next"'}
HOSTILE_CASES = {
    "a list of files without hashes": Case(PINNED_DATASET, (listed(without_hashes),)),
    "an empty list of hashes": Case(PINNED_CHECKPOINT, (Fault("/tree/", content=b"[]"),)),
    "a list of hashes without the weights": Case(PINNED_CHECKPOINT, (listed(without_weights),)),
    "a list with a path outside the repository": Case(PINNED_CHECKPOINT, (listed(leading_out),)),
    "a list whose next page is on another host": Case(PINNED_CHECKPOINT, (Fault("/tree/", headers=ELSEWHERE),)),
    "a list that never ends": Case(
        PINNED_CHECKPOINT, (Fault("/tree/", headers={"Link": '<?recursive=true>; rel="next"'}),), seconds=60
    ),
    "an answer that never ends": Case(PINNED_CHECKPOINT, (Fault("/api/", endless=b"[" * 65536),), seconds=60),
    "a small answer that unpacks to gigabytes": Case(
        PINNED_CHECKPOINT, (Fault("/api/", content=b"?", headers={"Content-Encoding": "gzip"}),)
    ),
    "redirects in a circle": Case(PINNED_CHECKPOINT, (Fault("/api/", status=302, headers={"Location": "/api/again"}),)),
    "a file that never ends": Case(PINNED_CHECKPOINT, (Fault("safetensors", endless=b"x" * 65536),)),
    "a header that names a path on the disk": Case(
        PINNED_CHECKPOINT, (Fault("/resolve/", headers={"ETag": '"../../../../decoys/file"'}),)
    ),
    "data of the user's that a card asks for": Case(
        PINNED_DATASET, prepare=in_card("configs:\n- config_name: default\n  data_files: ../../decoys/*")
    ),
    "a card of ten lines that expands to a billion values": Case(PINNED_DATASET, prepare=in_card(REPEATED)),
    "data that are no tables": Case(
        PINNED_DATASET, prepare=lambda hub: (files(hub).clear(), files(hub).update({"train.tar": b"", "dev.tar": b""}))
    ),
    "a line without end": Case(PINNED_DATASET, prepare=a_long_line),
    "a checkpoint of a billion layers": Case(PINNED_CHECKPOINT, prepare=in_config(num_hidden_layers=10**9)),
    "a checkpoint of a billion layers of another name": Case(
        PINNED_CHECKPOINT, prepare=in_config(model_type="distilbert", n_layers=10**9)
    ),
    "label names that are no mapping": Case(PINNED_CHECKPOINT, prepare=in_config(id2label=["a", "b"])),
    "an index that leads out of the checkpoint": Case(PINNED_CHECKPOINT, prepare=an_index_that_leads_out),
    "a program that is to compute attention": Case(
        PINNED_CHECKPOINT, prepare=in_config(attn_implementation="someone/kernel")
    ),
}


def test_the_page_and_the_tests_know_the_same_faults() -> None:
    assert [row.fault for row in rows()] == list(CASES)
    assert [row.fault for row in rows(hostile=True)] == [*HOSTILE_CASES, *PLANTED]
    assert len(CASES) >= 12


@pytest.mark.parametrize(
    "row", [row for row in rows(hostile=True) if row.fault in HOSTILE_CASES], ids=lambda row: row.fault
)
def test_harm_is_seen_as_the_page_says(
    row: Row, tmp_path: Path, tiny_checkpoint: Path, checkpoint_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process; that the program makes one line of any message is seen in tests/test_visible.py."""
    case, ground = HOSTILE_CASES[row.fault], Ground(tmp_path, tiny_checkpoint, monkeypatch)
    with hub_of(dict(PAIRS), dict(checkpoint_files)) as hub:
        hub.faults = [Fault(**vars(fault)) for fault in case.faults]
        if case.prepare is not None:
            case.prepare(hub)
        seen = ""
        try:
            ground.download(hub, case.seconds, **case.changes)
        except BadInput as error:
            seen = f"download: {error}\n"
        ground.assert_unharmed(hub)
    assert expected(row).fullmatch(seen), seen
    assert (row.status, row.left) == (("1", "the earlier outputs") if seen else ("0", "the new outputs"))
    assert bool(ground.published()) == (not seen)


PLANTED = {
    "a file in the Hub's cache that the Hub does not list": "special_tokens_map.json",
    "a damaged file in the Hub's cache": "tokenizer.json",
    "a link in the Hub's cache to a file of the user's": "config.json",
}


@pytest.mark.parametrize("row", [row for row in rows(hostile=True) if row.fault in PLANTED], ids=lambda row: row.fault)
def test_what_somebody_put_into_the_cache_changes_nothing(
    row: Row, tmp_path: Path, tiny_checkpoint: Path, checkpoint_files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, tiny_checkpoint, monkeypatch)
    with hub_of(dict(PAIRS), dict(checkpoint_files)) as hub:
        ground.download(hub, **PINNED_CHECKPOINT)
        clean = ground.published()
        place = ground.cache / "models--someone--model" / "snapshots" / OLD / PLANTED[row.fault]
        if place.exists():
            place.resolve().unlink()
            place.unlink()
        if "link" in row.fault:
            place.symlink_to(ground.decoys / "file")
        else:
            place.write_bytes(b"{}")
        ground.download(hub, **PINNED_CHECKPOINT)
        ground.assert_unharmed(hub)
    assert ground.published() == clean
    assert (row.seen, row.status, row.left) == ("nothing", "0", "the new outputs")


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
    # Before it runs a stage, DVC deletes what it will write; the stage has brought its metrics back.
    assert contents() == {outs[2]: earlier[outs[2]]}
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    for command in ("dvc checkout", "git checkout metrics"):
        assert f"`{command}`" in page
        tiny.run(*command.split())
    assert contents() == earlier
    tiny.run("git", "checkout", "params.yaml")
    assert tiny.repro() == []


def test_every_symptom_of_the_help_is_part_of_a_message() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    symptoms = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    data = (ROOT / "tests" / "faults.md").read_text(encoding="utf-8").partition(DATA_PART)[2]
    messages = " ".join([data, *(row.seen for row in [*rows(), *rows(hostile=True)])])
    assert len(symptoms) > 15
    assert not [part for cell in symptoms for part in re.findall(r"`([^`]+)`", cell) if part not in messages]
