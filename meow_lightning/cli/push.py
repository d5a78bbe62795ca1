"""``meow-lightning push``, also ``python -m meow_lightning.cli.push``: uploads a run's unlearned model to a hub."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.cli.finished_run import model_of, report_of
from meow_lightning.config.program import program
from meow_lightning.config.quoting import shell_word
from meow_lightning.errors import UserError
from meow_lightning.models.pretrained_folder import METHOD
from meow_lightning.models.sources import FILES, HUB
from meow_lightning.pipeline.unreachable import PUSHED
from meow_lightning.report.data import flatten
from meow_lightning.report.model_card import UNKNOWN_LICENCE, CardData, Licence, is_path, model_card
from meow_lightning.resources.format import format_bytes
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.stages.results.model import model_folder
from meow_lightning.stages.unlearn import Unlearn
from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import make_folder, owner_only
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json
from meow_lightning.tracking.hub import check_repository, licence_on_hub, push_folder

DESCRIPTION = """\
Upload the unlearned model of a finished run to a Hugging Face hub, with a model card: its numbers with intervals and
definitions, its settings, the licence of its base model, and how it was made. Of a private dataset, the card has no
text, path or name. The token is that of `hf auth login` or HF_TOKEN; HF_ENDPOINT chooses another hub."""
GROUPS = ("dataset", "model", "method", "inversion", "memo", "optim", "evaluation")  # choices in the command of a card
PRIVATE_NOTE = "note: its weights were trained on private facts, and unlearning is no proof of deletion\n"
PLACEHOLDER = "FILE"  # of a path, which stays on its machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload: files of a folder, and the card.

    Attributes:
        key: Key of the run.
        folder: Folder of the model.
        files: Names of its files.
        card: The card.
        public: Whether the texts of the dataset are public.
        outputs: Where the run wrote to.
    """

    key: str
    folder: Path
    files: Sequence[str]
    card: str
    public: bool
    outputs: Path


def prepare_upload(run: Path, store: Path | None) -> Upload:
    """Collect the files of a run's unlearned model and write its card.

    Args:
        run: The run's folder in ``reports``, or the name of that folder.
        store: Folder of the store; ``None`` for ``store`` beside ``reports``.

    Raises:
        UserError: There is no such run, its model is not in the store, or it cannot be shared.
    """
    root, report = report_of(run, store)
    settings = report["settings"]
    stored = model_of(run, root, report, "unlearned")
    if stored.parent.name != Unlearn.name:
        method = settings["options"]["method"]["name"]
        raise UserError(f"RUN={run} has no unlearned model: method={method} unlearns nothing; push a run that does")
    folder = model_folder(stored)
    _check_shareable(run, root, report, folder)
    evaluated = EvaluateResult.read(root / "evaluate" / report["needs"]["results"])
    options = settings["options"]
    base = _base(options) if settings["public"] else None
    card = model_card(
        CardData(
            options=options, public=settings["public"], disclaimer=settings["disclaimer"] or "",
            results=evaluated.results, intervals=evaluated.intervals,
            level=f"{options['evaluation']['confidence_level']:.0%}".replace("%", " %"),
            licence=licence_of(options), base=base, command=command_of(settings),
        )
    )  # fmt: skip
    files = sorted(path.name for path in folder.iterdir() if any(fnmatch(path.name, form) for form in FILES))
    return Upload(
        key=report["key"], folder=folder, files=files, card=card, public=settings["public"], outputs=root.parent
    )


def _check_shareable(run: Path, root: Path, report: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder that would not be the unlearned model elsewhere, or would show words of private facts.

    Raises:
        UserError: It is one.
    """
    method = report["settings"]["options"]["method"]["name"]
    if (folder / METHOD).is_file():
        raise UserError(
            f"RUN={run}: the model of method={method} answers only through this method ({METHOD}); loaded from a hub "
            "as usual, its folder is a model before the subtraction, which has forgotten nothing. Push the model of a "
            "method that changes the weights"
        )
    base = report["needs"].get("base")
    manifest = root / "finetune" / str(base) / MANIFEST
    scratch = manifest.is_file() and "vocab_size" in read_json(manifest)["settings"]
    if scratch and not report["settings"]["public"]:
        raise UserError(
            f"RUN={run}: its tokenizer was trained on the private facts and holds words of them; push the model of a "
            "run with your own model.base or model.target"
        )


def _source(options: Mapping[str, Any]) -> str | None:
    """Return the model that a run started from, as it was given; ``None`` if it was trained from scratch."""
    model = options["model"]
    target = model["target"]
    if target == "released":
        target = (model["released_checkpoints"].get(options["dataset"]["name"]) or {}).get("target")
    return target or model["base"]


def _base(options: Mapping[str, Any]) -> str | None:
    """Return the hub id of the model that a run started from; ``None`` for another one."""
    source = _source(options)
    found = None if source is None or is_path(source) else HUB.fullmatch(source)
    return found["id"] if found else None


def licence_of(options: Mapping[str, Any]) -> Licence:
    """Find the licence of the model that a run started from: in its folder's card, or on the hub.

    Args:
        options: The options of the run.
    """
    source = _source(options)
    if source is None:
        return Licence(name=None, sentence="No base model: the weights were trained from scratch.")
    name = licence_on_hub(base) if (base := _base(options)) else _licence_in(Path(source))
    if name is None:
        return Licence(name=None, sentence=f"The licence of the base model is {UNKNOWN_LICENCE}.")
    return Licence(name=name, sentence=f"The base model is under `{name}`; this model derives from it.")


def _licence_in(folder: Path) -> str | None:
    """Read the licence in the card of a local model; ``None`` without one."""
    from huggingface_hub import ModelCard

    try:
        found = ModelCard.load(folder / "README.md").data.license if (folder / "README.md").is_file() else None
    except ValueError:  # metadata that is no YAML
        return None
    return None if found is None else str(found)


def command_of(settings: Mapping[str, Any]) -> str:
    """Write the command line that repeats a run, without paths; of a private dataset, with the names of choices alone.

    Args:
        settings: The settings of its report.
    """
    options = settings["options"]
    words = [f"{group}={options[group]['name']}" for group in GROUPS if "name" in options.get(group, {})]
    if "attacks" in options:
        words.append(f"attacks=[{','.join(options['attacks'])}]")
    words.append(f"seed={options['seed']}")
    if settings["public"]:
        words += changed_words(settings, words)
    else:
        words.insert(1, f"dataset.forget={PLACEHOLDER}")
    return " ".join(["meow-lightning", *map(shell_word, words)])


def changed_words(settings: Mapping[str, Any], words: Sequence[str]) -> list[str]:
    """List the options of a run that differ from what some words compose, as further words.

    Args:
        settings: The settings of its report.
        words: The choices of the run.
    """
    from meow_lightning.config.composition import compose_options

    try:
        composed = flatten(compose_options(words).plain())
    except UserError:  # an option without a default, such as a file of facts
        composed = {}
    shown = flatten({group: settings["options"].get(group, {}) for group in GROUPS})
    found = []
    for name, value in shown.items():
        last = name.rpartition(".")[2]
        if last in ("name", "_target_") or name in settings["origin"] or name not in composed:
            continue
        if composed[name] != value:
            found.append(f"{name}={PLACEHOLDER if is_path(value) else _word(value)}")
    return found


def _word(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    words = {"None": "null", "True": "true", "False": "false"}
    return words.get(str(value), str(value))


def push(upload: Upload, repository: str, *, private: bool | None, update: bool) -> str:
    """Upload a model and record where to, for ``meow-lightning purge``; returns the address of the repository.

    Args:
        upload: The model and its card.
        repository: ``owner/name``.
        private: Whether only its owner may see it; ``None`` for what the owner's account says.
        update: Whether the repository may exist already.

    Raises:
        UserError: It cannot be uploaded.
    """
    folder = upload.outputs / "runs" / PUSHED
    make_folder(folder, private=True)
    record = {"run": upload.key, "repository": repository, "date": time.strftime("%Y-%m-%d")}
    address = push_folder(
        upload.folder, upload.files, upload.card, repository, private=private, update=update,
    )  # fmt: skip
    with owner_only(True):
        write_json(folder / f"{upload.key}-{repository.replace('/', '-')}.json", {**record, "address": address})
    return address


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    parser = argparse.ArgumentParser(prog=program("push"), description=DESCRIPTION)
    parser.add_argument("run", type=Path, metavar="RUN", help="outputs/reports/NAME, or NAME alone")
    parser.add_argument("repository", metavar="OWNER/NAME", help="the repository to create")
    parser.add_argument("--private", action="store_true", help="only you may see it (default: as your account says)")
    parser.add_argument("--update", action="store_true", help="the repository may exist: replace its files")
    parser.add_argument("--dry-run", action="store_true", help="print the card and list the files; send nothing")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="store of the run (default: beside its reports)")
    given = parser.parse_args(arguments)
    check_repository(given.repository)
    upload = prepare_upload(given.run, given.store)
    if given.dry_run:
        sys.stdout.write(upload.card)
        sizes = {name: (upload.folder / name).stat().st_size for name in upload.files}
        sys.stdout.writelines(f"{name} ({format_bytes(size)})\n" for name, size in sizes.items())
        sys.stdout.write(f"nothing was sent; without --dry-run, {len(sizes) + 1} files go to {given.repository}\n")
        return 0
    address = push(upload, given.repository, private=given.private or None, update=given.update)
    sys.stdout.write("" if upload.public else PRIVATE_NOTE)
    sys.stdout.write(f"{len(upload.files) + 1} files pushed: {address}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
