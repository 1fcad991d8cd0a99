"""The only door to the network: brings every source to the same columns."""
