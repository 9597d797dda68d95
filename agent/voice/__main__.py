"""`python -m agent.voice --config FILE`."""

import sys

from agent.voice.main import command

sys.exit(command())
