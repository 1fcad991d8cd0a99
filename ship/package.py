"""A folder to hand on: the model as `from_pretrained` reads it, its card, and where it came from; never the data."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks.attestation import FOLDER, SIGNERS, CountsForNothing, read_evidence
from checks.cli import Unanswerable
from checks.revisions import LOCK_FILE, WORKSPACE, Revision, git
from checks.signing import read_signers
from ship.model import FinishedModel, calibration_of, open_model
from stages.shared.runtime.publish import write_json

CARD = "metrics/model_card.md"
PROVENANCE_FILE, CALIBRATION_FILE = "provenance.json", "calibration.json"
DATA = (".arrow", ".parquet", ".csv", ".tsv", ".jsonl", ".npy", ".gz")  # what no file of a model is called


def assemble(repo: Any, name: str | None, folder: Path) -> FinishedModel:
    """Fills an empty folder; the model's files are links.

    It is always a commit's, for the card says of which. Without a name it is HEAD, which must have the dvc.lock that is
    here.

    Raises:
        Unanswerable: there is no such commit, its model or card is nowhere, or dvc.lock is not committed.
    """
    if name is None and Revision(WORKSPACE, None, repo).text(LOCK_FILE) != _text(repo, "HEAD"):
        raise Unanswerable(
            "dvc.lock is not committed, so no commit tells what made this model; commit it, or name one by --revision"
        )
    model = open_model(repo, name or "HEAD", folder)
    for file in contents(folder):
        if file.endswith(DATA):
            raise Unanswerable(f"models/finetuned/{file}: looks like data, which is not handed on; take it out")
    facts = provenance(model.revision)
    write_json(folder / PROVENANCE_FILE, facts)
    is_calibrated = calibration_of(model.revision, folder) is not None
    card = model.revision.files(CARD)["."].read_text(encoding="utf-8")
    (folder / "README.md").write_text(f"{card.rstrip()}\n\n{section(facts, is_calibrated)}", encoding="utf-8")
    return model


def provenance(revision: Revision) -> dict[str, Any]:
    """Says by which commit, lock and data a model was made."""
    lock = revision.text(LOCK_FILE) or ""
    scores = revision.text("metrics/metrics.json")
    return {
        "commit": revision.commit,
        "dvc_lock_sha256": hashlib.sha256((lock.rstrip("\n") + "\n").encode()).hexdigest(),
        "data_md5": revision.hash("data/raw"),
        "model_md5": revision.hash("models/finetuned"),
        "metrics": None if scores is None else json.loads(scores),
    }


def section(facts: dict[str, Any], is_calibrated: bool) -> str:
    """Writes the part of the card that says where the model came from."""
    rows = {
        "Commit": facts["commit"],
        "SHA-256 of its dvc.lock": facts["dvc_lock_sha256"],
        "MD5 of data/raw in it": facts["data_md5"],
        "MD5 of models/finetuned in it": facts["model_md5"],
    }
    lines = ["## Provenance", "", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    lines += ["", f"`{PROVENANCE_FILE}` says the same to programs, with the metrics in full."]
    if is_calibrated:
        lines += ["", f"`{CALIBRATION_FILE}` holds how to calibrate the probabilities. The weights are without it."]
    return "\n".join(lines) + "\n"


def contents(folder: Path) -> list[str]:
    """Returns the names of the files in a folder, sorted."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def checksums(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file in a folder."""
    found = {}
    for name in contents(folder):
        with (folder / name).open("rb") as stream:
            found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def statements(revision: Revision) -> Iterator[tuple[str, Path]]:
    """Yields the signed statements in the project that a trusted key rebuilt this revision's dvc.lock, with names."""
    folder = revision.root / FOLDER
    if not (folder / SIGNERS).is_file():
        return
    signers = read_signers(folder / SIGNERS, f"{FOLDER}/{SIGNERS}")
    for file in sorted(folder.glob("*.json")):
        try:
            read_evidence(file, f"{FOLDER}/{file.name}", signers, revision.lock)
        except CountsForNothing:
            continue
        yield f"{FOLDER}/{file.name}", file


def _text(repo: Any, commit: str) -> str | None:
    """Returns a commit's dvc.lock as the workspace's would be read."""
    text = git(Path(repo.root_dir), "show", f"{commit}:./{LOCK_FILE}")
    return None if text is None else f"{text}\n"
