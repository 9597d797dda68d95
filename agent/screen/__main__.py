"""`python -m agent.screen`: the process of one board."""

import sys

from agent.screen.main import main

sys.exit(main())
