"""What every program stands on: parameters, outputs that appear whole, one line for a bad input."""
