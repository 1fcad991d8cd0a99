"""Code that runs a network, for train and predict: the device, attention, several processes."""
