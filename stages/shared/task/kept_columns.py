"""The columns of data/raw that come from `download.keep_columns`, by their names in the data."""

PREFIX = "kept:"  # no column of the data can pass for one of ours


def kept(name: str) -> str:
    """Returns the name that a kept column has in data/raw."""
    return PREFIX + name
