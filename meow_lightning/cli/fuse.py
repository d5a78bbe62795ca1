"""``meow-lightning fuse``, also ``python -m meow_lightning.cli.fuse``: one model for several requests to forget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.program import program
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.models.pretrained_folder import read
from meow_lightning.stages.results.model import model_folder
from meow_lightning.store.folders import OTHERS, owner_only
from meow_lightning.store.integrity import MANIFEST

if TYPE_CHECKING:
    from meow_lightning.models.unlearning_layers import Correction

RIDGE = 1e-6
DESCRIPTION = """\
Fuse the models of several runs of method=eul, which forget different facts of the same target model, into one model
that forgets all of them: in closed form, without data and without training. The result is a plain model. It needs the
target model, which the stores of the runs still hold."""
DISCLOSURE = (
    "note: {} of each request holds second-order statistics (Gram matrices) of the texts that it forgets; keep it as "
    "private as those texts, and leave it out when you pass such a model on\n"
)


def start_of(request: Path) -> Path:
    """Find the model that a request started from, in the same store.

    Args:
        request: Folder of the unlearned model.

    Raises:
        UserError: The folder does not lie in a store, or the store no longer has the start model.
    """
    stage = request.resolve().parent
    key = read(stage / MANIFEST).get("needs", {}).get("start")
    if key is None:
        raise UserError(
            f"{request} is not in a store, so the model that it started from is unknown; give the folder that a run "
            "prints as `unlearned model`, such as outputs/store/unlearn/KEY/model"
        )
    start = model_folder(stage.parent.parent / "finetune" / key)
    if not start.is_dir():
        raise UserError(f"{start}, which {request} started from, does not exist; run the request again to compute it")
    return start


def common_start(requests: Sequence[Path]) -> Path:
    """Find the model that all requests started from.

    Raises:
        UserError: They started from different models, or :func:`start_of` raises.
    """
    starts = {request: start_of(request) for request in requests}
    keys = {start.parent.name for start in starts.values()}
    if len(keys) > 1:
        listed = ", ".join(f"{request} from {start.parent.name}" for request, start in starts.items())
        raise UserError(
            f"the requests started from different models ({listed}), but only layers of the same model can be fused; "
            "run them again with the same dataset, model and seed, differing in what is forgotten"
        )
    return starts[requests[0]]


def fuse_models(requests: Sequence[Path], output: Path, *, ridge: float) -> None:
    """Write the model that forgets all requests, with the tokenizer and generation settings of the first one.

    Args:
        requests: Folders of unlearned models.
        output: New or empty folder.
        ridge: Relative strength of the ridge, above 0 to 1.

    Raises:
        UserError: There are fewer than two requests, a folder is none, they do not fit together, or ``output`` is not
            empty.
    """
    if not 0 < ridge <= 1:
        raise invalid_option("--ridge", ridge, "a number above 0 and at most 1", did_you_mean=RIDGE)
    if len(requests) < 2:
        raise UserError(f"one request, {requests[0]}, leaves nothing to fuse; give the models of at least two runs")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output {output} is not empty; choose a new folder")
    from meow_lightning.models.unlearning_layers import fuse, load_corrections

    corrections = [load_corrections(request) for request in requests]
    _write(common_start(requests), requests[0], fuse(corrections, ridge=ridge), output)


def _write(start: Path, request: Path, corrections: Sequence[Correction], output: Path) -> None:
    from transformers import GenerationConfig

    from meow_lightning.models.load import load_checkpoint, load_tokenizer
    from meow_lightning.models.unlearning_layers import fold

    model = load_checkpoint(start, dtype=str(read(request / "config.json").get("dtype", "float32")), attention="eager")
    model.eval()
    fold(model, corrections)
    model.generation_config = GenerationConfig.from_pretrained(request)
    with owner_only(not request.stat().st_mode & OTHERS):  # of a private dataset
        output.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(output, safe_serialization=True)
        load_tokenizer(request).save_pretrained(output)


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    parser = argparse.ArgumentParser(prog=program("fuse"), description=DESCRIPTION)
    parser.add_argument("requests", type=Path, nargs="+", metavar="MODEL", help="folder of an unlearned model")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of the fused model")
    parser.add_argument(
        "--ridge", type=float, default=RIDGE,
        help="share of the mean diagonal of the Gram matrices that is added to it, above 0 to 1 (default: %(default)s)",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    fuse_models(given.requests, given.output, ridge=given.ridge)
    from meow_lightning.models.unlearning_layers import CORRECTIONS

    sys.stdout.write(DISCLOSURE.format(CORRECTIONS))
    sys.stdout.write(f"{len(given.requests)} requests fused: model.target={given.output} takes the model\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
