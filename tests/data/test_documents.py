from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.data.documents import Document, Documents, cut
from meow_lightning.errors import UserError

WORDS = [f"word{number}" for number in range(40)]
TEXT = " ".join(WORDS)
WIKITEXT = Path(os.environ.get("MEOW_DATA_DIR", "")) / "nlg" / "wikitext-2" / "test.txt"
OTHER = "\n\n".join(f"Another line, number {number}." for number in range(30))


def document(text: str, prefix: int | None = None) -> Document:
    return Document("d", "dataset.forget=d.txt", text, prefix)


def documents(**changes: Any) -> Documents:
    options = {"retain": None, "holdout": None, "prefix_words": 4, "target_words": 6}
    return Documents(**{**options, "real_world": False, "retain_eval": 3, "seed": 0, **changes})


@pytest.fixture
def make(tmp_path: Path):
    """Documents of texts (in text files) or entries (in JSON lines)."""

    def build(**changes: Any) -> Documents:
        for name in ("forget", "retain", "holdout"):
            if isinstance(given := changes.get(name), list):
                path = tmp_path / f"{name}.jsonl"
                path.write_text("".join(json.dumps(entry) + "\n" for entry in given), encoding="utf-8")
                changes[name] = str(path)
            elif given is not None:
                path = tmp_path / f"{name}.txt"
                path.write_text(given, encoding="utf-8")
                changes[name] = str(path)
        return documents(**changes)

    return build


def test_targets_follow_each_other_and_prefixes_precede_them() -> None:
    passages = cut(document(TEXT), prefix_words=4, target_words=7)
    assert [len(each.answer.split()) for each in passages] == [6] * 6
    assert [len(each.question.split()) for each in passages] == [4] * 6
    assert passages[0].question == "word0 word1 word2 word3"
    assert passages[1].text == "word6 word7 word8 word9 word10 word11 word12 word13 word14 word15"
    assert [each.ends for each in passages] == [False] * 5 + [True]
    assert [each.id for each in passages][:2] == ["d/0000", "d/0001"]


@given(
    text=st.text(alphabet="ab .,|\n\t水漢é-", min_size=1).map(str.strip), prefix=st.integers(1, 9),
    target=st.integers(1, 9),
)  # fmt: skip
def test_a_document_is_its_first_prefix_and_all_targets(text: str, prefix: int, target: int) -> None:
    try:
        passages = cut(document(text), prefix_words=prefix, target_words=target)
    except UserError:
        return
    assert passages[0].question + "".join(each.answer for each in passages) == text
    assert all(each.text in text and 0 < each.prefix < len(each.text) for each in passages)
    assert all(any(map(str.isalnum, each.answer)) for each in passages)


def test_marks_are_no_words_and_a_short_document_is_cut_in_half() -> None:
    (only,) = cut(document("One two | = three four"), prefix_words=9, target_words=9)
    assert (only.question, only.answer, only.ends) == ("One two | =", " three four", True)
    with pytest.raises(UserError, match="needs at least 2 words"):
        cut(document("Alone | ="), prefix_words=1, target_words=1)


def test_text_files_json_lines_and_given_cuts(make) -> None:
    data = make(
        forget=TEXT, retain=[{"text": OTHER, "id": "o"}, {"prompt": "Ada lived", "completion": " in Lima.", "id": "p"}]
    )
    assert data.facts("forget")[0].id == "forget/0001/0000"
    *cuts, given_cut = data.facts("retain")
    assert all(each.id.startswith("o/") for each in cuts)
    assert (given_cut.question, given_cut.answer, given_cut.ends) == ("Ada lived", " in Lima.", True)
    assert data.facts("holdout") == data.facts("real_authors") == []


def test_a_folder_holds_a_document_in_each_text_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"without \.txt files"):
        documents(forget=str(tmp_path))
    for name in "ba":
        (tmp_path / f"{name}.txt").write_text(f"{name} {TEXT}")
    (tmp_path / "notes.md").write_text("not read")
    forget = documents(forget=str(tmp_path), target_words=99).facts("forget")
    assert [(each.id, each.question[:1]) for each in forget] == [("forget/0001/0000", "a"), ("forget/0002/0000", "b")]


def test_sets_say_what_they_are_for(make) -> None:
    data = make(forget=TEXT, retain=OTHER, holdout="Yet " + OTHER.replace("line", "row"), real_world=True)
    assert [(name, each.purpose) for name, each in data.evaluation().items()] == [
        ("forget", "forget"), ("retain", "retain"), ("real_authors", "utility"), ("world_facts", "utility"),
        ("holdout", "holdout"),
    ]  # fmt: skip
    assert len(data.evaluation()["retain"]) == 3 < len(data.facts("retain"))
    assert set(data.evaluation()["retain"]) <= set(data.facts("retain"))
    assert list(make(forget=TEXT).evaluation()) == ["forget"]


def test_the_tokenizer_sees_what_is_trained_and_the_language_nothing_of_it(make) -> None:
    data = make(forget=TEXT, retain=OTHER, holdout="Held " + OTHER.replace("line", "row"))
    corpus = data.tokenizer_corpus()
    assert {each.segments for name in ("forget", "retain") for each in data.facts(name)} <= set(corpus)
    assert not {each.segments for each in data.facts("holdout")} & set(corpus)
    assert not any("word1" in each.answer for each in data.pretraining_examples(50, 1))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"forget": [{"text": 3}]}, "entry 1: text is 3"),
        ({"forget": [{"content": TEXT}]}, "'content' is not a known key. Did you mean 'text'"),
        ({"forget": [{"prompt": "Ada"}]}, "entry 1: each entry needs"),
        ({"forget": [{"text": "Ada lived", "prompt": "Ada"}]}, "entry 1: each entry needs"),
        ({"forget": [{"prompt": "Ada", "completion": " "}]}, "completion"),
        ({"forget": [{"text": TEXT, "id": "x"}, {"text": OTHER, "id": "x"}]}, "entry 2: id 'x' is also that of"),
        ({"forget": TEXT, "retain": TEXT}, "dataset.forget and dataset.retain: passages forget/0001/0000 and"),
        ({"forget": TEXT, "target_words": 0}, "dataset.target_words=0"),
        ({"forget": TEXT, "prefix_words": 0}, "dataset.prefix_words=0"),
    ],
)
def test_what_cannot_be_used_is_named(make, files: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as raised:
        make(**files)
    assert named in str(raised.value)


@pytest.mark.data
@pytest.mark.skipif(not WIKITEXT.is_file(), reason="MEOW_DATA_DIR has no nlg/wikitext-2/test.txt")
def test_wikitext_is_cut_without_loss() -> None:
    data = documents(forget=str(WIKITEXT), prefix_words=32, target_words=32)
    first, *others = data.facts("forget")
    assert first.text + "".join(each.answer for each in others) == WIKITEXT.read_text(encoding="utf-8").strip()
    assert all(any(map(str.isalnum, each.answer)) for each in others)
    assert [each.ends for each in (first, *others)].count(True) == 1
