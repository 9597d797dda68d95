"""A longer run of the property tests: `pytest --hypothesis-profile=deep --timeout=0 tests/property`."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tram", deadline=None)  # a busy machine is no failure
settings.load_profile("tram")
settings.register_profile("deep", max_examples=3000, stateful_step_count=80, deadline=None, print_blob=True)
