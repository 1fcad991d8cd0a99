"""How many models were scored on a split? Counts them in Git's history and DVC's experiments.

Each look at a test split that is followed by a choice uses some of it up (Dwork et al. 2015, "The reusable holdout"). A
model counts once, however often its scores were committed: a branch, a tag or an experiment that holds it is enough.
What was trained and never kept is not known to anyone.
"""

import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import yaml  # in C: a history has hundreds of locks, and ruamel.yaml takes a tenth of a second for each

from checks.dvc_internals import DamagedObject, cached_listing
from checks.predictions import PREDICTIONS, RAW
from checks.revisions import Revision, git

LOCK = "dvc.lock"


class Look(NamedTuple):
    """What one dvc.lock says to have been scored."""

    splits: tuple[str, ...]  # of params.yaml: evaluate.splits
    predictions: str  # hash of data/predictions
    raw: str | None  # hash of data/raw


def count_looks(new: Revision, splits: Iterable[str]) -> dict[str, int]:
    """Counts for each split the distinct models that were scored on the examples that `new` has there.

    The examples are the same where their labels are, and a model is another one where its logits are. Where DVC's cache
    has no listing of some predictions, their one hash and that of data/raw have to do.
    """
    own = look_of(new.lock)
    looks = set(filter(None, map(look_of, _locks(new)))) | ({own} if own else set())
    listings = {look.predictions: _listing(new, look.predictions) for look in looks}
    return {split: len(set(_models(split, own, looks, listings))) for split in splits}


def _models(
    split: str, own: Look | None, looks: Iterable[Look], listings: Mapping[str, Mapping[str, str] | None]
) -> Iterable[str]:
    """Yields a hash for each time that a model was scored on the split."""
    ours = listings[own.predictions] if own else None
    for look in looks:
        if not any(split == name or split.startswith(f"{name}_") for name in look.splits):
            continue
        listing = listings[look.predictions]
        if listing is None or ours is None:
            if own is not None and look.raw == own.raw:
                yield look.predictions
        elif listing.get(labels := f"{split}/labels.npy") is not None and listing[labels] == ours.get(labels):
            yield listing[f"{split}/logits.npy"]


def _listing(new: Revision, md5: str) -> dict[str, str] | None:
    """Returns what DVC's cache knows of some predictions; a damaged listing is as good as none here."""
    with suppress(DamagedObject):
        return cached_listing(new.repo, md5, PREDICTIONS)
    return None


def look_of(lock: Any) -> Look | None:
    """Reads the stages of a dvc.lock; None if they scored nothing, or are no such thing."""
    try:
        for entry in lock.values():
            read = {item["path"]: str(item["md5"]) for item in entry.get("deps", []) if "md5" in item}
            sections = entry.get("params", {}).get("params.yaml", {})
            if PREDICTIONS in read and "splits" in sections.get("evaluate", {}) and "report" not in sections:
                made = {out["path"]: str(out["md5"]) for one in lock.values() for out in one.get("outs", [])}
                return Look(tuple(sections["evaluate"]["splits"]), read[PREDICTIONS], made.get(RAW))
    except (AttributeError, KeyError, TypeError):  # what somebody wrote by hand
        pass
    return None


def _locks(new: Revision) -> list[Any]:
    """Reads every version of dvc.lock that a branch, tag, remote branch or experiment of this repository leads to."""
    commits = git(new.root, "log", "--all", "--full-history", "--format=%H", "--", LOCK)
    prefix = git(new.root, "rev-parse", "--show-prefix") or ""
    names = "".join(f"{commit}:{prefix}{LOCK}\n" for commit in (commits or "").split())
    kinds = _cat_file(new, "--batch-check=%(objecttype) %(objectname)", names).decode().splitlines()
    blobs = dict.fromkeys(line.partition(" ")[2] for line in kinds if line.startswith("blob "))
    content, locks = _cat_file(new, "--batch", "".join(f"{blob}\n" for blob in blobs)), []
    while content:
        header, _, rest = content.partition(b"\n")
        size = int(header.split()[2])
        text, content = rest[:size], rest[size + 1 :]
        try:
            locks.append(yaml.load(text, Loader=yaml.CSafeLoader)["stages"])
        except (yaml.YAMLError, LookupError, TypeError):
            continue
    return locks


def _cat_file(new: Revision, how: str, names: str) -> bytes:
    command = ["git", "cat-file", how]
    return subprocess.run(command, cwd=new.root, input=names.encode(), capture_output=True, check=True).stdout
