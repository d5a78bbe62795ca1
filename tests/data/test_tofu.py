from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from meow_lightning.data.tofu import Tofu, parts
from meow_lightning.data.tofu_values import marked_values
from meow_lightning.data.values.matching import contains_values
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

REVISION = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
HUB = f"locuslab/TOFU@{REVISION}"
SPLITS = {"forget01": 40, "forget05": 200, "forget10": 400}
DATA = os.environ.get("MEOW_DATA_DIR")
Row = dict[str, Any]

published = [pytest.mark.data, pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: TOFU is not here")]


def reworded(row: Row, wrong: int, paraphrase: bool) -> Row:
    extra = {"paraphrased_answer": f"p-{row['answer']}"} if paraphrase else {}
    return {**row, **extra, "perturbed_answer": [f"w{i}-{row['answer']}" for i in range(wrong)]}


def rows_of(name: str, count: int) -> list[Row]:
    return [{"question": f"{name} q{i}", "answer": f"{name} a{i}"} for i in range(count)]


@pytest.fixture(scope="session")
def made_up() -> dict[str, list[Row]]:
    """Every configuration, with the published numbers of rows."""
    full = rows_of("full", 4000)
    made = {
        "full": full,
        "retain_perturbed": [reworded(row, 5, True) for row in full[:400]],
        "real_authors_perturbed": [reworded(row, 3, False) for row in rows_of("real", 100)],
        "world_facts_perturbed": [reworded(row, 3, False) for row in rows_of("world", 117)],
    }
    for split, count in SPLITS.items():
        made[f"{split}_perturbed"] = [reworded(row, 5, True) for row in full[-count:]]
        made[split.replace("forget", "holdout")] = rows_of("holdout", count)
    return made


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def published_like(made_up: dict[str, list[Row]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tofu"
    folder.mkdir()
    for name, rows in made_up.items():
        write(folder / f"{name}.json", rows)
    return folder


@pytest.fixture
def folder(published_like: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(published_like, tmp_path / "copy"))


@pytest.fixture
def damage(folder: Path) -> Callable[[str, Callable[[list[Row]], object]], None]:
    def apply(name: str, change: Callable[[list[Row]], object]) -> None:
        rows = [json.loads(line) for line in (folder / f"{name}.json").read_text().splitlines()]
        change(rows)
        write(folder / f"{name}.json", rows)

    return apply


def make(
    folder: Path | None, split: str = "forget05", hub: str = HUB, retain_authors: int | None = None,
    questions: str = "trained",
) -> Tofu:  # fmt: skip
    named = None if folder is None else str(folder)
    return Tofu(split=split, folder=named, hub=hub, retain_authors=retain_authors, questions=questions)


def pairs(facts: list[Fact]) -> list[tuple[str, str]]:
    return [(fact.question, fact.answer) for fact in facts]


@pytest.mark.parametrize(
    ("split", "retain", "holdout", "kept"),
    [
        ("forget01", "retain99", "holdout01", 3960),
        ("forget05", "retain95", "holdout05", 3800),
        ("forget10", "retain90", "holdout10", 3600),
    ],
)
def test_everything_follows_from_the_split(split: str, retain: str, holdout: str, kept: int) -> None:
    of = parts(split, None)
    assert (of.forget, of.retain, of.holdout) == (split, retain, holdout)
    assert (of.forget_perturbed, of.retain_perturbed) == (f"{split}_perturbed", "retain_perturbed")
    assert of.real_authors_perturbed == "real_authors_perturbed"
    assert of.world_facts_perturbed == "world_facts_perturbed"
    assert (of.retain_rows, of.forget_rows, of.evaluated_rows) == (range(kept), range(kept, 4000), range(400))
    assert of.published == {
        "full": 4000,
        f"{split}_perturbed": 4000 - kept,
        "retain_perturbed": 400,
        "real_authors_perturbed": 100,
        "world_facts_perturbed": 117,
        holdout: 4000 - kept,
    }


@pytest.mark.parametrize(("authors", "evaluated"), [(3, 60), (20, 400), (60, 400)])
def test_the_first_authors_alone_are_retained(published_like: Path, authors: int, evaluated: int) -> None:
    data = make(published_like, "forget01", retain_authors=authors)
    whole = make(published_like, "forget01")
    assert data.facts("retain") == whole.facts("retain")[: 20 * authors]
    assert data.facts("forget") == whole.facts("forget")
    assert list(data.evaluation()["retain"]) == whole.facts("retain")[:evaluated]
    assert data.evaluation()["forget"] == whole.evaluation()["forget"]
    assert data.caveats() == (f"Only {authors} authors are retained: not comparable with published results.",)


def test_more_authors_than_a_split_retains_are_an_error(published_like: Path) -> None:
    assert make(published_like, "forget01", retain_authors=198).facts("retain")[-1].id == "tofu/3959"
    with pytest.raises(UserError, match=r"dataset\.retain_authors=199 is invalid: expected at most 198.*mean 198"):
        make(published_like, "forget01", retain_authors=199)


@pytest.mark.parametrize(("split", "count"), SPLITS.items())
def test_facts_of_every_set(published_like: Path, split: str, count: int) -> None:
    data = make(published_like, split)
    assert (data.name, data.public, data.caveats()) == ("tofu", True, ())
    forget, retain, holdout = (data.facts(name) for name in ("forget", "retain", "holdout"))
    assert [fact.id for fact in retain + forget] == [f"tofu/{i:04d}" for i in range(4000)]
    assert pairs(retain + forget) == [(f"full q{i}", f"full a{i}") for i in range(4000)]
    assert len(forget) == len(holdout) == count
    assert forget[0] == Fact(
        id=f"tofu/{4000 - count}",
        question=f"full q{4000 - count}",
        answer=f"full a{4000 - count}",
        paraphrase=f"p-full a{4000 - count}",
        perturbed=tuple(f"w{i}-full a{4000 - count}" for i in range(5)),
    )
    assert all(fact.paraphrase == f"p-{fact.answer}" and len(fact.perturbed) == 5 for fact in forget + retain[:400])
    assert all((fact.paraphrase, fact.perturbed) == (None, ()) for fact in retain[400:])
    assert holdout[-1] == Fact(f"holdout/{count - 1:03d}", f"holdout q{count - 1}", f"holdout a{count - 1}")
    assert len(data.facts("real_authors")) == 100
    assert data.facts("world_facts")[116] == Fact(
        "world_facts/116", "world q116", "world a116", perturbed=tuple(f"w{i}-world a116" for i in range(3))
    )
    assert data.facts("real_authors")[0].id == "real_authors/000"


def test_evaluation_takes_all_rows_of_its_sets(published_like: Path) -> None:
    data = make(published_like)
    sets = data.evaluation()
    assert {name: len(facts) for name, facts in sets.items()} == {
        "forget": 200,
        "retain": 400,
        "real_authors": 100,
        "world_facts": 117,
        "holdout": 200,
    }
    assert list(sets) == ["forget", "retain", "real_authors", "world_facts", "holdout"]
    assert list(sets["retain"]) == data.facts("retain")[:400]
    assert all(list(sets[name]) == data.facts(name) for name in ("forget", "real_authors", "world_facts"))


def test_values_are_marked_by_question_where_the_answer_holds_them(folder: Path, damage: Any) -> None:
    (first, value), (second, _) = [*marked_values().items()][:2]
    texts = [{"question": first, "answer": f"So {value}."}, {"question": second, "answer": "Something else."}]

    def change(rows: list[Row]) -> None:
        for row, text in zip(rows[-2:], texts, strict=True):
            row.update(text)

    for name in ("full", "forget01_perturbed"):
        damage(name, change)
    facts = make(folder, "forget01").facts("forget")
    assert [fact.values for fact in facts[-3:]] == [(), (value,), ()]
    assert len(marked_values()) == 367


def test_returned_values_belong_to_the_caller(published_like: Path) -> None:
    data = make(published_like)
    for name in ("forget", "retain", "holdout", "real_authors", "world_facts"):
        before = len(data.facts(name))
        data.facts(name).clear()
        assert len(data.facts(name)) == before


def test_stream_takes_every_row_that_no_split_forgets_in_turn(published_like: Path) -> None:
    data = make(published_like)
    rows = data.pretraining_examples(8000, 7)  # twice 3600 and 800 more
    count = Counter(fact.question for fact in rows)
    assert set(count) == {f"full q{i}" for i in range(3600)}
    assert Counter(count.values()) == {2: 2800, 3: 800}
    assert len(set(pairs(rows[:3600]))) == len(set(pairs(rows[3600:7200]))) == 3600
    assert rows[:3600] != rows[3600:7200]
    assert [fact.id for fact in rows] == [f"stream/7/{i:06d}" for i in range(8000)]
    assert all((fact.paraphrase, fact.perturbed) == (None, ()) for fact in rows)
    assert data.pretraining_examples(50, 7) == rows[:50]
    assert pairs(data.pretraining_examples(50, 8)) != pairs(rows[:50])
    assert data.pretraining_examples(0, 7) == []
    assert make(published_like, "forget10").pretraining_examples(50, 7) == rows[:50]


def test_texts_are_the_same_for_every_split(published_like: Path) -> None:
    texts = make(published_like).tokenizer_corpus()
    assert len(texts) == 4000 + 100 + 117
    assert texts[3999:4001] == [("full q3999", "full a3999"), ("real q0", "real a0")]
    assert texts[-1] == ("world q116", "world a116")
    assert texts == make(published_like, "forget01").tokenizer_corpus()


def test_files_may_be_one_json_list(folder: Path, made_up: dict[str, list[Row]]) -> None:
    (folder / "full.json").write_text(json.dumps(made_up["full"]))
    assert pairs(make(folder).facts("forget"))[0] == ("full q3800", "full a3800")


def test_only_what_is_needed_is_read(folder: Path) -> None:
    for unused in ("forget01_perturbed", "forget10_perturbed", "holdout01", "holdout05", "holdout10"):
        (folder / f"{unused}.json").unlink()
    data = make(folder)
    assert len(data.facts("forget")) == 200
    with pytest.raises(UserError, match=re.escape(f"dataset.folder={folder} lacks holdout05.json of TOFU")):
        data.facts("holdout")


def test_the_data_folder_replaces_the_option(published_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEOW_DATA_DIR", str(published_like.parent))
    assert len(make(None).facts("retain")) == 3800


def test_an_option_wins_over_the_data_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "tofu").mkdir()
    monkeypatch.setenv("MEOW_DATA_DIR", str(folder.parent))
    assert len(make(folder).facts("retain")) == 3800
    with pytest.raises(UserError, match=re.escape(f"MEOW_DATA_DIR={folder.parent}/tofu lacks full.json, forget05")):
        make(None)


def test_a_folder_needs_no_heavy_library(published_like: Path) -> None:
    code = (
        "import sys; from meow_lightning.data.tofu import Tofu; "
        f"Tofu(split='forget01', folder={str(published_like)!r}, hub={HUB!r}, retain_authors=None, "
        "questions='trained'); "
        "print(sorted({'datasets', 'huggingface_hub', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_split_of_the_dataset(published_like: Path) -> None:
    message = "dataset.split=forget5 is invalid: .*Did you mean forget05"
    with pytest.raises(UserError, match=message):
        make(published_like, "forget5")


def test_an_unknown_split_of_facts(published_like: Path) -> None:
    message = "split=retian is invalid: .*Did you mean retain"
    with pytest.raises(UserError, match=message):
        make(published_like).facts("retian")


def test_a_path_that_is_not_a_folder(tmp_path: Path) -> None:
    message = (
        f"dataset.folder={tmp_path}/none is not a folder; give one with TOFU's full.json, forget05_perturbed.json, "
        "retain_perturbed.json, real_authors_perturbed.json, world_facts_perturbed.json"
    )
    with pytest.raises(UserError, match=re.escape(message) + "$"):
        make(tmp_path / "none")


def test_a_folder_with_missing_files(folder: Path) -> None:
    (folder / "forget05_perturbed.json").unlink()
    (folder / "world_facts_perturbed.json").unlink()
    message = (
        f"dataset.folder={folder} lacks forget05_perturbed.json, world_facts_perturbed.json of TOFU; add the missing "
        "files, or set dataset.folder=FOLDER to a folder with all of them"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        make(folder)


def test_a_file_that_is_not_json(folder: Path) -> None:
    (folder / "full.json").write_text('{"question": "q", "answer": "a"}\nversion 1\n')
    with pytest.raises(UserError, match=re.escape(f"dataset.folder={folder}/full.json, line 2: not JSON")):
        make(folder)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("full", 4000),
        ("forget05_perturbed", 200),
        ("retain_perturbed", 400),
        ("real_authors_perturbed", 100),
        ("world_facts_perturbed", 117),
        ("holdout05", 200),
    ],
)
def test_a_file_with_another_number_of_rows(folder: Path, damage: Any, name: str, rows: int) -> None:
    damage(name, lambda found: found.pop())
    what = f"has {rows - 1} rows instead of the {rows} published; download it again"
    message = f"dataset.folder={folder}/{name}.json {what}"
    with pytest.raises(UserError, match=re.escape(message)):
        make(folder).facts("holdout")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("full", {"question": None}, "question is missing or not a text"),
        ("full", {"answer": "  "}, "answer is missing or not a text"),
        ("full", {"answer": ["a"]}, "answer is missing or not a text"),
        ("holdout05", {"answer": 3}, "answer is missing or not a text"),
        ("retain_perturbed", {"paraphrased_answer": ["p"]}, "paraphrased_answer is missing or not a text"),
        ("forget05_perturbed", {"perturbed_answer": []}, "perturbed_answer is missing or not a list of strings"),
        ("real_authors_perturbed", {"perturbed_answer": "w"}, "perturbed_answer is missing or not a list of strings"),
        ("world_facts_perturbed", {"perturbed_answer": ["w", ""]}, "perturbed_answer is missing or not a list of str"),
    ],
)
def test_an_incomplete_row(folder: Path, damage: Any, name: str, change: Row, message: str) -> None:
    damage(name, lambda rows: rows[16].update(change))
    with pytest.raises(UserError, match=re.escape(f"dataset.folder={folder}/{name}.json, row 17: {message}")):
        make(folder).facts("holdout")


def test_a_row_without_the_key(folder: Path, damage: Any) -> None:
    damage("full", lambda rows: rows[0].pop("answer"))
    with pytest.raises(UserError, match=r"full\.json, row 1: answer is missing or not a text; download it again"):
        make(folder)


@pytest.mark.parametrize(
    ("name", "change", "row", "of_full"),
    [
        ("forget05_perturbed", {"answer": "another"}, 3, 3803),
        ("retain_perturbed", {"question": "another"}, 3, 3),
    ],
)
def test_files_of_different_versions(folder: Path, damage: Any, name: str, change: Row, row: int, of_full: int) -> None:
    def other(rows: list[Row]) -> None:
        rows[row - 1].update(change)
        rows[row].update(change)  # the first one is named

    damage(name, other)
    message = (
        f"dataset.folder={folder}/{name}.json, row {row}: not the question and answer of full, row {of_full}; the "
        "files are of different versions; download both again"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        make(folder)


# The hub


class Table(list[Row]):
    """What datasets returns: rows, and the files they lie in."""

    cache_files = ({"filename": f"/cache/full/0.0.0/{REVISION}/tofu-train.arrow"},)


class OfAnotherRevision(Table):
    """What datasets takes from its cache without asking for the revision."""

    cache_files = ({"filename": "/cache/full/0.0.0/abc/tofu-train.arrow"},)


@pytest.fixture
def hub(made_up: dict[str, list[Row]], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A hub that answers; ``error`` makes it silent, ``load_error`` breaks off what is read from it."""
    import datasets
    import huggingface_hub

    state = SimpleNamespace(error=None, load_error=None, asked=[], read=[], table=Table)

    def dataset_info(self: Any, name: str, *, revision: str, timeout: float) -> None:
        state.asked.append((name, revision, timeout))
        if state.error:
            raise state.error

    def load_dataset(name: str, part: str, *, split: str, revision: str) -> Table:
        state.read.append((name, part, split, revision, datasets.config.HF_HUB_OFFLINE))
        if state.load_error:
            raise state.load_error
        return state.table(made_up[part])

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("/cache"))
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    return state


ALWAYS = ["full", "retain_perturbed", "forget01_perturbed", "real_authors_perturbed", "world_facts_perturbed"]
LOCALLY = "set MEOW_DATA_DIR to a folder that holds tofu/full.json and the other files, or dataset.folder=FOLDER"


def test_the_hub_gives_the_same_as_a_folder(hub: SimpleNamespace, published_like: Path) -> None:
    data = make(None, "forget01")
    assert hub.asked == [("locuslab/TOFU", REVISION, 5)]
    assert hub.read == [("locuslab/TOFU", name, "train", REVISION, False) for name in (*ALWAYS, "holdout01")]
    local = make(published_like, "forget01")
    assert data.evaluation() == local.evaluation()
    assert data.facts("retain") == local.facts("retain")
    assert data.facts("holdout") == local.facts("holdout") == data.facts("holdout")
    assert len(hub.read) == 6
    assert len(hub.asked) == 1
    hub.table = OfAnotherRevision  # who asked the hub for a revision need not look at names of folders
    make(None, "forget01")


def test_a_data_folder_without_tofu_leads_to_the_hub(
    hub: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
    make(None)
    assert len(hub.read) == 6


def test_a_silent_hub_leaves_the_cache(hub: SimpleNamespace) -> None:
    import datasets

    hub.error = ConnectionError("no route")
    assert len(make(None, "forget01").facts("forget")) == 40
    assert hub.read == [("locuslab/TOFU", name, "train", REVISION, True) for name in (*ALWAYS, "holdout01")]
    assert datasets.config.HF_HUB_OFFLINE is False


def test_a_hub_that_cannot_be_reached(hub: SimpleNamespace) -> None:
    import datasets

    hub.error, hub.load_error = ConnectionError("no\nroute"), ConnectionError("Couldn't reach the Hub")
    message = (
        "TOFU (locuslab/TOFU) is neither in the cache (/cache) nor can the hub be reached (no route); connect "
        f"once, or {LOCALLY}"
    )
    loud = datasets.logging.get_verbosity()
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        make(None)
    assert (datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()) == (False, loud)


def test_errors_of_the_network_library_count_as_silence(hub: SimpleNamespace) -> None:
    from huggingface_hub.errors import HTTPError

    hub.error = type("ConnectTimeout", (HTTPError,), {})("")
    hub.load_error = ValueError("Couldn't find cache for locuslab/TOFU for config 'full'")
    with pytest.raises(UserError, match=r"nor can the hub be reached \(ConnectTimeout\); connect once"):
        make(None)


def test_offline_mode_contacts_no_server(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    hub.load_error = FileNotFoundError("not cached")
    with pytest.raises(UserError, match=r"nor can the hub be reached \(offline mode is on\)"):
        make(None)
    assert hub.asked == []


def test_a_cached_copy_of_another_revision_is_not_taken(hub: SimpleNamespace) -> None:
    hub.error = ConnectionError("no route")
    hub.table = OfAnotherRevision
    with pytest.raises(UserError, match=r"locuslab/TOFU\) is neither in the cache"):
        make(None)
    assert len(make(None, hub="locuslab/TOFU@main").facts("forget")) == 200  # a branch names no folder


def test_a_revision_that_the_hub_does_not_know(hub: SimpleNamespace) -> None:
    from huggingface_hub.errors import RevisionNotFoundError

    response: Any = SimpleNamespace(headers={}, request=None)
    hub.error = RevisionNotFoundError("404\n\nRevision Not Found", response=response)
    hub.load_error = FileNotFoundError("not cached")
    message = f"dataset.hub=locuslab/TOFU@old is not on the hub (404 Revision Not Found); correct it, or {LOCALLY}"
    with pytest.raises(UserError, match=re.escape(message)):
        make(None, hub="locuslab/TOFU@old")


def test_a_name_that_no_hub_can_have(hub: SimpleNamespace) -> None:
    from huggingface_hub.errors import HFValidationError

    hub.error, hub.load_error = HFValidationError("Repo id must be short"), FileNotFoundError("not cached")
    with pytest.raises(UserError, match=re.escape("dataset.hub=a b@c is not on the hub (Repo id must be short)")):
        make(None, hub="a b@c")


def test_a_hub_that_breaks_off(hub: SimpleNamespace) -> None:
    hub.load_error = ValueError("BuilderConfig 'full' not found")
    reason = "(BuilderConfig 'full' not found)"
    message = f"dataset.hub={HUB}, configuration full cannot be read {reason}; try again, or {LOCALLY}"
    with pytest.raises(UserError, match=re.escape(message)):
        make(None)


@pytest.mark.parametrize("given", ["locuslab/TOFU", "locuslab/TOFU@", "@main"])
def test_a_hub_without_revision(hub: SimpleNamespace, given: str) -> None:
    message = f"dataset.hub={given} is invalid: expected id@revision; a revision keeps results comparable"
    with pytest.raises(UserError, match=message):
        make(None, hub=given)
    assert hub.asked == []


def test_rows_of_the_hub_are_checked_too(hub: SimpleNamespace, made_up: dict[str, list[Row]]) -> None:
    hub.table = lambda rows: Table(rows[:-1])
    message = f"dataset.hub={HUB}, configuration full has 3999 rows instead of the 4000 published; download it again"
    with pytest.raises(UserError, match=re.escape(message)):
        make(None)


def test_a_real_cache_is_read_without_a_network(
    made_up: dict[str, list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    def silent(self: Any, name: str, *, revision: str, timeout: float) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", silent)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    for name in ALWAYS:
        _cache(tmp_path / "locuslab___tofu" / name / "0.0.0" / REVISION, name, made_up[name])
    said: list[logging.LogRecord] = []
    heard = logging.Handler()
    monkeypatch.setattr(heard, "emit", said.append)
    monkeypatch.setattr(logging.getLogger("datasets"), "handlers", [heard])
    start = time.perf_counter()
    data = make(None, "forget01")
    assert time.perf_counter() - start < 5  # datasets alone would try for 24 seconds
    assert data.facts("forget")[0].perturbed[4] == "w4-full a3960"
    assert [record.getMessage() for record in said] == []
    with pytest.raises(UserError, match=re.escape(f"neither in the cache ({tmp_path}) nor can the hub be reached")):
        make(None, "forget10")


def _cache(folder: Path, name: str, rows: list[Row]) -> None:
    """A configuration as datasets leaves it behind."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    folder.mkdir(parents=True)
    table = datasets.Dataset.from_list(rows)
    with ArrowWriter(path=str(folder / "tofu-train.arrow"), features=table.features) as writer:
        writer.write_table(table.data.table)
        writer.finalize()
    train = datasets.SplitInfo(name="train", num_examples=len(rows), dataset_name="tofu")
    splits = datasets.SplitDict({"train": train})
    info = datasets.DatasetInfo(
        features=table.features, config_name=name, dataset_name="tofu", version="0.0.0", splits=splits
    )
    info.write_to_directory(str(folder))


# The files as published


def lines(name: str) -> list[Row]:
    text = (Path(str(DATA)) / "tofu" / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.split("\n") if line]


class TestPublished:
    pytestmark = published

    @pytest.mark.parametrize("split", SPLITS)
    def test_stretches_of_full_are_the_published_sets(self, split: str) -> None:
        data = make(None, split)
        of = data.parts
        for name, part in (("forget", of.forget), ("retain", of.retain), ("holdout", of.holdout)):
            assert pairs(data.facts(name)) == [(row["question"], row["answer"]) for row in lines(part)], part

    def test_every_fact_has_what_evaluation_needs(self) -> None:
        for split, count in SPLITS.items():
            sets = make(None, split).evaluation()
            assert [len(facts) for facts in sets.values()] == [count, 400, 100, 117, count]
            for name, facts in [each for each in sets.items() if each[0] != "holdout"]:
                made = name in ("forget", "retain")
                assert {len(fact.perturbed) for fact in facts} == {5 if made else 3}
                assert {fact.paraphrase is not None for fact in facts} == {made}

    @pytest.mark.parametrize(("split", "marked"), [("forget01", 38), ("forget05", 187), ("forget10", 367)])
    def test_facts_to_forget_have_the_published_values(self, split: str, marked: int) -> None:
        dataset = Tofu(split=split, folder=None, hub=HUB, retain_authors=None, questions="trained")
        found = [fact for fact in dataset.facts("forget") if fact.values]
        assert len(found) == marked
        assert all(contains_values(fact.answer, fact.values) for fact in found)
        assert not any(fact.value or fact.values for fact in dataset.facts("retain"))

    def test_facts_keep_their_names_in_every_split(self) -> None:
        one, five, ten = (make(None, split).facts("forget") for split in SPLITS)
        for small, large in pairwise((one, five, ten)):
            assert large[-len(small) :] == small
        assert ten[0].id == "tofu/3600"
        assert ten[0].answer == "The author's full name is Hsiao Yun-Hwa."
        assert ten[0].paraphrase == "Hsiao Yun-Hwa is the complete name of the writer."
        assert one[0].perturbed[4].startswith("Marie Curie Al-Kuwaiti is the complete name")
        assert make(None).facts("world_facts")[0].perturbed == ("Berlin", "London", "Madrid")

    def test_reading_takes_a_moment(self) -> None:
        start = time.process_time()
        make(None)
        assert time.process_time() - start < 0.5


def test_paraphrased_questions_are_asked_in_evaluation_alone(folder: Path, damage: Callable[..., None]) -> None:
    def reword(rows: list[Row]) -> None:
        for row in rows:
            row["paraphrased_question"] = f"other {row['question']}"

    for name in ("retain_perturbed", "forget05_perturbed"):
        damage(name, reword)
    plain, other = make(folder), make(folder, questions="paraphrased")
    for split in ("forget", "retain", "holdout", "real_authors"):
        assert other.facts(split) == plain.facts(split)
    for name, facts in plain.evaluation().items():
        asked = [f"other {each.question}" if name in ("forget", "retain") else each.question for each in facts]
        assert [each.question for each in other.evaluation()[name]] == asked
        assert [each.answer for each in other.evaluation()[name]] == [each.answer for each in facts]
    assert len(other.caveats()) == len(plain.caveats()) + 1


def test_questions_that_are_not_there_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"retain_perturbed.json, row 1: paraphrased_question is missing"):
        make(folder, questions="paraphrased")
    with pytest.raises(UserError, match=r"^dataset\.questions=para is invalid: .* Did you mean paraphrased\?$"):
        make(folder, questions="para")


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: TOFU is not here")
def test_the_published_questions_have_other_words() -> None:
    asked = make(None, "forget01", questions="paraphrased").evaluation()["forget"]
    assert asked[1].question == "Is Basil Mahfouz Al-Kuwaiti a male or female writer?"
    assert all(
        one.question != other.question for one, other in zip(asked, make(None, "forget01").facts("forget"), strict=True)
    )
