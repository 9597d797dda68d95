"""Trạm: the daemon of a commune loudspeaker station or public board."""
