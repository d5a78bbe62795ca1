"""Registration of the launcher and the sweeper with Hydra, without a package in the global namespace."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from hydra.core.plugins import Plugins

from meow_lightning.sweep.launcher import MeowLauncher
from meow_lightning.sweep.sweeper import MeowSweeper

NAMESPACE = "hydra_plugins"  # Hydra instantiates plug-ins from this package only


def register_plugins() -> None:
    """Register both plug-ins as members of the module ``hydra_plugins.meow_lightning``, which exists in memory only."""
    try:
        namespace = importlib.import_module(NAMESPACE)
    except ImportError:  # no other plug-in is installed
        namespace = sys.modules[NAMESPACE] = ModuleType(NAMESPACE)
        namespace.__path__ = []
    module = ModuleType(f"{NAMESPACE}.meow_lightning")
    for plugin in (MeowLauncher, MeowSweeper):
        setattr(module, plugin.__name__, plugin)
        plugin.__module__ = module.__name__  # Plugins.register names a class after it
        Plugins.instance().register(plugin)
    sys.modules[module.__name__] = namespace.meow_lightning = module  # type: ignore[attr-defined]
