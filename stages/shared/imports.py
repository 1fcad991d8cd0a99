"""Keeps a stage's imports short: no heavy library that it will not use, and no search for garbage meanwhile."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = gc.get_threshold()


@contextmanager
def without(module: str) -> Iterator[None]:
    """Makes `module` look as if it were not installed while the block runs; does nothing if it is imported already."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # what the import system knows as "not there"
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


def put_off_collections() -> None:
    """Keeps Python from searching everything for garbage until `settle`.

    It does so whenever there are a quarter more objects than last time. Libraries bring half a million of them, and
    no garbage: a fifth of the seconds that their imports take.
    """
    gc.set_threshold(*THRESHOLDS[:2], 1000)


def settle() -> None:
    """Exempts all that has been made so far from every search, the ones that end a program among them."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
