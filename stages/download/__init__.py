"""The only door to the network: brings every source to the same columns."""

from stages.shared.hermetic import go_online

go_online()
