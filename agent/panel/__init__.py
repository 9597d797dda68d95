"""Where people reach the running station: the desk of the commands."""
