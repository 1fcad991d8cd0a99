"""A finished model: what a dvc.lock records of it, from the workspace or from any commit."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.cli import Unanswerable
from checks.lock import find_mismatches
from checks.revisions import WORKSPACE, Revision, find_revision
from stages.shared.task.problem_types import PROBLEMS, Problem

FINETUNED = "models/finetuned"
MAKERS = ("download", "tokenize", "train", "predict")  # the stages that have a say in a logit


@dataclass(frozen=True)
class FinishedModel:
    """A fine-tuned model, with the parameters that it was made and scored with."""

    revision: Revision
    folder: Path  # what `from_pretrained` reads
    problem: Problem
    label_names: list[str]  # in the order of the logits; empty: a regression
    max_length: int  # tokens, the special ones included
    params: dict[str, Any]  # section of params.yaml -> its values, as dvc.lock has them

    @property
    def label_delimiter(self) -> str:
        """What stands between the labels of a row where they are one text."""
        return self.params["download"].get("label_delimiter") or "|"

    @property
    def text_columns(self) -> list[str]:
        """The names of the one or two columns of texts in the data that the model was trained on."""
        download = self.params["download"]
        if download["dataset"].startswith("glue/"):
            from stages.download.glue import GLUE  # here, for it takes the seconds of the Hub's client

            first, second = GLUE[download["dataset"].removeprefix("glue/")].columns
        else:
            first, second = download["text_column"], download["text_pair_column"]
        return [first] if second is None else [first, second]


def open_model(repo: Any, name: str | None, folder: Path) -> FinishedModel:
    """Brings the model that a revision's dvc.lock records into an empty folder, as links to DVC's cache.

    The workspace's model, too, is that of its dvc.lock: what lies in models/finetuned may be half of another run.

    Args:
        name: a branch, tag, commit or experiment. None: the workspace.

    Raises:
        Unanswerable: there is no such revision, its lock is not whole, or the model is nowhere.
    """
    revision = Revision(WORKSPACE, None, repo) if name is None else find_revision(repo, name)
    params: dict[str, Any] = {}
    lock = revision.lock
    for stage in MAKERS:
        if stage not in lock:
            raise Unanswerable(f"{revision.name}: no stage {stage} in its dvc.lock; `dvc repro` there makes it")
        params |= lock[stage].get("params", {}).get("params.yaml", {})
    for file, place in revision.files(FINETUNED).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to(place.resolve())
    config, cuts = (_read(revision, folder / file) for file in ("config.json", "tokenizer_config.json"))
    try:
        problem = PROBLEMS[config["problem_type"]]
        names = {} if problem.numeric else config["id2label"]
        labels = [names[str(number)] for number in range(len(names))]
        return FinishedModel(revision, folder, problem, labels, int(cuts["model_max_length"]), params)
    except (LookupError, TypeError, ValueError):
        raise Unanswerable(
            f"{revision.name}: {FINETUNED}: config.json and tokenizer_config.json are not what train writes; "
            "run `dvc repro -f train`"
        ) from None


def stale(model: FinishedModel) -> str | None:
    """Says in a line that the workspace is not what its model was made with; None where it is, and of a commit."""
    if model.revision.commit is not None:
        return None
    mismatches = find_mismatches(model.revision.repo, model.revision.lock)
    reasons = [why for stage, lines in mismatches.stages.items() if stage in MAKERS for why in lines]
    reasons = list(dict.fromkeys([*mismatches.foreign, *reasons]))
    if not reasons:
        return None
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}: this is the model of dvc.lock; `dvc repro` makes that of the files as they are"


def _read(revision: Revision, file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        where = f"{revision.name}: {FINETUNED}/{file.name}"
        raise Unanswerable(f"{where}: cannot be read; run `dvc repro -f train`") from None
