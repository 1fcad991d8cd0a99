"""Is the model of the workspace good enough? Holds metrics/metrics.json to the rules in params.yaml's `gate`.

    python -m checks.gate

A rule names a split and a metric, and one of: `at_least` (`at_most` where less is better); `against` a revision with
`allowed_drop`, how much worse the metric may be; `against` with `not_significantly_worse: true`, where it may be
anything but "worse" by the verdict of checks.compare.
Exit status, after one line for each rule: 0 all pass or there are none, 1 one fails; 2 and one line on stderr when
there is no answer.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from dvc.exceptions import DvcException
from dvc.repo import Repo
from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from checks.compare import MARGIN, RAW, compare_split, greater_is_better, same_examples, same_task
from checks.revisions import WORKSPACE, Revision, Unanswerable, find_revision, stale
from checks.verify import belonging
from stages.evaluate.evaluate import EvaluateParams
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import fill, params_dataclass, read_params
from stages.shared.task.scoring import METRICS

SCORES = "metrics/metrics.json"
Finite = Annotated[float, Field(allow_inf_nan=False)]
Outcome = tuple[bool, str]


@params_dataclass
class Rule:
    split: str
    metric: str
    at_least: Finite | None = None
    at_most: Finite | None = None
    against: str | None = None  # a revision
    allowed_drop: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = (
        None  # for the worse, in the metric's unit
    )
    not_significantly_worse: Literal[True] | None = None


def read_rules(file: Path) -> list[Rule]:
    """Reads the `gate` section of a params.yaml.

    Raises:
        BadInput: the file is no YAML, the section is no list of rules, or a rule does not say what to ask, or asks it
            the wrong way round.
    """
    try:
        document = YAML(typ="safe", pure=True).load(file)
    except (OSError, YAMLError) as error:
        raise BadInput(f"params.yaml: cannot be read: {error}") from None
    section = document.get("gate", []) if isinstance(document, Mapping) else None
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


ASKS = ("at_least", "at_most", "allowed_drop", "not_significantly_worse")


def judge(rule: Rule, new: Revision, p: EvaluateParams) -> Outcome:
    """Returns whether the workspace passes a rule, and why.

    Raises:
        Unanswerable: what the rule compares with cannot be read, or was scored on other examples.
    """
    name = f"{rule.split} {rule.metric}"
    scores = new.json(SCORES)
    value = scores.get(rule.split, {}).get(rule.metric)
    if value is None:
        return False, f"{name} is not in {SCORES}"
    said = f"{name} {value:.4f}"
    if rule.at_least is not None:
        return value >= rule.at_least, f"{said}, at least {rule.at_least:g} is asked"
    if rule.at_most is not None:
        return value <= rule.at_most, f"{said}, at most {rule.at_most:g} is asked"
    old = find_revision(new.repo, str(rule.against))
    sign = 1 if greater_is_better(rule.metric) else -1
    if rule.allowed_drop is not None:
        before = old.json(SCORES).get(rule.split, {})
        if rule.metric not in before:
            return False, f"{name} is not in {SCORES} of {old.name}"
        if old.hash(RAW) != new.hash(RAW) or before["examples"] != scores[rule.split]["examples"]:
            same_task(old, new)
            same_examples(old, new, rule.split)
        drop = sign * (before[rule.metric] - value)
        passed = drop <= rule.allowed_drop + 1e-9  # 0.81 - 0.80 is above 0.01
        change = f"{before[rule.metric]:.4f} of {old.name}, worse by {max(drop, 0):.4f}"
        return passed, f"{said} against {change}, {rule.allowed_drop:g} is allowed"
    task = same_task(old, new)
    labels, (before, after) = same_examples(old, new, rule.split)
    report = compare_split(task, rule.split, labels, before, after, p, MARGIN)
    found = next((one for one in report.differences if one.metric == rule.metric), None)
    if found is None:
        return False, f"{name} is no metric of the data in {RAW}"
    change = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against {old.name}"
    return found.verdict != "worse", f"{said}, {change}: {found.verdict}"


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    argparse.ArgumentParser(prog="python -m checks.gate", description=__doc__.partition("\n")[0]).parse_args(arguments)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo() as repo:
            root = Path(repo.root_dir)
            rules = read_rules(root / "params.yaml")
            if not rules:
                print("gate: params.yaml has no rules under `gate`; nothing was asked")
                return 0
            outcomes = judge_all(rules, Revision(WORKSPACE, None, repo), root)
    except (Unanswerable, BadInput, DvcException, YAMLError) as error:
        print(f"gate: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(f"{'pass' if passed else 'FAIL'}  {why}" for passed, why in outcomes))
    return int(not all(passed for passed, _ in outcomes))


def judge_all(rules: Sequence[Rule], new: Revision, root: Path) -> list[Outcome]:
    """Judges the run in the workspace.

    Raises:
        Unanswerable: its metrics are not those of its parameters, code and data.
    """
    reasons = belonging(root, new.lock) or stale(new.repo)
    if reasons:
        raise Unanswerable(f"the metrics are not those of the workspace: {reasons[0]}; run `dvc repro`")
    p = read_params("evaluate", EvaluateParams, root / "params.yaml")
    return [judge(rule, new, p) for rule in rules]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
