"""How sure a score is, and a difference of two: intervals and tests, for evaluate, baselines and the checks."""
