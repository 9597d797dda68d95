"""The `tram` command. The two daemons start without anything that only people's commands need."""

from __future__ import annotations

import os
import sys

from agent.cli.start import CONFIG, DAEMONS, start


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 well, 1 refused or wrong, 2 wrong usage, 3 the agent is not there."""
    args = sys.argv[1:] if argv is None else argv
    daemon = _daemon(args)
    if daemon is not None:
        return start(*daemon)
    from agent.cli import language

    language.use(language.asked(args))
    from agent.cli.main import tram

    return tram.main(args=args, prog_name="tram")


def _daemon(args: list[str]) -> tuple[str, str] | None:
    """(daemon, configuration) if that is all that is asked; anything else, help and mistakes included, is for click."""
    config = os.environ.get("TRAM_CONFIG") or CONFIG
    name = None
    rest = iter(args)
    for arg in rest:
        option, equals, value = arg.partition("=")
        if option in {"--config", "--lang"}:
            given = value if equals else next(rest, None)
            if given is None or (option == "--lang" and given not in {"vi", "en"}):
                return None
            if option == "--config":
                config = given
            else:
                os.environ["LANGUAGE"] = given
        elif arg in DAEMONS and name is None:
            name = arg
        else:
            return None
    return None if name is None else (name, config)


if __name__ == "__main__":
    sys.exit(main())
