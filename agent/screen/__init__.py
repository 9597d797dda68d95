"""The board: lays out text and slides and hands frames to a driver. A process of its own."""
