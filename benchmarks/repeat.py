"""Programs measured in turns, so that what else the machine does falls on all of them alike."""

import statistics
from collections.abc import Callable, Mapping, Sequence


def interleaved(programs: Mapping[str, Callable[[], float]], times: int) -> dict[str, list[float]]:
    """Runs every program once a round, `times` rounds, and returns what each returned, round by round."""
    values: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(1, times + 1):
        for name, run in programs.items():
            print(f"{turn} of {times}, {name} ...", flush=True)
            values[name].append(run())
    return values


def spread(values: Sequence[float]) -> dict[str, float]:
    """Returns the median, and what it lies between."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
