"""A sweep is DVC's own: queued, run by several workers at once, each with the result it has alone."""

import json
import time
from typing import Any

import pytest

from tests.project import Project, wait_for

pytestmark = pytest.mark.exhaustive

RATES = ("0.002", "0.003")


def experiments(project: Project) -> list[dict[str, Any]]:
    (head,) = json.loads(project.run("dvc", "exp", "show", "--json", "--rev", "HEAD", "--num", "1").stdout)[1:]
    return [each["revs"][0] for each in head["experiments"] or []]


def finished(project: Project) -> bool:
    time.sleep(1.0)  # a look costs a second of the two processors
    rows = project.run("dvc", "queue", "status").stdout.splitlines()
    assert not [row for row in rows if "Failed" in row], rows
    return sum("Success" in row for row in rows) == len(RATES)


def test_two_experiments_at_once_end_with_the_results_they_have_alone(tiny: Project) -> None:
    tiny.run("dvc", "exp", "run", "--queue", "-S", f"train.learning_rate={','.join(RATES)}")
    tiny.run("dvc", "queue", "start", "-j", "2")
    wait_for(lambda: finished(tiny), 300)
    together = {}
    for experiment in experiments(tiny):
        data = experiment["data"]
        rate = data["params"]["params.yaml"]["data"]["train"]["learning_rate"]
        together[str(rate)] = tiny.run("git", "show", f"{experiment['rev']}:dvc.lock").stdout
    assert sorted(together) == sorted(RATES)
    tiny.run("rm", "-rf", ".dvc/cache/runs")  # nothing to restore: it runs
    tiny.set(train__learning_rate=float(RATES[1]))
    assert tiny.repro() == ["train", "predict", "calibrate", "evaluate", "baselines", "report"]
    assert tiny.read("dvc.lock") == together[RATES[1]]
