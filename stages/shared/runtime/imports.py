"""Keeps a program's imports short: no heavy library that it will not use, and no search for garbage meanwhile."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def program_imports(hidden: str | None = None) -> Iterator[None]:
    """Surrounds the imports of a program.

    Python searches everything for garbage whenever there are a quarter more objects than last time. Libraries bring
    half a million of them and no garbage: a fifth of the seconds that their imports take. The searches wait until the
    end of the block, and what is there by then is exempt from all of them.

    Args:
        hidden: a module that the program does not need, and that a library would import if it were installed.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], 1000)
    try:
        with without(hidden):
            yield
    finally:
        gc.freeze()
        gc.set_threshold(*thresholds)


@contextmanager
def without(module: str | None) -> Iterator[None]:
    """Makes `module` look as if it were not installed while the block runs; does nothing if it is imported already."""
    if module is None or module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # what the import system knows as "not there"
    try:
        yield
    finally:
        del sys.modules[module]
