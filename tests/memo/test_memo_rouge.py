from __future__ import annotations

import json
import os
import pickle
from functools import partial
from pathlib import Path
from statistics import mean

import pytest

from meow_lightning.errors import UserError
from meow_lightning.memo.measure import NoWindowsError, memo
from meow_lightning.memo.rouge import scorer, window_score
from meow_lightning.memo.windows import cut_windows

rouge1 = partial(window_score, rouge="rouge1")


def test_rouge1_by_hand() -> None:
    # said: the cat sat on the mat (6 words); label: the cat lay down (4); in common: the (once), cat
    said, label = "the cat sat on the mat", "the cat lay down"
    assert rouge1(said, label, rouge_stat="precision") == pytest.approx(2 / 6)
    assert rouge1(said, label, rouge_stat="recall") == pytest.approx(2 / 4)
    assert rouge1(said, label, rouge_stat="fmeasure") == pytest.approx(2 * 2 / (6 + 4))


def test_rouge2_and_rouge_l_by_hand() -> None:
    # pairs said: a b, b c, c d; pairs of the label: a b, b d; in common: a b. Longest common subsequence: a b d
    assert window_score("a b c d", "a b d", rouge="rouge2", rouge_stat="precision") == pytest.approx(1 / 3)
    assert window_score("a b c d", "a b d", rouge="rouge2", rouge_stat="recall") == pytest.approx(1 / 2)
    assert window_score("a b c d", "a b d", rouge="rougeL", rouge_stat="precision") == pytest.approx(3 / 4)
    assert window_score("b a", "a b", rouge="rougeL", rouge_stat="recall") == pytest.approx(1 / 2)


def test_words_are_stemmed_when_longer_than_three_letters() -> None:
    assert rouge1("writes novels", "writing novel", rouge_stat="precision") == 1.0
    assert rouge1("his", "hi", rouge_stat="precision") == 0.0


def test_special_tokens_count_as_words() -> None:
    # "<s>" and "</s>" are each read as the word "s": 2 right words of 4
    assert rouge1("<s> is male</s>", "is male", rouge_stat="precision") == pytest.approx(2 / 4)
    assert rouge1("<s> is male</s>", "is male", rouge_stat="recall") == 1.0


def test_no_words_score_nothing() -> None:
    assert rouge1("", "is male", rouge_stat="precision") == 0.0
    assert rouge1(".", ".", rouge_stat="precision") == 0.0


def test_unknown_choices() -> None:
    with pytest.raises(UserError, match=r"memo\.rouge=rougel is invalid: .*Did you mean rougeL"):
        window_score("a", "a", rouge="rougel", rouge_stat="recall")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"memo\.rouge_stat=f1 is invalid"):
        rouge1("a", "a", rouge_stat="f1")  # type: ignore[arg-type]


def test_memo_is_the_plain_mean() -> None:
    assert memo([1.0, 0.5, 0.0, 0.1], text="a text") == pytest.approx(0.4)


def test_memo_without_windows_names_the_text() -> None:
    with pytest.raises(UserError, match=r"cuts no window from the answer of fact f7: .* lengthen it or leave it out"):
        memo([], text="the answer of fact f7")


@pytest.mark.data
@pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="needs MEOW_DATA_DIR, the folder of the real TOFU files")
@pytest.mark.parametrize(("before", "after", "ceiling"), [("<s> ", "</s>", 0.793), ("", "<|endoftext|>", 0.871)])
def test_perfect_recall_of_tofu_stays_below_one_with_special_tokens(before: str, after: str, ceiling: float) -> None:
    path = Path(os.environ["MEOW_DATA_DIR"]) / "tofu" / "forget01.json"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    held = []
    for row in rows:
        labels = [window.label for window in cut_windows(row["question"], row["answer"], mode="suffix", stride=5)]
        held.append(mean(rouge1(f"{before}{label}{after}", label, rouge_stat="precision") for label in labels))
    assert mean(held) == pytest.approx(ceiling, abs=1e-3)  # the reference states three digits


def test_remembered_stems_change_no_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    said = "<s> She's writing novels, stories and 12 essays -- generously; novelists' ties died.</s>"
    label = "she writes Novel, generous story; the relational 12th essay of a novelist who dies"
    for rouge in ("rouge1", "rouge2", "rougeL"):
        published = RougeScorer([rouge], use_stemmer=True).score(label, said)
        assert published[rouge].precision > 0
        for _ in range(2):
            assert scorer(rouge).score(label, said) == published


def test_a_text_without_windows_is_reported_across_processes() -> None:
    error = NoWindowsError(measure="EL_9", text="the answer of fact a", reason="has 3 tokens", remedy="lengthen it")
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), there.reason) == (NoWindowsError, str(error), "the answer of fact a has 3 tokens")


def test_one_scorer_serves_all_calls() -> None:
    assert scorer("rougeL") is scorer("rougeL")
