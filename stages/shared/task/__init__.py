"""The task: its kind of problem, its metrics and their intervals."""
