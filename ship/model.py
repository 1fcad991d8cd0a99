"""A finished model: what a dvc.lock records of it, from the workspace or from any commit."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.cli import Unanswerable
from checks.lock import find_mismatches
from checks.revisions import WORKSPACE, Revision, find_revision
from stages.download.source import as_list
from stages.shared.task.calibration import Calibration, read_calibration
from stages.shared.task.problem_types import PROBLEMS
from stages.shared.task.task import Task
from stages.tokenize.cuts import Cut

FINETUNED, PREDICTIONS, CALIBRATION = "models/finetuned", "data/predictions", "metrics/calibration.json"
MAKERS = ("download", "tokenize", "train", "predict")  # the stages that have a say in a logit


@dataclass(frozen=True)
class FinishedModel:
    """A fine-tuned model, with the parameters that it was made and scored with."""

    revision: Revision
    folder: Path  # what `from_pretrained` reads
    task: Task  # as far as the model itself tells it
    max_length: int  # tokens, the special ones included
    params: dict[str, Any]  # section of params.yaml -> its values, as dvc.lock has them

    @property
    def label_delimiter(self) -> str:
        """What stands between the labels of a row where they are one text."""
        return self.params["download"].get("label_delimiter") or "|"

    @property
    def cut(self) -> Cut:
        """What becomes of texts that are longer than `max_length`; cutting them off was once the only choice."""
        p = self.params["tokenize"]
        return Cut(self.max_length, p.get("long_texts", "truncate"), p.get("stride", 0))

    @property
    def texts(self) -> list[list[str]]:
        """For the text, and the second one of pairs, the columns that it was joined from for the training."""
        download = self.params["download"]
        if download["dataset"].startswith("glue/"):
            from stages.download.glue import GLUE  # here, for it takes the seconds of the Hub's client

            first, second = GLUE[download["dataset"].removeprefix("glue/")].columns
        else:
            first, second = download["text_column"], download["text_pair_column"]
        return [as_list(columns) for columns in (first, second) if columns is not None]

    @property
    def text_columns(self) -> list[str]:
        """The columns of all texts, each once: two texts may share one."""
        return list(dict.fromkeys(name for names in self.texts for name in names))


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
        sections = lock[stage].get("params", {}).get("params.yaml", {})
        if stage != "train" and not isinstance(sections.get(stage), dict):  # nothing here asks how it was trained
            raise Unanswerable(f"{revision.name}: no parameters of {stage} in its dvc.lock; `dvc repro` there makes it")
        params |= sections
    link_files(revision, FINETUNED, folder)
    config, cuts = (_read(revision, folder / file) for file in ("config.json", "tokenizer_config.json"))
    try:
        names = {} if PROBLEMS[config["problem_type"]].numeric else config["id2label"]
        labels = [names[str(number)] for number in range(len(names))]
        task = Task(revision.name, config["problem_type"], labels, metrics=[], source="", revision="")
        return FinishedModel(revision, folder, task, int(cuts["model_max_length"]), params)
    except (LookupError, TypeError, ValueError):
        raise Unanswerable(
            f"{revision.name}: {FINETUNED}: config.json and tokenizer_config.json are not what train writes; "
            "run `dvc repro -f train`"
        ) from None


def calibration_of(revision: Revision, folder: Path) -> Calibration | None:
    """Copies the calibration of a revision's model into a folder and reads it; None, and no file, where it has none.

    Raises:
        Unanswerable: the file is not the one that dvc.lock records, or was fitted on another model's predictions.
    """
    lock = revision.lock
    if "calibrate" not in lock:
        return None
    remedy = "`dvc repro` makes it anew, and --uncalibrated does without"
    text = (revision.text(CALIBRATION) or "").rstrip("\n") + "\n"
    if hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() != revision.hash(CALIBRATION):
        raise Unanswerable(f"{revision.name}: {CALIBRATION} is not the file that dvc.lock records; {remedy}")
    for reader, path in (("calibrate", PREDICTIONS), ("predict", FINETUNED)):
        read = {item["path"]: item["md5"] for item in lock[reader].get("deps", [])}
        if read.get(path) != revision.hash(path):
            raise Unanswerable(f"{revision.name}: {CALIBRATION} was fitted on another model's predictions; {remedy}")
    file = folder / Path(CALIBRATION).name
    file.write_text(text, encoding="utf-8")
    found = read_calibration(file)
    if found is None:
        file.unlink()
    return found


def link_files(revision: Revision, out: str, folder: Path) -> None:
    """Brings an out into an empty folder, as links to DVC's cache.

    Raises:
        Unanswerable: it is nowhere.
    """
    for file, place in revision.files(out).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to(place.resolve())


def stale(model: FinishedModel, calibrated: bool = False) -> str | None:
    """Says in a line that the workspace is not what its model was made with; None where it is, and of a commit.

    Args:
        calibrated: whether that is asked of its calibration too.
    """
    if model.revision.commit is not None:
        return None
    makers = (*MAKERS, "calibrate") if calibrated else MAKERS
    mismatches = find_mismatches(model.revision.repo, model.revision.lock)
    reasons = [why for stage, lines in mismatches.stages.items() if stage in makers for why in lines]
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
