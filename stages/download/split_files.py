"""Finds the files of each split by their names or by the patterns of `download.split_files`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from stages.download.readers import KNOWN_FORMATS, file_format
from stages.download.source import SPLIT_KINDS, SPLIT_NAME, check_split_name, in_order, split_kind
from stages.shared.runtime.errors import BadInput

SHARD = re.compile(r"(?P<split>\w+)(-\d+-of-(?P<total>\d+))?(?P<suffix>\.\w+(\.gz)?)?")


def find_files(path: Path, patterns: Mapping[str, str] | None) -> dict[str, list[Path]]:
    """Returns the files of each split, sorted by name, in the order train, validation, test.

    Raises:
        BadInput: there is no train split, or a file belongs to no split, to two, or to none of the known formats.
    """
    if path.is_file():
        if patterns is not None:
            raise BadInput(f"params.yaml: download.split_files: {path} is one file; name its folder, or set it to null")
        _check_format(path)
        return {"train": [path]}
    if not path.is_dir():
        raise BadInput(f"params.yaml: download.dataset_files: no such folder or file: {path}")
    splits = _by_name(path) if patterns is None else _by_pattern(path, patterns)
    if "train" not in splits:
        names = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
        raise BadInput(
            f"{path}: no train.{KNOWN_FORMATS} there, only {names}; name the files after the splits, or set "
            "download.split_files"
        )
    for split, files in splits.items():
        if len(set(map(file_format, files))) > 1:
            raise BadInput(f"{path}: the {split} split has files of several formats; convert them to one")
    return in_order(splits)


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Finds `train.csv`, the shards `train-00000-of-00002.csv`, or all tables in the folder `train`."""
    forms: dict[str, dict[str, list[Path]]] = {}  # split -> how its files are named -> those files
    for entry in sorted(folder.iterdir()):
        matched = SHARD.fullmatch(entry.name)
        if matched is None or split_kind(matched["split"]) not in SPLIT_KINDS:
            continue
        split, total, is_folder = matched["split"], matched["total"], entry.is_dir()
        is_split = SPLIT_NAME.fullmatch(split)
        if not (is_split if is_folder else file_format(entry)):
            continue  # A folder such as train_logs, or a file such as train.txt, is something else of the user's.
        if not is_split:
            raise BadInput(
                f"{entry}: there is one train split; name its files train-00000-of-00002 and so on, or set "
                "download.split_files"
            )
        form = entry.name if total is None or is_folder else f"{split}-*-of-{total}{matched['suffix']}"
        forms.setdefault(split, {}).setdefault(form, []).append(entry)
    splits = {}
    for split, candidates in forms.items():
        if len(candidates) > 1:
            raise BadInput(f"{folder}: {' and '.join(candidates)} are both the {split} split; keep one")
        ((form, entries),) = candidates.items()
        total = form.partition("-*-of-")[2].partition(".")[0]
        if total and len(entries) != int(total):
            raise BadInput(f"{folder}: only {len(entries)} of {int(total)} files {form} are there; add the others")
        splits[split] = _inside(entries[0]) if entries[0].is_dir() else entries
    return splits


def _inside(folder: Path) -> list[Path]:
    """Returns the tables in a split's folder; where `datasets` saved it, its own list, without its caches."""
    state = folder / "state.json"  # `Dataset.save_to_disk` writes it, and `Dataset.map` leaves caches beside it.
    if state.is_file():
        saved = json.loads(state.read_text(encoding="utf-8"))
        return [folder / file["filename"] for file in saved["_data_files"]]
    files = [file for file in _visible_files(folder, "*") if file_format(file)]
    if not files:
        raise BadInput(f"{folder}: no {KNOWN_FORMATS} in it; a folder named after a split holds its files")
    return files


def _by_pattern(folder: Path, patterns: Mapping[str, str]) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    split_of: dict[Path, str] = {}
    for split, pattern in patterns.items():
        key = f"params.yaml: download.split_files: {split}"
        check_split_name(split)
        # DVC watches the folder dataset_files, and a file outside of it could change without a rerun.
        if not pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise BadInput(f"{key}: expected a pattern inside download.dataset_files, got {pattern!r}")
        try:
            splits[split] = _visible_files(folder, pattern)
        except ValueError as error:
            raise BadInput(f"{key}: {pattern!r} is not a valid pattern: {str(error).rstrip('.')}") from None
        if not splits[split]:
            raise BadInput(f"{key}: no file in {folder} matches {pattern!r}")
        for file in splits[split]:
            _check_format(file)
            if file in split_of:
                raise BadInput(f"{key}: {file} is in the {split_of[file]} split too; narrow one of the patterns")
            split_of[file] = split
    return splits


def _visible_files(folder: Path, pattern: str) -> list[Path]:
    """Returns the files that match, sorted, but for hidden ones and those in hidden folders, as .ipynb_checkpoints."""
    return sorted(
        file
        for file in set(folder.glob(pattern))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _check_format(file: Path) -> None:
    if not file_format(file):
        raise BadInput(f"{file}: unknown format; expected {KNOWN_FORMATS}, the first three also with .gz")
