"""Programs to copy from; nothing else in the repository needs them."""
