"""Published results of 150 unlearned models and their two references, with the settings of each.

The file ``uds/method_results.json`` of ``$MEOW_DATA_DIR`` is ``docs/data/method_results.json`` of the repository
gnueaj/unlearning-depth-score (Apache-2.0): Llama-3.2-1B-Instruct unlearned on TOFU's forget10 by eight methods.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.report.paper_comparison import Published

FILE = Path("uds") / "method_results.json"
MODEL, SPLIT = "llama3_2_1b_instruct", "forget10"
SOURCE = "UDS, arXiv 2605.24614"
NOTE = (
    "published results for forget10 with the settings named, on target and retain models of its own; its batch size is "
    "not in the file, and its extraction strength shows at least one token of the answer"
)
# Methods here by the names there. Those that train on the retain set there do so here with retain=ce.
METHODS = {
    "full": "none", "retain": "retrain", "altpo": "altpo", "graddiff": "grad_diff", "idkdpo": "dpo_gd", "idknll": "idk",
    "npo": "npo_gd", "rmu": "rmu", "simnpo": "simnpo", "undial": "undial",
}  # fmt: skip
REFERENCES = ("full", "retain")
# Options here by the letters of a model's name there, and how the digits are read: b01 is 0.1, b35 is 3.5.
LETTERS: Mapping[str, tuple[str, Callable[[str], float]]] = {
    "b": ("method.beta", lambda digits: float(digits) / 10 ** (len(digits) - 1)),
    "a": ("method.retain_weight", float),
    "d": ("method.delta", float),
    "g": ("method.forget_weight", lambda digits: float(f"{digits[0]}.{digits[1:]}")),
    "l": ("method.layer", int),
    "s": ("method.steering", float),
}
EXCEPTIONS = {"undial": {"b": ("method.beta", float)}}  # its b10 is 10
NUMBERS: Mapping[str, tuple[str, Callable[[float], float]]] = {
    "model_utility": ("model_utility", float),
    "forget/extraction_strength": ("one_minus_es", lambda value: 1 - value),
    "forget/exact_memorisation": ("one_minus_em", lambda value: 1 - value),
    "retain/probability": ("retain_q_prob", float),
    "retain/rouge_l_recall": ("retain_q_rouge", float),
}


def uds_results() -> list[Published]:
    """Read the results, one source per model; none without the file.

    Raises:
        UserError: The file is malformed.
    """
    path = Path(os.environ.get("MEOW_DATA_DIR", "")) / FILE
    if "MEOW_DATA_DIR" not in os.environ or not path.is_file():
        return []
    try:
        return [_published(model) for model in json.loads(path.read_bytes())["models"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not docs/data/method_results.json of gnueaj/unlearning-depth-score ({error}); replace or "
            "remove it"
        ) from error


def _published(model: Mapping[str, Any]) -> Published:
    method = METHODS[model["method"]]
    numbers = {name: read(float(model[there])) for name, (there, read) in NUMBERS.items()}
    settings = {} if model["method"] in REFERENCES else published_settings(model)
    words = ", ".join(f"{option}={value:g}" for option, value in settings.items() if not isinstance(value, str))
    return Published(
        source=f"{SOURCE}: {words}" if words else SOURCE, note=NOTE, dataset="tofu", truth_ratio_mean="geometric",
        figures={MODEL: {SPLIT: {method: numbers}}}, settings=settings,
    )  # fmt: skip


def published_settings(model: Mapping[str, Any]) -> dict[str, float | str]:
    """Translate the settings of a published model to options here.

    Args:
        model: Its entry in the file.
    """
    epochs = int(model["epoch"].removeprefix("ep"))
    settings: dict[str, float | str] = {"optim.lr": round(float(model["lr"]), 10), "optim.epochs": epochs}
    for part in model["model"].split("_")[1:]:
        if (match := re.fullmatch(r"([a-z])(\d+)", part)) is not None:
            option, read = EXCEPTIONS.get(model["method"], {}).get(match[1]) or LETTERS[match[1]]
            settings[option] = read(match[2])
    if "method.retain_weight" in settings:
        settings["method.retain"] = "ce"
    return settings
