"""Chooses which interval of metrics/intervals.json to show and to judge by."""

from collections.abc import Mapping, Sequence
from typing import Any


def interval_of(records: Sequence[Mapping[str, Any]], split: str, metric: str) -> Mapping[str, Any] | None:
    """Returns a metric's record: Wilson's where there is one, else the bootstrap's; None for a metric without.

    Where every example is right, every resample is too, and the bootstrap's interval of the accuracy is a point;
    Wilson's knows how few examples those were.
    """
    found = [record for record in records if (record["split"], record["metric"]) == (split, metric)]
    return next((record for record in found if record["method"] == "wilson"), found[0] if found else None)
