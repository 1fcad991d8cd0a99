"""The only stage that uses the network: brings every source to the same columns."""
