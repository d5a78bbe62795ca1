"""List what a purge cannot remove: files of the user, other machines, and models that learned the facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meow_lightning.pipeline.origin import path_digest
from meow_lightning.pipeline.purge import Purge, size_below
from meow_lightning.resources.format import format_bytes
from meow_lightning.store.removal import Stored

PUSHED = "pushed"  # folder in ``runs`` with a record of every model that was pushed to a hub
LEARNED = {  # how a stage trains its models
    "finetune": "which was trained on the facts",
    "unlearn": "which was trained to forget the facts",
    "attack": "which an attack made of a model of the facts",
}
ELSEWHERE = (
    "copies of these files elsewhere: backups, snapshots, exported reports; and the blocks of removed files, until the "
    "disk uses them again"
)


def unreachable(purge: Purge, *, models: bool) -> list[str]:
    """List what a purge leaves, one sentence each.

    Args:
        purge: The purge.
        models: Whether it removes the models that learned the facts.
    """
    options = [each.manifest.get("settings", {}).get("options", {}) for each in purge.reports.values()]
    lines = [
        *(line for each in options for line in _sources(purge, each)),
        *([] if models else _taught(purge)),
        *(line for each in options for line in _provided(each)),
        *_uploaded(purge),
        *_pushed(purge),
        *(line for each in options for line in _asked(each)),
        ELSEWHERE,
    ]
    return list(dict.fromkeys(lines))


def _sources(purge: Purge, options: Mapping[str, Any]) -> Iterator[str]:
    for option, value in options.get("dataset", {}).items():
        is_file = isinstance(value, str) and option != "_target_" and Path(value).is_file()
        if is_file and purge.subject.file in (None, path_digest(value)):
            yield f"your file {value} (dataset.{option}), which is yours to remove"


def _taught(purge: Purge) -> Iterator[str]:
    for each in purge.taught():
        trained = "whose tokenizer was trained on the facts" if _is_base(each) else LEARNED[each.stage]
        size = format_bytes(size_below(each.folder))
        yield f"{each.title} model {each.folder} ({size}), {trained}: --models removes it"


def _is_base(model: Stored) -> bool:
    """Whether a model was trained from scratch on other texts, with a tokenizer of its own."""
    return model.stage == "finetune" and not model.manifest["settings"].get("splits")


def _provided(options: Mapping[str, Any]) -> Iterator[str]:
    for role in ("target", "base", "retain"):
        value = options.get("model", {}).get(role)
        if isinstance(value, str) and Path(value).exists():
            yield f"your model {value} (model.{role}), if it was trained on the facts"


def _uploaded(purge: Purge) -> Iterator[str]:
    synced = purge.outputs / "runs" / "synced"
    ids = [key for key in purge.reports if any(synced.glob(f"wandb-*-{key}.json"))]
    if ids:
        listed = ", ".join(ids)
        yield f"W&B runs {listed}, if they were uploaded (online, or by `wandb sync`): delete them there"


def _pushed(purge: Purge) -> Iterator[str]:
    for path in sorted((purge.outputs / "runs" / PUSHED).glob("*.json")):
        record = json.loads(path.read_bytes())
        if record["run"] in purge.reports:
            where, when = record["repository"], record["date"]
            yield f"the model that was pushed to {where} on {when}: delete the repository there"


def _asked(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("inversion", {}).get("name") == "endpoint":
        yield "the language-model server that inversion=endpoint sent the facts to, with its logs"
    for name, attack in options.get("attacks", {}).items():
        for writer in ("proposer", "translator"):
            if (attack.get(writer) or {}).get("name") == "endpoint":
                yield f"the language-model server that attacks.{name}.{writer} sent the questions to, with its logs"
