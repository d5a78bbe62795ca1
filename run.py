"""The command line: ``python run.py --help``."""

import sys

import hydra
from omegaconf import DictConfig

from meow_lightning.cli.main import job, run
from meow_lightning.config.validation import register
from meow_lightning.experiment import run_cell
from meow_lightning.types import Results

register()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> Results | None:
    """Run one cell."""
    return job(lambda: run_cell(cfg))


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
