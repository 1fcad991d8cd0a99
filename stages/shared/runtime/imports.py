"""A program's imports: fast, without heavy libraries that it does not use, and ended when its parent ends."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stages.shared.runtime.parent import die_with_parent


@contextmanager
def program_imports(hidden: str | None = None) -> Iterator[None]:
    """Surrounds the imports of a program, which from here on ends with the one that started it: they take seconds.

    Python searches everything for garbage whenever there are a quarter more objects than last time. Libraries bring
    half a million of them and no garbage: a fifth of the seconds that their imports take. The searches wait until the
    end of the block, and what is there by then is exempt from all of them.

    Args:
        hidden: a module that the program does not need, and that a library would import if it were installed.

    Raises:
        SystemExit: with status 1, if that one is gone already.
    """
    die_with_parent()
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
