"""Two hundred hostile answers of a Hub: no harm, no credential for others, a soon end, and one line."""

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.publish import is_full_disk
from stages.shared.runtime.terminal import visible
from tests.hostile import Ground, Watch
from tests.hub import Fault, Files, Hub
from tests.repositories import OLD, PAIRS, PINNED_CHECKPOINT, PINNED_DATASET, TABLE_FILE, hub_of

NUMBERS = range(200)
SAMPLE = range(0, 200, 20)
LIMIT_SECONDS, BUSY_SECONDS = 2.0, 6.0  # the latter for what a busy machine adds
ODD: list[Any] = [
    *(None, True, -1, 0, 10**9, 2**70, 1e300, "", ".", "..", "../../decoys/file", "/etc/decoy", "a\x00b", "x" * 5000),
    *("\x1b[2J\u202e\nevil: ok", "\ud800", "http://example.org/x", [], {}, [[]], {"": {}}, ["x"] * 3, {"../x": "../y"}),
]
ENDPOINTS = ("/api/.*/revision/", "/api/.*/tree/", "/resolve/", r"/resolve/.*(README\.md|config\.json)")
TEXTS = ("config.json", "tokenizer_config.json", "tokenizer.json")


def altered(value: Any, chance: random.Random) -> Any:
    """Replaces, removes, repeats or adds something somewhere in a value of JSON."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        match chance.randrange(5):
            case 0:
                return {name: member for name, member in value.items() if name != key}
            case 1:
                return value | {chance.choice(["../x", "", "auto_map", "quantization_config"]): chance.choice(ODD)}
        return value | {key: altered(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        if chance.random() < 0.2:
            return value * chance.choice([0, 2, 100])
        return [*value[:place], altered(value[place], chance), *value[place + 1 :]]
    return chance.choice(ODD)


def hostile_fault(chance: random.Random, hub: Hub) -> Fault:
    """An answer of the server that is not what was asked for."""
    path, other = chance.choice(ENDPOINTS), hub.storage_host
    places = (
        f"http://{other}/x",
        f"//{other}/x",
        f"http://a:b@{other}/x",
        "?again",
        "file:///etc/decoy",
        "\x7f",
        "http://[",
    )
    location, odd = (
        chance.choice(places),
        chance.choice(["../../../decoys/file", "/etc/decoy", "", "\x1b[2J", "9" * 300]),
    )
    match chance.randrange(12):
        case 0:
            return Fault(path, headers={"Link": f'<{location}>; rel="next"'})
        case 1:
            return Fault(path, status=chance.choice([301, 302, 307, 308]), headers={"Location": location})
        case 2:
            codes = ["GatedRepo", "RepoNotFound", "EntryNotFound", odd]
            headers = {"X-Error-Code": chance.choice(codes), "X-Error-Message": odd, "X-HF-Warning": f"a; {odd}"}
            statuses = [204, 206, 300, 304, 400, 401, 402, 403, 404, 410, 416, 429, 451, 500, 503]
            return Fault(path, status=chance.choice(statuses), headers=headers)
        case 3:
            names = ["ETag", "X-Linked-Etag", "X-Repo-Commit", "X-Linked-Size", "Content-Encoding", "Retry-After"]
            return Fault(path, headers=dict.fromkeys(chance.sample(names, 3), odd))
        case 4:
            return Fault(path, content=gzip.compress(b" " * 2**22), headers={"Content-Encoding": "gzip"})
        case 5:
            return Fault(path, endless=chance.choice([b"[", b"\x00" * 65536, b"x" * 65536]))
        case 6:
            return Fault(
                path, content=chance.choice([b"", b"\xff\xfe", b"null", b"[" * 10**5, b"{", b"NaN", b"\x1b[2J\n\n"])
            )
        case 7:
            return Fault(path, keep=chance.randrange(200), stall=chance.random() < 0.5, reset=chance.random() < 0.5)
        case 8:
            return Fault(path, silent=True)
        case 9:
            return Fault(path, dribble=0.05)
    seed = chance.randrange(2**32)
    return Fault(
        chance.choice(ENDPOINTS[:2]),
        alter=lambda answer: json.dumps(altered(json.loads(answer), random.Random(seed))).encode(),
    )


def hostile_files(chance: random.Random, files: Files) -> Files:
    """What the repository itself holds may be hostile too, under its right hashes."""
    if "config.json" in files:
        name = chance.choice(TEXTS)
        content = json.dumps(altered(json.loads(files[name]), chance)).encode()
        if chance.random() < 0.3:
            index = {"weight_map": {"a": chance.choice(ODD), "b": "../decoys/file"}}
            kept = {path: data for path, data in files.items() if path != "model.safetensors"}
            return kept | {"model.safetensors.index.json": json.dumps(index).encode()}
        return files | {name: content}
    if chance.random() < 0.5:
        table = bytearray(files[TABLE_FILE])
        for _ in range(chance.choice([1, 3, 30])):
            table[chance.randrange(len(table))] = chance.randrange(256)
        return files | {TABLE_FILE: bytes(table)}
    lines = files["README.md"].decode().splitlines()
    for _ in range(chance.choice([1, 2])):
        place = chance.randrange(1, len(lines))
        key = lines[place].partition(":")[0]
        lines[place] = f"{key}: {json.dumps(chance.choice(ODD))}"
    return files | {"README.md": "\n".join(lines).encode("utf-8", "surrogatepass")}


@pytest.fixture(scope="module")
def watch() -> Watch:
    """Sees what this process writes."""
    return Watch()


def run(number: int, ground: Ground, watch: Watch, checkpoint_files: Files) -> None:
    chance = random.Random(number)
    sources = chance.choice([PINNED_DATASET, PINNED_CHECKPOINT])
    table, model = dict(PAIRS), dict(checkpoint_files)
    within = chance.random() < 0.35
    if within and sources is PINNED_DATASET:
        table = hostile_files(chance, table)
    elif within:
        model = hostile_files(chance, model)
    with hub_of(table, model) as hub:
        if not within:
            hub.faults = [hostile_fault(chance, hub)]
        start = time.monotonic()
        line = ""
        with watch.watching(ground.project, ground.cache) as outside:
            try:
                ground.download(hub, LIMIT_SECONDS, **sources)
            except BadInput as error:
                line = visible(str(error))
            except OSError as error:
                assert is_full_disk(error, ground.project), error
                line = "the disk is full"
        seconds = time.monotonic() - start
        assert not outside
        ground.assert_unharmed(hub)
    assert seconds < 2 * LIMIT_SECONDS + BUSY_SECONDS, seconds
    assert len(line.splitlines()) <= 1 and "\x1b" not in line and "hf_secret" not in line
    published = ground.published()
    if line:
        assert not published
    elif sources is PINNED_CHECKPOINT:
        taken = {name.rpartition("/")[2]: data for name, data in published.items() if name.startswith("models/")}
        assert taken == {name: model[name] for name in taken} and "config.json" in taken


@pytest.mark.parametrize(
    "number",
    [pytest.param(one, marks=pytest.mark.slow if one in SAMPLE else pytest.mark.exhaustive) for one in NUMBERS],
)
def test_a_hostile_answer_does_no_harm(
    number: int,
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    watch: Watch,
    checkpoint_files: Files,
) -> None:
    run(number, Ground(tmp_path, tiny_checkpoint, monkeypatch), watch, checkpoint_files)


def test_the_watch_sees_what_is_written_elsewhere(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "own").mkdir()
    with watch.watching(tmp_path / "own") as outside:
        (tmp_path / "own" / "file").write_text("fine")
        (tmp_path / "other").write_text("not fine")
        (tmp_path / "link").symlink_to(tmp_path / "own")
        (tmp_path / "other").unlink()
    assert [event.partition(" ")[0] for event in outside] == ["open", "os.symlink", "os.remove"]


def test_the_sample_is_a_part_of_them() -> None:
    assert set(SAMPLE) < set(NUMBERS) and len(NUMBERS) == 200 and OLD
