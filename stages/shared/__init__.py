"""Code that several stages need and that should rerun all of them when it changes."""
