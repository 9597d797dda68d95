"""`python -m agent.ear --config FILE`."""

import sys

from agent.ear.main import command

if __name__ == "__main__":
    sys.exit(command())
