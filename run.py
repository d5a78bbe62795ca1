"""The command line, from a checkout: ``python run.py --help``. Installed, it is called ``meow-lightning``."""

import sys

from meow_lightning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
