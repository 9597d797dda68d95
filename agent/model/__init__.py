"""Values only: what the rooms say to each other. Imports nothing of ours, does no I/O, knows no clock."""
