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
    hides = hidden is not None and hidden not in sys.modules
    if hides:
        sys.modules[hidden] = None  # type: ignore[index, assignment]  # what the import system knows as "not there"
    try:
        yield
    finally:
        if hides:
            del sys.modules[hidden]  # type: ignore[arg-type]
        gc.freeze()
        gc.set_threshold(*thresholds)
