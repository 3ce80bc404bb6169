"""`python -m minicomp` is the command `minicomp`."""

import sys

from .cli import main

sys.exit(main())
