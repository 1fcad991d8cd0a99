"""Commands that use a finished model: they write where they are told to, and no stage depends on them."""
