"""Trạm: the daemon of a commune loudspeaker station or public board."""

__version__ = "0.1.0"
"""The same as in pyproject.toml; importlib.metadata would cost each daemon 1 MB of memory for this word."""
