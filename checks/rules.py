"""The rules that params.yaml's `gate` can have."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from checks.attestation import FOLDER
from checks.lock import read_parameters
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill, params_dataclass
from stages.shared.statistics.labels import METRICS_OF_A_LABEL
from stages.shared.statistics.paired import checked_margin
from stages.shared.task.metrics import METRICS, greater_is_better

FLIPS_AT_MOST = 0.05  # of the predictions of a split: an exported model that changes more is another one
Finite = Annotated[float, Field(allow_inf_nan=False)]
ASKS = ("at_least", "at_most", "not_worse_by")
GONE = {
    "allowed_drop": "on few examples, two scores differ by this much by chance",
    "not_significantly_worse": "it let any model pass if there were too few examples",
}


@params_dataclass
class Rule:
    split: str
    metric: str
    label: str | None = None  # whose precision, recall or f1 it is; None: the metric of all
    at_least: Finite | None = None
    at_most: Finite | None = None
    against: str | None = None  # a revision
    not_worse_by: Finite | None = None  # for the worse, in the metric's unit


@params_dataclass
class RebuiltRule:
    rebuilt_by: Annotated[int, Field(ge=1)]  # distinct trusted keys
    attestations: str = FOLDER  # the folder of the statements and of the list of trusted keys


@params_dataclass
class ExportRule:
    export: str  # the folder that `ship.export` wrote
    flips_at_most: Annotated[float, Field(ge=0, le=1)] = FLIPS_AT_MOST  # of a split's predictions


AnyRule = Rule | RebuiltRule | ExportRule


def read_rules(root: Path) -> list[AnyRule]:
    """Reads the `gate` section of a project's params.yaml.

    Raises:
        Unanswerable: the file cannot be read.
        BadInput: the section is no list of rules, or a rule does not say what to ask, or asks it the wrong way round.
    """
    params = read_parameters(root)
    section = params.get("gate", []) if isinstance(params, Mapping) else None
    if not isinstance(section, list) or not all(isinstance(rule, Mapping) for rule in section):
        raise BadInput("params.yaml: gate: must be a list of rules like {split: validation, metric: f1, at_least: 0.8}")
    for index, values in enumerate(section):
        for name in GONE.keys() & values.keys():
            raise BadInput(
                f"params.yaml: gate[{index}].{name}: is no longer a rule: {GONE[name]}; use not_worse_by: 0.02, "
                "which passes if the interval of the difference shows that the metric is worse by less than that"
            )
    return [read_rule(values, f"params.yaml: gate[{index}]") for index, values in enumerate(section)]


def read_rule(values: Mapping[Any, Any], place: str) -> AnyRule:
    """Reads one rule.

    Raises:
        BadInput: it does not say what to ask, or asks it the wrong way round.
    """
    if "rebuilt_by" in values:
        rebuilt = fill(RebuiltRule, values, place)
        check_folder(rebuilt.attestations, f"{place}.attestations")
        return rebuilt
    if "export" in values:
        exported = fill(ExportRule, values, place)
        check_folder(exported.export, f"{place}.export")
        return exported
    if not {"split", "metric"} & values.keys():
        named = ", ".join(map(str, values)) or "nothing"
        other = "{rebuilt_by: 2} or {export: exports/onnx}"
        raise BadInput(f"{place}: must name a split and a metric, or be {other}, got {named}")
    rule = fill(Rule, values, place)
    if rule.metric != "loss" and rule.metric not in METRICS:
        raise BadInput(f"{place}.metric: must be one of {', '.join([*METRICS, 'loss'])}, got {rule.metric!r}")
    if rule.label is not None and rule.metric not in METRICS_OF_A_LABEL:
        raise BadInput(
            f"{place}.metric: of a label must be one of {', '.join(METRICS_OF_A_LABEL)}, got {rule.metric!r}"
        )
    asked = [name for name in ASKS if getattr(rule, name) is not None]
    if len(asked) != 1:
        raise BadInput(f"{place}: must have one of {', '.join(ASKS)}, got {' and '.join(asked) or 'none'}")
    if (rule.against is None) != (asked[0] in ("at_least", "at_most")):
        raise BadInput(f"{place}: `against: <revision>` and not_worse_by must be used together, and with no other rule")
    wrong = "at_most" if greater_is_better(rule.metric) else "at_least"
    if asked[0] == wrong:
        right = "at_least" if wrong == "at_most" else "at_most"
        better = "higher" if wrong == "at_most" else "lower"
        raise BadInput(f"{place}.{wrong}: {rule.metric} is better when {better}; use {right}")
    if rule.not_worse_by is not None:
        try:
            checked_margin(rule.metric, rule.not_worse_by)
        except ValueError as error:
            raise BadInput(f"{place}.not_worse_by: {error}") from None
    return rule


def check_folder(name: str, place: str) -> None:
    """Makes sure that a folder is one of the repository.

    Raises:
        BadInput: it lies elsewhere.
    """
    folder = PurePosixPath(name)
    if not name or folder.is_absolute() or ".." in folder.parts:
        raise BadInput(f"{place}: must be a folder of the repository, got {name!r}")
