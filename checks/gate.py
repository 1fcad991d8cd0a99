"""Is the model of the workspace good enough? Holds metrics/metrics.json to the rules in params.yaml's `gate`.

    python -m checks.gate

A rule names a split and a metric, and one of: `at_least` (`at_most` where less is better); `against` a revision with
`allowed_drop`, how much worse the metric may be; `against` with `not_significantly_worse: true`, where it may be
anything but "worse" by the verdict of checks.compare.
Exit status, after one line for each rule: 0 all pass or there are none, 1 one fails; 2 and one line on stderr when
there is no answer.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from checks import cli
from checks.lock import find_mismatches, read_parameters
from checks.paired import MARGIN, compare_split, greater_is_better
from checks.predictions import RAW, read_pair
from checks.revisions import WORKSPACE, Revision, find_revision
from stages.evaluate.params import EvaluateParams
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill, params_dataclass, read_params
from stages.shared.task.metrics import METRICS

SCORES = "metrics/metrics.json"
Finite = Annotated[float, Field(allow_inf_nan=False)]
ASKS = ("at_least", "at_most", "allowed_drop", "not_significantly_worse")


class Ruling(NamedTuple):
    """Whether a rule is kept."""

    passed: bool
    why: str


@params_dataclass
class Rule:
    split: str
    metric: str
    at_least: Finite | None = None
    at_most: Finite | None = None
    against: str | None = None  # a revision
    allowed_drop: Annotated[Finite, Field(ge=0)] | None = None  # for the worse, in the metric's unit
    not_significantly_worse: Literal[True] | None = None


def read_rules(root: Path) -> list[Rule]:
    """Reads the `gate` section of a project's params.yaml.

    Raises:
        Unanswerable: the file cannot be read.
        BadInput: the section is no list of rules, or a rule does not say what to ask, or asks it the wrong way round.
    """
    params = read_parameters(root)
    section = params.get("gate", []) if isinstance(params, Mapping) else None
    if not isinstance(section, list) or not all(isinstance(rule, Mapping) for rule in section):
        raise BadInput("params.yaml: gate: must be a list of rules like {split: validation, metric: f1, at_least: 0.8}")
    rules = [fill(Rule, values, f"params.yaml: gate[{index}]") for index, values in enumerate(section)]
    for index, rule in enumerate(rules):
        place = f"params.yaml: gate[{index}]"
        if rule.metric != "loss" and rule.metric not in METRICS:
            raise BadInput(f"{place}.metric: must be one of {', '.join([*METRICS, 'loss'])}, got {rule.metric!r}")
        asked = [name for name in ASKS if getattr(rule, name) is not None]
        if len(asked) != 1:
            raise BadInput(f"{place}: must have one of {', '.join(ASKS)}, got {' and '.join(asked) or 'none'}")
        if (rule.against is None) != (asked[0] in ("at_least", "at_most")):
            raise BadInput(f"{place}: `against: <revision>` belongs to allowed_drop and not_significantly_worse alone")
        wrong = "at_most" if greater_is_better(rule.metric) else "at_least"
        if asked[0] == wrong:
            right = "at_least" if wrong == "at_most" else "at_most"
            better = "higher" if wrong == "at_most" else "lower"
            raise BadInput(f"{place}.{wrong}: {rule.metric} is better when {better}; use {right}")
    return rules


def judge(rule: Rule, new: Revision, p: EvaluateParams) -> Ruling:
    """Says whether the workspace keeps a rule.

    Raises:
        Unanswerable: what the rule compares with cannot be read, or was scored on other examples.
    """
    name = f"{rule.split} {rule.metric}"
    scores = new.json(SCORES)
    value = scores.get(rule.split, {}).get(rule.metric)
    if value is None:
        return Ruling(False, f"{name} is not in {SCORES}")
    said = f"{name} {value:.4f}"
    if rule.at_least is not None:
        return Ruling(value >= rule.at_least, f"{said}, at least {rule.at_least:g} is asked")
    if rule.at_most is not None:
        return Ruling(value <= rule.at_most, f"{said}, at most {rule.at_most:g} is asked")
    old = find_revision(new.repo, str(rule.against))
    sign = 1 if greater_is_better(rule.metric) else -1
    if rule.allowed_drop is not None:
        before = old.json(SCORES).get(rule.split, {})
        if rule.metric not in before:
            return Ruling(False, f"{name} is not in {SCORES} of {old.name}")
        if old.hash(RAW) != new.hash(RAW) or before["examples"] != scores[rule.split]["examples"]:
            read_pair(old, new, rule.split)  # refuses other examples
        drop = sign * (before[rule.metric] - value)
        passed = drop <= rule.allowed_drop + 1e-9  # 0.81 - 0.80 is above 0.01
        change = f"{before[rule.metric]:.4f} of {old.name}, worse by {max(drop, 0):.4f}"
        return Ruling(passed, f"{said} against {change}, {rule.allowed_drop:g} is allowed")
    comparison = compare_split(rule.split, read_pair(old, new, rule.split), p, MARGIN)
    found = next((one for one in comparison.differences if one.metric == rule.metric), None)
    if found is None:
        return Ruling(False, f"{name} is no metric of the data in {RAW}")
    change = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against {old.name}"
    return Ruling(found.verdict != "worse", f"{said}, {change}: {found.verdict}")


def judge_all(rules: Sequence[Rule], new: Revision) -> list[Ruling]:
    """Judges the run in the workspace.

    Raises:
        Unanswerable: its metrics are not those of its parameters, code and data.
    """
    reasons = find_mismatches(new.repo, new.lock).reasons
    if reasons:
        raise cli.Unanswerable(f"the metrics are not those of the workspace: {reasons[0]}; run `dvc repro`")
    p = read_params("evaluate", EvaluateParams, new.root / "params.yaml")
    return [judge(rule, new, p) for rule in rules]


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    cli.make_parser("gate", __doc__).parse_args(arguments)

    def ask(repo: Any) -> int:
        rules = read_rules(Path(repo.root_dir))
        if not rules:
            print("gate: params.yaml has no rules under `gate`; nothing was asked")
        rulings = judge_all(rules, Revision(WORKSPACE, None, repo)) if rules else []
        for ruling in rulings:
            print(f"{'pass' if ruling.passed else 'FAIL'}  {ruling.why}")
        return int(not all(ruling.passed for ruling in rulings))

    return cli.answer("gate", ask, BadInput)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
