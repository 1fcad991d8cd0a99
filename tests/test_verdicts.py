"""What is promised of verdicts and intervals, by simulation: the committed figures, and a few cells drawn anew."""

import json
from typing import Any

import pytest

from benchmarks.verdicts import FEWEST_GIVEN, FLIPS, PAGE, RESULT, WORLDS, World, broken, filled, simulate
from stages.shared.task.metrics import METRICS, PROBABILITY_METRICS, OverCounts

RECORDS: list[dict[str, Any]] = json.loads(RESULT.read_text(encoding="utf-8"))["cells"]
CELLS = [(world, size) for world in WORLDS for size in world.sizes]


def world(name: str) -> World:
    return next(one for one in WORLDS if one.name == name)


def test_the_committed_figures_keep_what_is_promised() -> None:
    assert [said for record in RECORDS for said in broken(record)] == []


def test_what_is_shown_was_simulated_two_thousand_times() -> None:
    assert {(record["world"], record["examples"]) for record in RECORDS} <= {(one.name, size) for one, size in CELLS}
    assert {record["draws"] for record in RECORDS} == {2000}


@pytest.mark.parametrize("name", [*METRICS, "loss", *PROBABILITY_METRICS])
def test_every_metric_is_among_them_with_equal_models(name: str) -> None:
    """Those of probabilities are not compared: of these, it is their intervals."""
    found = [one for one in RECORDS if one["metric"] == name and one["equal"]]
    assert {one["examples"] for one in found} >= {30, 100, 408}
    assert {one["compared"] for one in found} == {name not in PROBABILITY_METRICS}
    assert {one["examples"] for one in found if one["given"] >= FEWEST_GIVEN} >= {100, 408}


def test_the_page_shows_the_committed_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, RECORDS) == page


def test_a_broken_promise_is_noticed() -> None:
    record = next(one for one in RECORDS if one["metric"] == "loss" and one["equal"] and one["examples"] == 408)
    assert not broken(record)
    for changes in (
        {"alarms": 200},
        {"any_word": 200},
        {"wrong_pass": 160},
        {"below": 0.12 * record["given"], "above": 0},
    ):
        assert len(broken(record | changes)) == (1 if record["given"] or "below" not in changes else 0), changes


def test_the_gate_is_no_wall_to_an_equal_model() -> None:
    (record,) = [one for one in RECORDS if (one["world"], one["metric"], one["examples"]) == (FLIPS, "accuracy", 408)]
    assert record["passes"] / record["draws"] >= 0.75


def test_an_interval_is_given_where_it_can_be() -> None:
    """Always for the accuracy; for others of counts and of probabilities from 100 examples with 10 of each class."""
    counted = {name for name, metric in METRICS.items() if isinstance(metric.resampled, OverCounts)} - {"accuracy"}
    others = counted | set(PROBABILITY_METRICS)
    for record in RECORDS:
        rare = "one" in record["world"]  # samples without the rare class are refused: they tell no labels apart
        if record["metric"] == "accuracy" and not rare:
            assert record["paired_given"] == record["draws"]
            assert record["given"] == (record["draws"] if record["equal"] else 0)
        shares = {"two classes, 85 % right": 0.4, "two classes, one of 10 %": 0.1, "five classes": 0.1}
        if record["metric"] in others and record["world"] in shares and record["examples"] >= 100:
            assert record["given"] > 0.9 * record["draws"]
            assert record["examples"] * shares[record["world"]] < 40 or record["given"] == record["draws"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["two classes, 85 % right", "numbers, normal errors", "two classes, worse by 5 %", "four labels at once"]
)
def test_a_short_simulation_keeps_them_too(name: str) -> None:
    """A few hundred samples of 30 or 100 examples; the errors of simulation are wide, but not blind."""
    for record in simulate(world(name), min(world(name).sizes[-2:]), 150, 200):
        assert broken(record) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize(("place", "size"), [(WORLDS.index(one), size) for one, size in CELLS])
def test_a_cell_simulated_anew_is_the_committed_one(place: int, size: int) -> None:
    """Same seeds, same figures, up to what another processor's last digits may tip."""
    committed = {one["metric"]: one for one in RECORDS if (one["world"], one["examples"]) == (WORLDS[place].name, size)}
    for again in simulate(WORLDS[place], size, 2000, 400):
        assert broken(again) == []
        for figure in ("alarms", "given", "below", "above", "paired_below", "paired_above", "equivalent"):
            before = committed.get(again["metric"], again)[figure]
            assert again[figure] == pytest.approx(before, abs=5), (again["metric"], figure)
