"""Entries of a zip that tell no time and no machine, so that the same content is the same file."""

import zipfile

DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


def entry(name: str) -> zipfile.ZipInfo:
    """Returns an entry for a file that all may read; it is not compressed unless its `compress_type` is set."""
    made = zipfile.ZipInfo(name, DATE)
    made.external_attr = 0o644 << 16
    return made
