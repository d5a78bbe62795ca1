"""Keys of inverted facts."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.hydra import composed

from meow_lightning.config.validation import resolved
from meow_lightning.pipeline.build import graph

Marked = str | list[str]


def test_facts_with_several_secrets_have_keys_of_their_own_and_others_stay(tmp_path: Path) -> None:
    def settings(**marked: Marked) -> set[bool]:
        path = tmp_path / f"{'-'.join(f'{key}{len(value)}' for key, value in marked.items())}.jsonl"  # files are cached
        path.write_text(json.dumps({"question": "Who?", "answer": "Ada, a baker in Lima.", **marked}) + "\n")
        run = graph(resolved(composed("dataset=jsonl", f"dataset.forget={path}")))
        return {"secrets" in each.settings for each in run.artifacts if each.stage in ("propose", "filter")}

    assert settings(values=["baker", "Lima"]) == {True}
    assert settings(values=["Lima"]) == settings(value="Lima") == settings() == {False}
