"""What is asked of the data: the task, its kind of problem, its metrics and their intervals."""
