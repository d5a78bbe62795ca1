"""The components behind an artifact besides its stage: their versions, which are part of its key, and their code."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from meow_lightning.config.instantiate import component_class, component_versions
from meow_lightning.evaluation.checkpoint_selection import selection_metrics
from meow_lightning.evaluation.sets import set_infos
from meow_lightning.evaluation.suite.inputs import metric_settings
from meow_lightning.evaluation.suite.suite import definitions
from meow_lightning.inversion.rules import Rules
from meow_lightning.pipeline.source_code import MEMORY, PACKAGE, installed_code
from meow_lightning.stages.finetune import method_class
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

# Stage -> the setting that names its component by `_target_`.
COMPONENTS = {"propose": "inversion", "score": "memo", "verify": "memo", "unlearn": "method"}


def used_versions(
    stage: str, settings: Mapping[str, Any], needs: Mapping[str, Artifact], *, allow: Iterable[str]
) -> dict[str, int]:
    """Collect the versions of the components that compute an artifact, by name.

    Args:
        stage: Its stage.
        settings: Its settings.
        needs: The artifacts that it is computed from, by name.
        allow: Further packages whose classes the settings may name (``trusted_packages``).
    """
    classes = _classes(stage, settings, allow=allow)
    versions = {name: version for each in classes for name, version in component_versions(each).items()}
    if stage == "evaluate":
        sets = {name for need in needs.values() if need.stage == "predict" for name in need.settings["sets"]}
        versions |= _metrics(sets, settings)
    if stage == "unlearn" and "checkpoint" in settings:
        sets = set(settings["checkpoint"]["sets"])
        versions |= _metrics(sets, settings["checkpoint"], only=selection_metrics(set_infos(sets)))
    return versions


def code_digest(artifact: Artifact, store: Store) -> str | None:
    """Compute the digest of the current code behind an artifact; ``None`` if sources are not available.

    Args:
        artifact: The artifact.
        store: Its store, which caches the digests of files (:func:`remember_code`).
    """
    classes = _classes(artifact.stage, artifact.settings, allow=artifact.inputs.get("allow", ()))
    roots = [f"{PACKAGE}.stages.{artifact.stage}", *(each.__module__ for each in classes)]
    return installed_code(store.root / MEMORY).digest(roots)


def remember_code(store: Store, *, private: bool) -> None:
    """Save the digests of the source files read so far in a store, to avoid parsing the files again.

    Args:
        store: The store.
        private: Whether only the owner may read the file.
    """
    installed_code(store.root / MEMORY).save(private=private)


def made_by_other_code(artifact: Artifact, manifest: Mapping[str, Any], store: Store) -> bool:
    """Whether a stored result was computed by code that differs from the current code; False if one is unknown.

    Args:
        artifact: The result.
        manifest: Its manifest.
        store: Its store.
    """
    made = manifest.get("code")
    return made is not None and code_digest(artifact, store) not in (None, made)


def _classes(stage: str, settings: Mapping[str, Any], *, allow: Iterable[str]) -> list[Any]:
    if COMPONENTS.get(stage) in settings:
        return [component_class(settings[COMPONENTS[stage]], allow=allow)]
    if stage == "finetune" and "recipe" in settings:
        return [method_class(settings["recipe"])]
    return [Rules] if stage == "filter" and settings.get("fill") else []


def _metrics(
    sets: Iterable[str], settings: Mapping[str, Any], *, only: Collection[str] | None = None
) -> dict[str, int]:
    computed = metric_settings(truth_ratio_mean=settings["truth_ratio_mean"], protocol="none")
    every = definitions(set_infos(sets), computed, protocol="none")  # the settings themselves identify a protocol
    return {each.metric: each.version for each in every if only is None or each.name in only}
