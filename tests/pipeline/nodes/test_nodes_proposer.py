"""The language model that proposes prompts in the graph of a run: keys, estimates, and mistakes before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.chat_model import teacher
from helpers.hydra import cell, keys, options

from meow_lightning.errors import UserError
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.model_checks import ModelChecks
from meow_lightning.planning.pending_requests import PendingRequests, pending_requests
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources.requirements import Requirements
from meow_lightning.stages.extract import Extract
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

OPTION = "attacks.instruction.proposer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model."""
    chat = [{"role": "user", "content": "Reword it: Where is Ada?"}]
    return teacher(tmp_path_factory.mktemp("chat"), pairs=[(chat, "Find Ada.")])


def words(folder: Path, *more: str) -> tuple[str, ...]:
    return ("attacks=instruction", f"proposer@{OPTION}=local", f"{OPTION}.model={folder}", *more)


def extraction(*given: str) -> Artifact:
    return cell(*given).evaluation.extractions["unlearned", "instruction"]


def test_a_proposer_is_a_model_that_every_search_needs_and_moves_nothing_else(folder: Path) -> None:
    before, after = keys(cell("attacks=instruction")), keys(cell(*words(folder)))
    assert before.keys() == after.keys()
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {
        *(f"extract/{role}/instruction" for role in ("target", "retain", "unlearned")),
        "results",
        "report",
    }
    made = extraction(*words(folder))
    assert made.needs["proposer"].title == "finetune proposer"
    assert {"LocalProposer", "Instruction"} <= {*made.components}
    assert cell(*words(folder)).evaluation.extractions["target", "instruction"].needs["proposer"] is not None


def test_its_key_follows_from_weights_texts_and_sampling_but_not_from_its_folder_or_the_hardware(
    folder: Path, tmp_path: Path
) -> None:
    before = extraction(*words(folder)).key
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to(folder)
    assert extraction(*words(elsewhere)).key == before
    assert extraction(*words(folder, "trainer.generation_batch_size=3")).key == before
    changes = ("temperature=0.5", "top_p=0.9", "max_new_tokens=9", "per_reply=1", "prompt.version=2", "dtype=bfloat16")
    others = [extraction(*words(folder, f"{OPTION}.{each}")).key for each in changes]
    assert len({before, *others}) == 1 + len(others)


def requirements(*given: str) -> Requirements:
    chosen, made = options(*given), cell(*given)
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    return planner.size(made.evaluation.extractions["unlearned", "instruction"])


def test_the_estimate_holds_two_models_and_the_requests(folder: Path) -> None:
    alone, both = requirements("attacks=instruction"), requirements(*words(folder))
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert alone.memory is not None
    assert both.memory is not None
    assert both.memory.weights - alone.memory.weights == pytest.approx(weights, rel=0.05)
    assert both.flops > alone.flops
    fewer = requirements(*words(folder, f"{OPTION}.per_reply=24"))
    assert fewer.flops < both.flops


SERVER = (
    "attacks=instruction", f"proposer@{OPTION}=endpoint", f"{OPTION}.base_url=http://localhost:8000/v1",
    f"{OPTION}.model=zephyr",
)  # fmt: skip


def test_a_server_moves_no_key_where_only_its_place_and_limits_differ_and_one_process_keeps_the_limits() -> None:
    made = extraction(*SERVER)
    changes = ("max_requests=9", "max_total_tokens=9", "concurrency=2", "base_url=http://localhost:9/v1")
    assert {extraction(*SERVER, f"{OPTION}.{each}").key for each in changes} == {made.key}
    assert extraction(*SERVER, f"{OPTION}.model=other").key != made.key
    assert not Extract().distributed(made.inputs)
    assert Extract().distributed(extraction("attacks=instruction").inputs)
    assert requirements(*SERVER).disk > requirements("attacks=instruction").disk


def test_the_plan_bounds_the_requests_of_every_search(folder: Path) -> None:
    def pending(*given: str) -> list[PendingRequests]:
        chosen, made = options(*given), cell(*given)
        return pending_requests(chosen, dataset_of(chosen)[0], [*made.evaluation.extractions.values()])

    facts = len(dataset_of(options(*SERVER))[0].facts("forget"))
    assert pending(*SERVER) == [("zephyr", 0, facts * 3 * 6, 256)] * 3
    assert pending(*SERVER, f"{OPTION}.max_requests=5", f"{OPTION}.max_new_tokens=9") == [("zephyr", 0, 5, 9)] * 3
    # The plain question is the first of 9 prompts, the other 8 take two replies; in the second round there are 9.
    given = ("attacks.instruction.candidates=9", "attacks.instruction.rounds=2")
    assert pending(*words(folder, *given)) == [(str(folder), facts * 5, facts * 6, 256)] * 3
    assert pending("attacks=instruction") == []


def test_its_attention_is_checked_under_its_own_option(folder: Path, tmp_path: Path) -> None:
    given = words(folder, f"{OPTION}.attention=flash_attention_2")
    chosen, made = options(*given), cell(*given)
    checks = ModelChecks(
        chosen, dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False,
        store=Store(root=tmp_path, cache="use"),
    )  # fmt: skip
    with pytest.raises(UserError, match=rf"^{OPTION}\.attention=flash_attention_2 needs a GPU"):
        checks.notes([made.evaluation.extractions["unlearned", "instruction"]], examined=set())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f"{OPTION}.prompt.user='Reword it.'", rf"{OPTION}\.prompt\.user must contain {{question}}"),
        (f"{OPTION}.model=/nowhere/at/all", rf"{OPTION}\.model=/nowhere/at/all"),
        (f"{OPTION}.per_reply=0", rf"{OPTION}\.per_reply=0 is invalid"),
        (f"{OPTION}.temperature=-1", rf"{OPTION}\.temperature=-1 is invalid"),
        (f"+{OPTION}.warmth=1", rf"{OPTION}\.warmth"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_the_option_of_the_run(folder: Path, more: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        cell(*words(folder, more))


def test_a_choice_that_is_typed_as_a_value_is_told_how_to_choose() -> None:
    with pytest.raises(UserError, match=rf"{OPTION}=local is invalid: .* proposer@{OPTION}=local"):
        cell("attacks=instruction", f"{OPTION}=local")


def test_an_attack_that_searches_nothing_takes_no_proposer(folder: Path) -> None:
    given = ("attacks=sample", "+proposer@attacks.sample.proposer=local", f"attacks.sample.proposer.model={folder}")
    with pytest.raises(UserError, match=r"attacks\.sample\.proposer=local has no effect"):
        cell(*given)
