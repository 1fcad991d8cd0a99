"""Is the model of the workspace good enough? Checks metrics/metrics.json against the rules in params.yaml's `gate`.

    python -m checks.gate

A rule names a split and a metric, and a limit. The limit is `at_least` (`at_most` if lower is better), or `against` a
revision with `not_worse_by`, a margin in the unit of the metric. With a `label`, the metric is the precision, recall or
f1 of that label. The second kind passes only if the whole 95 % interval
of the difference is better than a loss of the margin, so it fails with too few examples. A model that is worse by more
than the margin passes in at most one of twenty samples. docs/statistics.md says how often an equal model does. The
revision is a branch, a tag or a commit. Prefer a tag: against a moving branch, each change may be a little worse, and
small losses add up.
A rule `rebuilt_by: 2` counts the trusted keys that have signed a rebuild of dvc.lock to identical bytes, which
`checks.verify --attest` writes. A rule `{export: exports/onnx, flips_at_most: 0.05}` checks that the export which
`ship.export` wrote there is of dvc.lock's model, and limits the share of predictions that it flips on any scored split.
It prints one line for each rule and each warning of the compared runs.
Exit status: 0 if all rules pass or there are none; 1 if one fails; 2 with one line on stderr if there is no answer.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from checks import cli
from checks.attestation import SIGNERS, count
from checks.lock import find_mismatches
from checks.predictions import PREDICTIONS, read_pair, read_warnings
from checks.revisions import WORKSPACE, Revision, find_revision
from checks.rules import AnyRule, ExportRule, RebuiltRule, Rule, read_rules
from checks.signing import read_signers
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.params import read_params
from stages.shared.runtime.terminal import say, visible
from stages.shared.statistics.paired import ALPHA, detectable, one_against_rest, paired_intervals, plain_scores
from stages.shared.statistics.params import EvaluateParams
from stages.shared.task.metrics import greater_is_better

SCORES, OF_LABELS, MODEL = "metrics/metrics.json", "metrics/classes.json", "models/finetuned"
PRICE = "price.json"  # in the folder of an export


class Ruling(NamedTuple):
    """Whether a rule is kept."""

    passed: bool
    why: str
    notes: Sequence[str] = ()  # a line each


def judge_rebuilds(rule: RebuiltRule, new: Revision) -> Ruling:
    """Says whether enough trusted keys have signed a rebuild of the workspace's dvc.lock.

    Raises:
        BadInput: the list of trusted keys cannot be read.
    """
    folder = rule.attestations.rstrip("/")
    keys = f"{folder}/{SIGNERS}"
    signers = read_signers(new.root / keys, keys)
    files = sorted((new.root / folder).glob("*.json"))
    found = count([(file, f"{folder}/{file.name}") for file in files], signers, new.lock)
    by = f": {', '.join(found.by)}" if found.by else ""
    trusted = "trusted key" if len(found.by) == 1 else "trusted keys"
    why = f"dvc.lock rebuilt by {len(found.by)} {trusted} of {keys}, required: {rule.rebuilt_by}{by}"
    return Ruling(len(found.by) >= rule.rebuilt_by, why, found.refused)


def judge_export(rule: ExportRule, new: Revision) -> Ruling:
    """Says whether an exported model is that of the workspace's dvc.lock, and flips few enough of its predictions.

    Raises:
        Unanswerable: the export's price cannot be read.
    """
    file = f"{rule.export.rstrip('/')}/{PRICE}"
    if not (new.root / file).is_file():
        return Ruling(False, f"no {file}; `python -m ship.export --onnx --out {rule.export}` writes it")
    price = new.json(file)
    try:
        model, predictions = price["model"], price["predictions"]
        rows = [(form, one) for form in price["forms"] for one in form["splits"]]
        flips = [(float(one["flipped"]), str(form["file"]), str(one["split"])) for form, one in rows]
        if not all(share >= 0 for share, *_ in flips):
            raise ValueError
        flipped, form, split = max(flips)
    except (LookupError, TypeError, ValueError):
        raise cli.Unanswerable(f"{file}: not what `ship.export` writes; run it again") from None
    if (model, predictions) != (new.hash(MODEL), new.hash(PREDICTIONS)):
        return Ruling(False, f"{rule.export} has another model than that of dvc.lock; run `ship.export` again")
    why = f"{rule.export}/{form} flips {flipped:.1%} of {split}, at most {rule.flips_at_most:.1%} is asked"
    return Ruling(flipped <= rule.flips_at_most, why)


def judge(rule: Rule, new: Revision, p: EvaluateParams) -> Ruling:
    """Says whether the workspace keeps a rule.

    Raises:
        Unanswerable: what the rule compares with cannot be read, or was scored on other examples.
    """
    name, file = f"{rule.split} {rule.metric}", SCORES
    if rule.label is None:
        value = new.json(SCORES).get(rule.split, {}).get(rule.metric)
    else:
        name, file = f"{name} of {rule.label}", OF_LABELS
        wanted = (rule.split, rule.label)
        records = [one for one in new.json(OF_LABELS)["classes"] if (one["split"], one["label"]) == wanted]
        value = records[0][rule.metric] if records else None
    if value is None:
        return Ruling(False, f"{name} is not in {file}")
    if not np.isfinite(value):
        return Ruling(False, f"{name} is {value} in {file}, which is not a score")
    said = f"{name} {value:.4f}"
    if rule.at_least is not None:
        return Ruling(value >= rule.at_least, f"{said}, required: at least {rule.at_least:g}")
    if rule.at_most is not None:
        return Ruling(value <= rule.at_most, f"{said}, required: at most {rule.at_most:g}")
    old = find_revision(new.repo, str(rule.against))
    ruling = judge_difference(rule, old, new, p)
    return Ruling(ruling.passed, f"{said}, {ruling.why}")


def judge_difference(rule: Rule, old: Revision, new: Revision, p: EvaluateParams) -> Ruling:
    """Says whether the workspace's metric is surely not worse than another revision's by the margin of a rule."""
    margin = float(rule.not_worse_by or 0.0)
    if same_model(old, new):
        return Ruling(True, f"the same model as {old.name}'s")
    pair = read_pair(old, new, rule.split)
    if rule.label is not None:
        pair = one_against_rest(pair, pair.task.label_names.index(rule.label))
    if rule.metric not in (*pair.task.metrics, "loss"):
        return Ruling(False, f"which is not a metric of {new.name}")
    before, after = (plain_scores(pair.task, pair.labels, logits)[rule.metric] for logits in (pair.before, pair.after))
    interval, least = (found := paired_intervals(pair, p, ALPHA, [rule.metric])[rule.metric]), detectable(found, ALPHA)
    if interval.low is None or interval.high is None or least is None:
        change = f"{after - before:+.4f} against {old.name}"
        return Ruling(False, f"{change}: no verdict: {interval.withheld}")
    better = greater_is_better(rule.metric)
    worst, best = (interval.low, interval.high) if better else (-interval.high, -interval.low)
    change = f"{after - before:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}] against {old.name}"
    if worst > -margin:
        return Ruling(True, f"{change}: not worse by {margin:g}")
    if best < -margin:
        return Ruling(False, f"{change}: worse by more than {margin:g}")
    if least > margin:
        return Ruling(False, f"{change}: too few examples: n = {len(pair.labels)} could show {least:.2g}")
    return Ruling(False, f"{change}: may be worse by more than {margin:g}")


def same_model(old: Revision, new: Revision) -> bool:
    """Says whether both revisions have the very same weights and predictions: such a model is no worse than itself."""
    try:
        return all(old.hash(out) == new.hash(out) for out in (MODEL, PREDICTIONS))
    except cli.Unanswerable:  # that its lock lacks one is said where that one is needed
        return False


def judge_all(rules: Sequence[AnyRule], new: Revision) -> list[Ruling]:
    """Judges the run in the workspace.

    Raises:
        Unanswerable: its metrics are not those of its parameters, code and data.
    """
    mismatches = find_mismatches(new.repo, new.lock)
    if mismatches.reasons:
        remedy = "" if mismatches.foreign else "; run `dvc repro`"
        raise cli.Unanswerable(f"the metrics do not match the workspace: {mismatches.reasons[0]}{remedy}")
    p = read_params("evaluate", EvaluateParams, new.root / "params.yaml")
    return [judge_any(rule, new, p) for rule in rules]


def judge_any(rule: AnyRule, new: Revision, p: EvaluateParams) -> Ruling:
    """Says whether the workspace keeps a rule of any kind."""
    match rule:
        case RebuiltRule():
            return judge_rebuilds(rule, new)
        case ExportRule():
            return judge_export(rule, new)
        case Rule():
            return judge(rule, new, p)


def warnings_of(rules: Sequence[AnyRule], new: Revision) -> list[str]:
    """Returns what the workspace, and the revisions that it is held against, say against their own scores."""
    splits: dict[str | None, set[str]] = {}
    for rule in (rule for rule in rules if isinstance(rule, Rule)):
        splits.setdefault(None, set()).add(rule.split)
        if rule.against is not None:
            splits.setdefault(rule.against, set()).add(rule.split)
    revisions = {name: new if name is None else find_revision(new.repo, name) for name in splits}
    return [line for name, names in splits.items() for line in read_warnings(revisions[name], names)]


def main(arguments: Sequence[str]) -> int:
    """Answers on stdout and returns the exit status."""
    cli.make_parser("gate", __doc__).parse_args(arguments)

    def ask(repo: Any) -> int:
        rules = read_rules(Path(repo.root_dir))
        if not rules:
            say("gate: params.yaml has no rules under `gate`; nothing to check")
        rulings = judge_all(rules, Revision(WORKSPACE, None, repo)) if rules else []
        for ruling in rulings:
            say(visible(f"{'pass' if ruling.passed else 'FAIL'}  {ruling.why}"))
            for note in ruling.notes:  # what stands in a file cannot pass for a line of ours
                say(visible(f"      not counted: {note}"))
        for line in warnings_of(rules, Revision(WORKSPACE, None, repo)):
            say(f"warning: {line}")
        return int(not all(ruling.passed for ruling in rulings))

    return cli.answer("gate", ask, BadInput)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
