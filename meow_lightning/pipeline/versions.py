"""The components behind an artifact besides its stage: their versions, which are part of its key, and their code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from meow_lightning.config.instantiate import component_versions
from meow_lightning.evaluation.sets import benchmark_from, set_infos
from meow_lightning.evaluation.suite.inputs import metric_settings
from meow_lightning.evaluation.suite.suite import definitions
from meow_lightning.pipeline.source_code import MEMORY, PACKAGE, installed_code
from meow_lightning.stages import stage
from meow_lightning.stages.base import Stage, UsedMetrics
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store


def used_versions(
    stage: Stage, settings: Mapping[str, Any], needs: Mapping[str, Artifact], *, allow: Iterable[str]
) -> dict[str, int]:
    """Collect the versions of the components that compute an artifact, by name.

    Args:
        stage: Its stage.
        settings: Its settings.
        needs: The artifacts that it is computed from, by name.
        allow: Further packages whose classes the settings may name (``trusted_packages``).
    """
    classes = stage.components(settings, allow=allow)
    versions = {name: version for each in classes for name, version in component_versions(each).items()}
    used = stage.metrics(settings, needs)
    return versions if used is None else versions | _metric_versions(used)


def code_digest(artifact: Artifact, store: Store) -> str | None:
    """Compute the digest of the current code behind an artifact; ``None`` if sources are not available.

    Args:
        artifact: The artifact.
        store: Its store, which caches the digests of files (:func:`remember_code`).
    """
    own = stage(artifact.stage)
    classes = own.components(artifact.settings, allow=artifact.inputs.get("allow", ()))
    roots = [f"{PACKAGE}.stages.{own.name}", *(each.__module__ for each in classes)]
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


def _metric_versions(used: UsedMetrics) -> dict[str, int]:
    computed = metric_settings(
        truth_ratio_mean=used.settings["truth_ratio_mean"],
        protocol="none",
        extra=used.settings.get("extra_metrics", ()),
    )
    named = {info.name: info for info in benchmark_from(used.settings)}
    infos = [named.get(info.name, info) for info in set_infos(used.sets)]
    every = definitions(infos, computed, protocol="none")  # the settings themselves identify a protocol
    return {each.metric: each.version for each in every if used.only is None or each.name in used.only}
