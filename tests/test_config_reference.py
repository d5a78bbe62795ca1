"""The reference of all options that the documentation shows."""

from __future__ import annotations

import re
from types import SimpleNamespace

import config_reference
import pytest
import yaml
from config_reference import PAGE, on_page_markdown
from helpers.hydra import CONF

FILES = sorted(CONF.rglob("*.yaml"))
# Mappings that the reference explains as one: tasks of lm-evaluation-harness, texts that a user may add to, adapters.
NAMED = ("ability.local", "attacks.template.templates", "attacks.paraphrase.frames", "attacks.prune_recovered.lora")
PLACES = {
    "recipe": "model.finetune", "inversion/prompt": "inversion.prompt", "proposer": "attacks.instruction.proposer",
    "proposer/prompt": "attacks.instruction.proposer.prompt",
    "judge": "probe.judge.reader", "judge/prompt": "probe.judge.reader.prompt",
    "translator": "attacks.translation.translator", "translator/prompt": "attacks.translation.translator.prompt",
}  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> str:
    return config_reference.config_reference()


@pytest.fixture(scope="module")
def rows(reference) -> dict[str, list[str]]:
    """The cells of every option in the first table of its group: default, type, range, meaning."""
    found = {}
    for line in reference.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and (option := re.fullmatch(r"`([\w.]+)`", cells[0])):
            found.setdefault(option[1], cells[1:])
    return found


def options(path) -> set[str]:
    """The dotted options that a file gives a value that is no mapping of further options."""
    group = str(path.parent.relative_to(CONF))
    globally = path.parent == CONF or path.read_text().startswith("# @package _global_")
    place = "" if globally else PLACES.get(group, group.replace("/", "."))
    place = f"attacks.{path.stem}" if group == "attacks" else place

    def walk(node, prefix):
        for key, value in node.items():
            option = f"{prefix}.{key}".lstrip(".")
            inner = isinstance(value, dict) and value and not {"default", "tofu", "tiny"} & set(value)
            inner = inner and option not in NAMED
            yield from walk(value, option) if inner else [option]

    return {option for option in walk(yaml.safe_load(path.read_text()), place) if not option.endswith("defaults")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_key_of_every_file_has_a_meaning(rows, path):
    assert {option for option in options(path) if not rows.get(option, [""])[-1]} == set()


def test_an_option_has_its_default_type_range_and_meaning(rows):
    assert rows["trainer.nodes"][:3] == ["`1`", "integer", "[1, 100000]"]
    assert rows["trainer.nodes"][3].startswith("machines")
    assert rows["memo.mode"][0] == "`suffix`"
    assert rows["limit"][1] == "integer or null"
    assert rows["evaluation.truth_ratio_mean"][1:3] == [r"`geometric` \| `arithmetic`", ""]
    assert rows["model.prompt.template"][3].endswith(r"text with `{question}` \| chat \| auto")


def test_every_choice_shows_what_it_sets(reference):
    assert "### method=npo\n" in reference
    assert (
        "inverse temperature of the preference loss, per nat, above 0 (published code); range (0, 1e+06]" in reference
    )
    assert "### hydra/launcher=slurm\n" in reference


def test_a_key_without_a_comment_has_no_meaning(monkeypatch, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0  # of all draws,\n          # in one number\nlimit: null\n")
    monkeypatch.setattr(config_reference, "CONF", tmp_path)
    for cached in (config_reference.meanings, config_reference._every, config_reference._choices):
        monkeypatch.setattr(config_reference, cached.__name__, cached.__wrapped__)
    assert config_reference.meanings() == {"seed": "of all draws, in one number", "limit": ""}


def test_only_its_own_page_gets_the_reference(reference):
    own, other = (SimpleNamespace(file=SimpleNamespace(src_uri=uri)) for uri in (PAGE, "index.md"))
    assert on_page_markdown("# Title", page=own, config=None, files=None) == f"# Title\n{reference}"
    assert on_page_markdown("# Title", page=other, config=None, files=None) == "# Title"
