"""Decisions without I/O: what may play, when, where, and who owns each zone. Time is an argument."""
