"""The command line in a checkout: ``python run.py --help``; the installed command is ``meow-lightning``."""

import sys

from meow_lightning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
