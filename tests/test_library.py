"""The names that ``import meow_lightning`` provides."""

from __future__ import annotations

import subprocess
import sys

import pytest

import meow_lightning as meow

HEAVY = ("torch", "transformers", "pytorch_lightning", "hydra", "omegaconf", "yaml", "numpy")


def test_the_import_is_light() -> None:
    code = f"import sys, meow_lightning as meow; print([name for name in {HEAVY} if name in sys.modules]); dir(meow)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", meow.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(meow, name).__doc__
    assert name in dir(meow)


def test_a_wrong_name_is_an_attribute_error() -> None:
    for module in (meow, meow.memo, meow.methods, meow.integrations):
        with pytest.raises(AttributeError, match="has no attribute 'wrong'"):
            module.wrong  # noqa: B018
