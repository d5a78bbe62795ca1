"""The dataset that a result was computed from, recorded beside the result without its texts and paths."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.store.artifact import Artifact

ORIGIN = "dataset"  # entry of manifests and of ``task.json``


def path_digest(path: str | Path) -> str:
    """Compute the digest of an absolute path, links resolved: 16 hex digits."""
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]


def dataset_origin(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a dataset: its name, and the digests of the paths of its files by option.

    Args:
        name: Its name.
        node: Its options.
    """
    files = {
        option: path_digest(value)
        for option, value in node.items()
        if option != "_target_" and isinstance(value, str) and (Path(value).suffix or Path(value).exists())
    }
    return {"name": name, "files": files}


def origin_entry(artifact: Artifact) -> dict[str, Any]:
    """Build the entry about the dataset of an artifact; empty for one that no dataset is known of."""
    if "dataset_name" not in artifact.inputs:
        return {}
    return {ORIGIN: dataset_origin(artifact.inputs["dataset_name"], artifact.inputs["dataset"])}
