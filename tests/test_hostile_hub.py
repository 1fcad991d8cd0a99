"""download: whatever the Hub sends, or lies in its cache, is verified, bounded, or refused in one line."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.shared.runtime.errors import BadInput
from tests.hostile import DECOY, Ground
from tests.hub import Fault, Files, Hub
from tests.repositories import OLD, PAIRS, PINNED_CHECKPOINT, PINNED_DATASET, TABLE_FILE, Downloader, hub_of

ROOT = Path(__file__).parents[1]
DATASET_CACHE, MODEL_CACHE = "datasets--someone--pairs", "models--someone--model"
BOTH = PINNED_DATASET | PINNED_CHECKPOINT


@pytest.fixture
def ground(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Ground:
    """Where the stage runs in this process."""
    return Ground(tmp_path, tiny_checkpoint, monkeypatch)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tuple[Path, dict[str, bytes]]:
    """A cache that was empty before a download, and what that published."""
    files = {file.name: file.read_bytes() for file in tiny_checkpoint.iterdir()}
    with pytest.MonkeyPatch.context() as patch, hub_of(checkpoint=files) as hub:
        ground = Ground(tmp_path_factory.mktemp("filled"), tiny_checkpoint, patch)
        ground.download(hub, **BOTH)
        return ground.cache, ground.published()


@pytest.fixture
def clean(ground: Ground, filled: tuple[Path, dict[str, bytes]]) -> dict[str, bytes]:
    """What an empty cache gives; the cache holds the files already."""
    shutil.copytree(filled[0], ground.cache, symlinks=True, dirs_exist_ok=True)
    return filled[1]


def run_again(ground: Ground, checkpoint_files: Files) -> dict[str, bytes]:
    with hub_of(checkpoint=checkpoint_files) as hub:
        ground.download(hub, **BOTH)
        ground.assert_unharmed(hub)
    return ground.published()


def refused(ground: Ground, hub: Hub, **changes: Any) -> str:
    """Returns the message of a download that must fail, and soon."""
    start = time.monotonic()
    with pytest.raises(BadInput) as raised:
        ground.download(hub, **changes)
    assert time.monotonic() - start < 2 * 2 + 10  # twice the time limit, and what a busy machine adds
    ground.assert_unharmed(hub)
    assert not ground.published()
    assert "hf_secret" not in str(raised.value)
    return str(raised.value)


# The cache


@pytest.mark.parametrize(
    "planted",
    [
        f"{MODEL_CACHE}/snapshots/{OLD}/special_tokens_map.json",
        f"{MODEL_CACHE}/snapshots/{OLD}/vocab.txt",
        f"{MODEL_CACHE}/snapshots/{OLD}/model-00001-of-00002.safetensors",
        f"{MODEL_CACHE}/snapshots/{OLD}/model.safetensors.index.json",
        f"{DATASET_CACHE}/snapshots/{OLD}/default/train-00001-of-00002.parquet",
        f"{DATASET_CACHE}/snapshots/{OLD}/.huggingface.yaml",
        f"{DATASET_CACHE}/snapshots/{OLD}/dataset_infos.json",
    ],
)
def test_a_file_in_the_cache_that_the_hub_does_not_list_is_not_published(
    planted: str, ground: Ground, clean: dict[str, bytes], checkpoint_files: Files
) -> None:
    (ground.cache / planted).write_bytes(PAIRS[TABLE_FILE] if planted.endswith("parquet") else b"{}")
    assert run_again(ground, checkpoint_files) == clean


def test_a_list_of_files_that_lies_in_the_cache_is_not_believed(
    ground: Ground, clean: dict[str, bytes], checkpoint_files: Files
) -> None:
    """The Hub's own library keeps such lists, and believes them."""
    trees = ground.cache / MODEL_CACHE / "trees"
    trees.mkdir()
    (trees / f"{OLD}.json").write_text("{}")
    assert run_again(ground, checkpoint_files) == clean


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (f"{MODEL_CACHE}/snapshots/{OLD}/config.json", "file"),
        (f"{DATASET_CACHE}/snapshots/{OLD}/{TABLE_FILE}", "file"),
        (f"{DATASET_CACHE}/snapshots/{OLD}/README.md", "file"),
        (f"{MODEL_CACHE}/snapshots/{OLD}/config.json", "blob"),
        (f"{MODEL_CACHE}/snapshots/{OLD}", "folder"),
        (f"{MODEL_CACHE}/snapshots", "folder"),
        (f"{MODEL_CACHE}/blobs", "folder"),
        (MODEL_CACHE, "folder"),
    ],
    ids=lambda value: value.replace(OLD, "commit"),
)
def test_a_link_in_the_cache_that_leads_to_the_users_files_changes_none_of_them(
    path: str, link: str, ground: Ground, clean: dict[str, bytes], checkpoint_files: Files
) -> None:
    entry = ground.cache / path
    if link == "blob":
        entry = entry.resolve()
    target = ground.decoys / ("folder" if link == "folder" else "file")
    if link == "folder":
        entry.rename(ground.folder / "moved")
    else:
        entry.unlink()
    entry.symlink_to(target)
    assert run_again(ground, checkpoint_files) == clean
    if link != "folder":
        assert not entry.exists() or (entry.resolve().is_relative_to(ground.cache) and entry.read_bytes() != DECOY)


def test_a_damaged_content_behind_a_linked_folder_is_left_alone_and_not_used(
    ground: Ground, clean: dict[str, bytes], checkpoint_files: Files
) -> None:
    """The user may have moved a repository to another disk: it is read there, and nothing is removed."""
    repository = ground.cache / MODEL_CACHE
    moved = repository.rename(ground.folder / "moved")
    repository.symlink_to(moved)
    config = moved / "snapshots" / OLD / "config.json"
    config.resolve().write_bytes(b"0" * config.stat().st_size)
    damaged = {file: file.read_bytes() for file in moved.rglob("*") if file.is_file()}
    assert run_again(ground, checkpoint_files) == clean
    assert {file: file.read_bytes() for file in moved.rglob("*") if file.is_file()} == damaged


def test_a_device_or_a_folder_in_the_cache_is_not_read(
    ground: Ground, clean: dict[str, bytes], checkpoint_files: Files
) -> None:
    snapshot = ground.cache / MODEL_CACHE / "snapshots" / OLD
    names = [snapshot / name for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
    for name in names:
        name.resolve().unlink()
        name.unlink()
    names[0].symlink_to("/dev/zero")
    names[1].mkdir()
    os.mkfifo(names[2])  # whoever opens it waits for ever
    assert run_again(ground, checkpoint_files) == clean


def test_a_cache_that_cannot_be_written_is_done_without(
    ground: Ground, clean: dict[str, bytes], checkpoint_files: Files
) -> None:
    ground.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(ground.decoys / "file" / "hub"))
    assert run_again(ground, checkpoint_files) == clean


@pytest.mark.parametrize(("home", "own"), [("home", False), ("file/home", True)], ids=["a home", "no home"])
def test_the_cache_is_the_users_where_it_can_be_written(home: str, own: bool, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "project").mkdir()
    code = """
from stages.shared.runtime.environment import go_online
go_online()
from huggingface_hub import constants, get_token
print(constants.HF_HUB_CACHE, get_token())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "project",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / home)},
        capture_output=True,
        text=True,
    )
    expected = tmp_path / ("project/.scratch/cache/hub" if own else "home/.cache/huggingface/hub")
    assert (done.stdout, done.stderr) == (f"{expected} None\n", "")
    assert not (tmp_path / "home").exists()  # nothing is made before it is needed


# The list of files


def listing(change: Callable[[list[dict[str, Any]]], Any]) -> Fault:
    """Alters the list of files with its hashes."""
    return Fault("/tree/", alter=lambda answer: json.dumps(change(json.loads(answer))).encode())


def each(**values: Any) -> Callable[[list[dict[str, Any]]], Any]:
    return lambda entries: [entry | values for entry in entries]


ODD_LISTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "empty": (lambda entries: [], "list of hashes does not name"),
    "no hash": (each(oid=None, lfs=None), "no size and hash for"),
    "empty hash": (each(oid="", lfs=None), "no size and hash for"),
    "a path for a hash": (each(lfs={"oid": "../../../../decoys/file", "size": 1}), "no size and hash for"),
    "no object for a hash": (each(lfs=[1]), "no size and hash for"),
    "below nothing": (each(size=-1, lfs=None), "no size and hash for"),
    "no number": (each(size=True, lfs=None), "no size and hash for"),
    "a path that leads up": (
        each(path="../../decoys/file", type="file"),
        "'../../decoys/file', which is outside the repository",
    ),
    "a path from the root": (each(path="/etc/decoy", type="file"), "which is outside the repository"),
    "no path": (each(path="", type="file"), "which is outside the repository"),
    "an empty folder": (each(path="a//b", type="file"), "which is outside the repository"),
    "a number for a path": (each(path=7, type="file"), "which is outside the repository"),
    "an object": (lambda entries: {"files": entries}, "the list of its files is not a list of files"),
    "no object in it": (lambda entries: [*entries, None], "the list of its files is not a list of files"),
    "a number": (lambda entries: 5, "the list of its files is not a list of files"),
}


@pytest.mark.parametrize("name", ODD_LISTS)
def test_a_list_that_is_odd_is_refused(name: str, ground: Ground, checkpoint_files: Files) -> None:
    change, message = ODD_LISTS[name]
    sources = PINNED_CHECKPOINT if len(name) % 2 else PINNED_DATASET
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [listing(change)]
        assert message in refused(ground, hub, **sources)


@pytest.mark.parametrize(
    ("lacking", "sources"),
    [
        ("model.safetensors", PINNED_CHECKPOINT),
        ("tokenizer_config.json", PINNED_CHECKPOINT),
        (TABLE_FILE, PINNED_DATASET),
        ("README.md", PINNED_DATASET),
    ],
)
def test_a_file_that_the_list_of_hashes_lacks_cannot_be_verified(
    lacking: str, sources: dict[str, Any], ground: Ground, checkpoint_files: Files
) -> None:
    """Another answer of the Hub names it."""
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [listing(lambda entries: [entry for entry in entries if entry["path"] != lacking])]
        assert f"list of hashes does not name {lacking}" in refused(ground, hub, **sources)


def test_more_files_than_fit_into_memory_are_refused(ground: Ground, checkpoint_files: Files) -> None:
    ground.patch.setattr("stages.download.hub_files.MAX_FILES", 3)
    with hub_of(checkpoint=checkpoint_files) as hub:
        assert "checkpoint someone/model: more than 3 files" in refused(ground, hub, **PINNED_CHECKPOINT)


def test_a_project_whose_path_is_a_pattern_is_told_so(ground: Ground, tmp_path: Path) -> None:
    ground.patch.setattr("stages.download.hub.SCRATCH", tmp_path / "a [new] one")
    with hub_of() as hub:
        assert "in a path as patterns; rename it" in refused(ground, hub, **PINNED_DATASET)


def test_a_size_that_no_disk_has_is_a_full_disk(ground: Ground, checkpoint_files: Files) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [listing(each(size=2**70, lfs=None))]
        with pytest.raises(OSError, match="No space left on device"):
            ground.download(hub, **PINNED_CHECKPOINT)
        assert not [path for _, path in hub.requests if "/resolve/" in path]


@pytest.mark.parametrize(
    "link",
    [
        "<http://{other}/api/next>",
        "<//{other}/api/next>",
        "<https://{own}/api/next>",
        "<http://user:password@{other}/api/next>",
        "<http://{own}@{other}/api/next>",
        "<file:///etc/decoy>",
    ],
)
def test_a_list_that_goes_on_at_another_host_is_refused_and_no_credential_goes_there(
    link: str, ground: Ground, checkpoint_files: Files
) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        places = {"other": hub.storage_host, "own": hub.endpoint.partition("://")[2]}
        hub.faults = [Fault("/tree/", headers={"Link": f'{link.format(**places)}; rel="next"'})]
        sources = PINNED_CHECKPOINT if len(link) % 2 else PINNED_DATASET
        assert "its list of files continues on another host" in refused(ground, hub, **sources)
        assert not [request for request in hub.seen if request.host == hub.storage_host]


def test_pages_are_followed_at_the_hubs_own_host_with_its_credentials(ground: Ground, checkpoint_files: Files) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.token, hub.page = "hf_secret", 2
        ground.download(hub, **BOTH)
        ground.assert_unharmed(hub)
    assert len([path for _, path in hub.requests if "/tree/" in path]) >= 4
    assert ground.published()["models/pretrained/config.json"] == checkpoint_files["config.json"]


@pytest.mark.parametrize("entries", [None, b"[]"], ids=["the same page", "empty pages"])
def test_a_list_that_never_ends_is_given_up(entries: bytes | None, ground: Ground, checkpoint_files: Files) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [Fault("/tree/", headers={"Link": '<?recursive=true>; rel="next"'}, content=entries)]
        message = refused(ground, hub, **PINNED_CHECKPOINT)
    assert "does not end after 200 pages" in message or "execution.network_timeout_seconds: 2" in message


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("/api/", endless=b"[" * 65536), "the answer has more than 16 MiB"),
        (Fault("/api/", status=404, endless=b"x" * 65536), "the answer has more than 16 MiB"),
        (Fault("/api/", content=b"[" * 100_000), "maximum recursion depth"),
        (Fault("/api/", trickle=0.004), r"too slow \(\d+ bytes came"),
        (
            Fault("/api/", content=gzip.compress(b" " * 2**24), headers={"Content-Encoding": "gzip"}),
            "the answer is compressed, although this was not requested",
        ),
        (Fault("/api/", status=302, headers={"Location": "/api/again"}), "more than 20 redirects"),
        (Fault("/api/", content=b'{"sha": ["x"], "siblings": 5}'), "the answer does not describe a repository"),
        (Fault("/api/", content=b'{"siblings": [7]}'), "cannot be read from http://127.0.0.1"),
        (Fault("/api/", status=403, content=b"[]"), "the answer was 403 Forbidden"),
        (Fault("/api/", content=b"\xff\xfe"), "cannot be read from http://127.0.0.1"),
    ],
    ids=["endless", "endless error", "deep", "slow", "bomb", "circle", "odd", "odder", "odd error", "no text"],
)
def test_an_answer_is_bounded_in_size_time_and_form(
    fault: Fault, message: str, ground: Ground, checkpoint_files: Files
) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        if fault.trickle:  # some 250 bytes a second: alive, but a list must come as a whole
            fault = Fault("/api/", trickle=fault.trickle, content=b" " * 10_000)
        hub.faults = [Fault(**vars(fault))]
        assert re.search(message, refused(ground, hub, **PINNED_CHECKPOINT))


# Credentials


@pytest.mark.parametrize(
    ("status", "location"),
    [
        (301, "http://{other}/x"),
        (302, "//{other}/x"),
        (307, "http://a:b@{other}/x"),
        (308, "http://{own}@{other}/x"),
    ],
)
@pytest.mark.parametrize("path", ["/api/", "/resolve/"])
def test_no_redirect_takes_a_credential_to_another_host(
    status: int, location: str, path: str, ground: Ground, checkpoint_files: Files
) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        places = {"other": hub.storage_host, "own": hub.endpoint.partition("://")[2]}
        headers = {"Location": location.format(**places), "Set-Cookie": "session=secret; Path=/"}
        hub.faults = [Fault(path, status=status, headers=headers)]
        refused(ground, hub, **PINNED_CHECKPOINT)
        assert [request for request in hub.seen if request.host == hub.storage_host]


def test_the_password_in_hf_endpoint_is_used_and_not_told(
    download: Downloader, checkpoint_files: Files, tmp_path: Path
) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        secret = hub.endpoint.replace("://", "://someone:sesame@")
        hub.storage = True
        assert download(hub, env={"HF_ENDPOINT": secret}, **PINNED_CHECKPOINT).returncode == 0
        own = hub.endpoint.partition("://")[2]
        assert {(request.host == own, request.authorization) for request in hub.seen} == {
            (True, "Basic c29tZW9uZTpzZXNhbWU="),
            (False, None),
        }
        written = [file for file in tmp_path.rglob("*") if file.is_file() and b"sesame" in file.read_bytes()]
        assert not written


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/api/", status=404),
        Fault("/api/", status=404, headers={"X-Error-Code": "RepoNotFound"}),
        Fault("/api/", status=403, headers={"X-Error-Code": "GatedRepo"}),
        Fault("/api/", headers={"X-Repo-Commit": "1" * 40}),
        Fault("/api/", content=b"?"),
        Fault("/resolve/", status=403),
        Fault("/tree/", headers={"Link": '<http://example.org/>; rel="next"'}),
    ],
    ids=range(7),
)
def test_no_message_tells_the_password_in_hf_endpoint(fault: Fault, ground: Ground, checkpoint_files: Files) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [Fault(**vars(fault))]
        endpoint = hub.endpoint.replace("://", "://someone:sesame@")
        with pytest.raises(BadInput) as raised:
            ground.download(hub, endpoint=endpoint, **PINNED_CHECKPOINT)
    assert "sesame" not in str(raised.value) and "someone:" not in str(raised.value)


def test_an_endpoint_that_is_no_address_is_not_quoted_with_its_password(ground: Ground) -> None:
    with hub_of() as hub, pytest.raises(BadInput) as raised:
        ground.download(hub, endpoint="http://someone:ses/ame@127.0.0.1:9", **PINNED_DATASET)
    assert "ses" not in str(raised.value).replace("someone/pairs", "")


# Contents


@pytest.mark.parametrize(
    "etag", ["../../../../decoys/file", "/etc/decoy", "", '"../../../../../decoys/new"', 'W/"../x"'], ids=range(5)
)
def test_no_header_of_an_answer_names_a_place_on_the_disk(etag: str, ground: Ground, checkpoint_files: Files) -> None:
    """The Hub's own library stores a file under the name that the answer's ETag gives it."""
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [Fault("/resolve/", headers={"ETag": etag, "X-Linked-Etag": etag})]
        ground.download(hub, **BOTH)
        ground.assert_unharmed(hub)


def test_a_file_that_never_ends_is_cut_at_the_size_that_the_list_names(ground: Ground, checkpoint_files: Files) -> None:
    with hub_of(checkpoint=checkpoint_files) as hub:
        hub.faults = [Fault("/resolve/.*/model.safetensors", endless=b"x" * 65536)]
        assert "it should be of size" in refused(ground, hub, **PINNED_CHECKPOINT)


REPEATED = [f"{two}: &{two} [{', '.join([f'*{one}'] * 10)}]" for one, two in zip("abcdefgh", "bcdefghi", strict=True)]
CARDS = {
    "an absolute path": "configs:\n- config_name: default\n  data_files: /etc/passwd\n",
    "a path out of it": "configs:\n- config_name: default\n  data_files: ../../../decoys/*\n",
    "a folder out of it": "configs:\n- config_name: default\n  data_dir: ../..\n",
    "a path of the home": "configs:\n- config_name: default\n  data_files: ~/x.csv\n",
    "a chain": "configs:\n- config_name: default\n  data_files: 'zip://x::/etc/decoy.zip'\n",
    "repetitions": "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *REPEATED, ""]),
    "a circle": "a: &a [*a]\n",
    "depth": "a: " + "[" * 500 + "\n",
    "no mapping": "[1, 2]\n",
    "odd features": "dataset_info:\n- config_name: default\n  features: 7\n",
    "odd configurations": "configs: 7\n",
    "a tag": "a: !!python/object/apply:os.system ['touch was-here']\n",
}


@pytest.mark.parametrize(
    ("name", "file"), [(name, "README.md") for name in CARDS] + [("an absolute path", ".huggingface.yaml")]
)
def test_a_hostile_card_is_refused_in_a_line(name: str, file: str, ground: Ground) -> None:
    card = f"---\n{CARDS[name]}---\n" if file == "README.md" else CARDS[name]
    with hub_of(PAIRS | {file: card.encode()}) as hub:
        refused(ground, hub, **PINNED_DATASET)
    assert not list(ground.folder.rglob("was-here"))


def test_a_dataset_of_another_kind_than_tables_is_refused(ground: Ground) -> None:
    with hub_of({"train.tar": b"", "validation.tar": b""}) as hub:
        assert "its files are read as webdataset, not as tables" in refused(ground, hub, **PINNED_DATASET)


def test_a_dataset_without_a_card_is_read_by_the_names_of_its_files(ground: Ground) -> None:
    files = {f"data/{name}.jsonl": b"" for name in ("train", "dev")}
    rows = [{"sentence1": f"one {row}", "sentence2": f"two {row}", "label": row % 2} for row in range(4)]
    files = {name: "".join(json.dumps(row) + "\n" for row in rows).encode() for name in files}
    with hub_of(files) as hub:
        ground.download(hub, **PINNED_DATASET)
    assert "data/raw/validation/state.json" in ground.published()
