"""The command line: ``python run.py --help``."""

import sys

import hydra
from omegaconf import DictConfig

from meow_lightning import cli, config
from meow_lightning.cell import run_cell
from meow_lightning.types import Results

config.register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> Results | None:
    """Run one cell."""
    return cli.job(lambda: run_cell(cfg))


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv[1:]))
