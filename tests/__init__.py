"""The specification, as tests: their names are its sentences."""
