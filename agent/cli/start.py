"""Starts the two daemons, with nothing imported that only people's commands need."""

from __future__ import annotations

import sys

from agent import lean

CONFIG = "/etc/tram/station.yaml"
DAEMONS = ("run", "voice")


def start(name: str, config: str) -> int:
    """Run the agent or voice until it ends; its exit code, or 1 with the configuration's mistakes on stderr."""
    lean.keep_out()
    from agent.model.problem import ConfigError

    try:
        if name == "voice":
            from agent.voice.main import main as daemon
        else:
            lean.one_heap()
            from agent.app import main as daemon
        return daemon(config) or 0
    except ConfigError as error:
        from agent.cli import language, problems

        language.use(None)
        problems.show(error.problems, config, sys.stderr)
        return 1
