"""SlimPLM's probe in the graph of a run: which models it asks, what its keys depend on, and a stale proxy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.chat_model import teacher
from helpers.hydra import cell, keys, options

from meow_lightning.errors import UserError
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.pipeline.nodes.slim import check_current
from meow_lightning.planning.requirements import Planner
from meow_lightning.types import ROLES

SLIM = "probe=slim"


def test_it_asks_every_model_and_moves_only_the_numbers() -> None:
    before, after = keys(cell()), keys(cell(SLIM))
    assert after.keys() - before.keys() == {f"slim/{role}" for role in ROLES}
    assert {name for name in before if before[name] != after[name]} == {"results", "report"}
    assert cell("probe=none").evaluation.slim == {}


def test_the_proxy_of_a_model_is_that_model_pruned() -> None:
    made = cell(SLIM, "attacks=prune")
    for role, model in made.models.by_role.items():
        proxy = made.evaluation.slim[role].needs["proxy"]
        assert made.evaluation.slim[role].needs["model"] == model
        assert proxy.needs == {"model": model}
        assert proxy.key in {each.key for each in made.models.attacked.values()}
    assert {each.stage for each in made.goal("slim")} >= {"attack", "slim", "unlearn"}


def test_the_answers_do_not_depend_on_how_the_judge_is_read() -> None:
    def key(*words: str) -> str:
        return cell(SLIM, *words).evaluation.slim["unlearned"].key

    before = key()
    judge = [f"probe.judge.{each}" for each in ("set_aside=0.4", "c=2.0", "threshold=0.6")]
    assert key(*judge, "trainer.eval_batch_size=3") == before
    others = ["probe.judge.samples=6", "probe.gate.passages=2", "probe.pruning.share=0.5", "limit=3"]
    assert len({before, *map(key, others)}) == 5
    assert cell(SLIM, *judge).results.key != cell(SLIM).results.key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model."""
    return teacher(tmp_path_factory.mktemp("chat"), pairs=[([{"role": "user", "content": "Right?"}], "Yes")])


READER = "probe.judge.reader"


def test_a_language_model_judges_the_same_answers(folder: Path) -> None:
    words = (SLIM, f"judge@{READER}=local", f"{READER}.model={folder}")
    plain, read = cell(SLIM), cell(*words)
    for role in ROLES:
        assert read.evaluation.slim[role].stage == "judge"
        assert read.evaluation.slim[role].needs["answers"].key == plain.evaluation.slim[role].key
    assert read.results.key != plain.results.key
    assert {each.stage for each in read.goal("slim")} >= {"slim", "judge"}
    key = read.evaluation.slim["target"].key
    others = [cell(*words, f"{READER}.{each}").evaluation.slim["target"].key for each in
              ("prompt.version=2", "dtype=bfloat16")]  # fmt: skip
    assert len({key, *others}) == 3
    otherwise = cell(*words, "probe.judge.threshold=0.6", "probe.judge.set_aside=0.4")
    assert otherwise.evaluation.slim["target"].key == key
    chosen = options(*words)
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=read.streams, gpu=False, available=10**12)
    needed = planner.size(read.evaluation.slim["unlearned"])
    assert needed.memory is not None
    assert needed.flops > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f"{READER}.prompt.user='Right?'", rf"{READER}\.prompt\.user='Right\?' is invalid: expected a text with"),
        (f"{READER}.dtype=float8", rf"{READER}\.dtype=float8"), (f"{READER}.model=/nowhere", rf"{READER}\.model="),
    ],
)  # fmt: skip
def test_mistakes_of_the_reader_are_named_by_its_option(folder: Path, more: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        cell(SLIM, f"judge@{READER}=local", f"{READER}.model={folder}", more)


def test_a_reader_that_is_typed_as_a_value_is_told_how_to_choose_and_judge_needs_one() -> None:
    with pytest.raises(UserError, match=rf"{READER}=local is invalid: .* judge@{READER}=local"):
        cell(SLIM, f"{READER}=local")
    with pytest.raises(UserError, match="goal=judge asks no language model without one"):
        cell(SLIM).goal("judge")


def test_without_a_retain_model_the_others_are_asked() -> None:
    assert {*cell(SLIM, "model.retain=none").evaluation.slim} == {"target", "unlearned"}


def test_the_text_of_a_corpus_is_in_the_key(tmp_path: Path) -> None:
    path, found = tmp_path / "texts.txt", set()
    for text in ("Snow fell.", "Rain fell."):
        path.write_text(text)
        found.add(cell(SLIM, f"probe.gate.corpus={path}").evaluation.slim["unlearned"].key)
    assert len(found) == 2


def sealed(folder: Path, origin: str) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"stage": "attack", "needs": {"model": origin}}))
    return folder / "model"


def test_a_proxy_of_other_weights_is_stale_and_refused(tmp_path: Path) -> None:
    model = cell(SLIM).models.unlearned
    other = cell(SLIM, "method=grad_ascent").models.unlearned
    check_current(sealed(tmp_path / "current", model.key), model)
    stale = sealed(tmp_path / "stale", other.key)
    with pytest.raises(UserError) as error:
        check_current(stale, model)
    for part in (f"probe.proxy={stale} is stale", other.key, model.key, "leave probe.proxy out"):
        assert part in str(error.value)
    with pytest.raises(UserError, match="is stale"):
        cell(SLIM, f"probe.proxy={stale}")


def test_a_folder_of_unknown_origin_is_no_proxy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"probe\.proxy=.* is invalid: expected the folder model of a result"):
        check_current(tmp_path / "model", cell().models.unlearned)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("probe.pruning.share=1",), r"probe\.pruning\.share=1"),
        (("probe.pruning.parts=[heads]",), r"probe\.pruning\.parts=heads .*mlp"),
        (("attacks@probe.pruning=relearn",), r"probe\.pruning\._target_=.*attacks@probe\.pruning=prune"),
        (("attacks@probe.pruning=cloze",), r"probe\.pruning\._target_="),
        (("probe.pruning=null",), r"probe\.pruning=null"),
        (("probe.judge.set_aside=1",), r"probe\.judge\.set_aside=1"),
        (("probe.gate.prompt='{question}'",), r"probe\.gate\.prompt="),
        (("method=uld",), r"probe=slim prunes every model, .* method=uld"),
        (("evaluation.protocol=tofu",), r"probe=slim asks .*evaluation\.protocol=tofu"),
    ],
)
def test_a_mistake_is_named_while_the_graph_is_built(words: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError, match=named):
        cell(SLIM, *words)
