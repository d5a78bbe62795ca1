"""``python -m meow_lightning.cli``: the command line, for when the console script is not on the path."""

import sys

from meow_lightning.cli.main import main

sys.exit(main())
