"""Keeps a library from importing a heavy one that this process will not use."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
