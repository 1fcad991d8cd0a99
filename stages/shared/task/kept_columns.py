"""The columns of data/raw that come from `download.keep_columns` and `download.id_column`."""

ID = "id"  # the column of data/raw that `download.id_column` makes; without it there is none
PREFIX = "kept:"  # no column of the data can pass for one of ours


def kept(name: str) -> str:
    """Returns the name that a kept column has in data/raw."""
    return PREFIX + name
