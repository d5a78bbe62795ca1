"""A Hydra plugin that adds ``experiments/``, whose folders are config groups like those of ``conf/``."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from meow_lightning.config.files import EXPERIMENTS


class ExperimentsSearchPath(SearchPathPlugin):
    """Appends ``experiments/`` to the folders that Hydra composes from."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder after ``conf/``."""
        search_path.append(provider="meow_lightning", path=f"file://{EXPERIMENTS}")
