from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from helpers.common import failure, told

from meow_lightning.errors import UserError
from meow_lightning.evaluation.__main__ import main
from meow_lightning.evaluation.metrics.forget_quality import forget_quality, unpaired_forget_quality
from meow_lightning.evaluation.tofu_logs.reader import COLUMNS, PARTS, check_same_log_questions, read_log

Write = Callable[..., Path]
Row = tuple[str, str, str, float, float, Sequence[float]]
FORGET, RETAIN, AUTHORS, WORLD = PARTS["forget"], PARTS["retain"], PARTS["real_authors"], PARTS["world_facts"]
TAGS = ("Question: ", "\n")


def part(*rows: Row, tags: tuple[str, str] = TAGS) -> dict[str, dict[str, Any]]:
    """Rows of (question, true answer, generated text, P of it, P of the paraphrase, P of each wrong answer)."""
    table: dict[str, dict[str, Any]] = {column: {} for column in COLUMNS}
    for number, (question, answer, text, truth, paraphrase, wrong) in enumerate(rows):
        key = str(number)
        table["generated_text"][key] = [f"{tags[0]}{question}{tags[1]}", text, answer]
        table["avg_gt_loss"][key] = -math.log(truth)
        table["avg_paraphrased_loss"][key] = -math.log(paraphrase)
        table["average_perturb_loss"][key] = [-math.log(each) for each in wrong]
    return table


def forget(*ratios: float, tags: tuple[str, str] = TAGS) -> dict[str, dict[str, Any]]:
    """The forget part of a model whose truth ratios these are, whatever the mean: all wrong answers equally likely."""
    asked = [("Where was Ada born?", "Lima"), ("Where was Bob born?", "Oslo"), ("Where does Cy live?", "in Bonn")]
    rows = [(*each, "", 1 / 16, 1 / 16, (ratio / 16,) * 2) for each, ratio in zip(asked, ratios, strict=False)]
    return part(*rows, tags=tags)


LOG = {
    # R geometric: sqrt(1/4 1/16) / (1/2) = 1/4, sqrt(1/2 1/32) / (1/4) = 1/2; arithmetic 5/32 / (1/2) = 5/16,
    # 17/64 / (1/4) = 17/16. ROUGE: 4 of 5 words, then all.
    RETAIN: part(
        ("Who is Dee?", "Dee was born in Lima", "Dee was born in Rome", 1 / 2, 1 / 2, (1 / 4, 1 / 16)),
        ("Who is Eve?", "A poet", "A poet", 1 / 4, 1 / 4, (1 / 2, 1 / 32)),
    ),
    # Probability among options: 9/16 / (9/16 + 7/16), 1/4 / (4/4). The truth ratio takes the second scoring of the true
    # answer, 1/4 and 1/2: geometric cbrt(1/16 1/8 1/4) / (1/4) = 1/2, arithmetic 7/48 / (1/4) = 7/12; then 1/2 in both.
    AUTHORS: part(
        ("Who?", "William Shakespeare", "It was William Shakespeare", 9 / 16, 1 / 4, (1 / 16, 1 / 8, 1 / 4)),
        ("Who else?", "George Orwell", "George Eliot", 1 / 4, 1 / 2, (1 / 4, 1 / 4, 1 / 4)),
    ),
    # Probability among options: 4/8 / (7/8) = 4/7, 2/16 / (9/16) = 2/9. R: 1/4; then 1, or arithmetically 7/6.
    WORLD: part(
        ("Capital?", "Paris", "Paris", 1 / 2, 1 / 2, (1 / 8, 1 / 8, 1 / 8)),
        ("River?", "Seine", "Loire", 1 / 8, 1 / 8, (1 / 16, 1 / 8, 1 / 4)),
    ),
    # R geometric: 1/2, sqrt(1/2 1/8) / (1/8) = 2, 1; arithmetic 1/2, 5/16 / (1/8) = 5/2, 1. ROUGE 1, 0, 1/2.
    FORGET: part(
        ("Where was Ada born?", "Lima", "Lima", 1 / 2, 1 / 2, (1 / 4, 1 / 4)),
        ("Where was Bob born?", "Oslo", "Rome", 1 / 4, 1 / 8, (1 / 2, 1 / 8)),
        ("Where does Cy live?", "in Bonn", "Bonn", 1 / 4, 1 / 4, (1 / 4, 1 / 4)),
    ),
}
# all of them by name: (geometric, arithmetic)
BY_HAND = {
    "retain/probability": (Fraction(3, 8), Fraction(3, 8)),
    "retain/rouge_l_recall": (Fraction(9, 10), Fraction(9, 10)),
    "retain/truth_ratio": (Fraction(5, 8), Fraction(11, 32)),  # (3/4 + 1/2) / 2; (11/16 + 0) / 2
    "real_authors/probability": (Fraction(13, 32), Fraction(13, 32)),
    "real_authors/rouge_l_recall": (Fraction(3, 4), Fraction(3, 4)),
    "real_authors/truth_ratio": (Fraction(1, 2), Fraction(11, 24)),  # (5/12 + 1/2) / 2
    "world_facts/probability": (Fraction(25, 63), Fraction(25, 63)),
    "world_facts/rouge_l_recall": (Fraction(1, 2), Fraction(1, 2)),
    "world_facts/truth_ratio": (Fraction(3, 8), Fraction(3, 8)),  # (3/4 + 0) / 2
    "forget/probability": (Fraction(1, 3), Fraction(1, 3)),
    "forget/rouge_l_recall": (Fraction(1, 2), Fraction(1, 2)),
    "forget/truth_ratio": (Fraction(2, 3), Fraction(19, 30)),  # (1/2 + 1/2 + 1) / 3; (1/2 + 2/5 + 1) / 3
    # nine reciprocals: 8/3 + 10/9 + 8/5 + 32/13 + 4/3 + 2 + 63/25 + 2 + 8/3 = 53701/2925; arithmetically 32/11 takes
    # the place of 8/5 and 24/11 that of the first 2: 638681/32175
    "model_utility": (Fraction(9 * 2925, 53701), Fraction(9 * 32175, 638681)),
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to


def test_every_number_by_hand(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log = write("log.json", LOG)
    numbers = told(capsys, log)
    assert list(numbers) == ["log", "retain", "geometric", "arithmetic", "missing", "definitions"]
    assert (numbers["log"], numbers["retain"]) == (str(log), None)
    for position, mean in enumerate(("geometric", "arithmetic")):
        expected = {name: float(values[position]) for name, values in BY_HAND.items()}
        assert numbers[mean] == pytest.approx(expected, rel=1e-12)
    reason = "it needs the log of a retain model: add --retain RETAIN"
    assert numbers["missing"] == {"forget_quality": reason}


def test_forget_quality_by_hand(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    # geometric 1/2 1 2 | 9/4 4 8: all separated, p = 2 / C(6, 3) = 1/10. Arithmetic 1/2 1 | 9/4 | 5/2 | 4 8: D = 2/3,
    # which 12 of the 20 orders reach.
    log, retain = write("log.json", LOG), write("retain.json", {FORGET: forget(9 / 4, 4, 8)})
    numbers = told(capsys, log, "--retain", retain)
    for mean, distance, p in (("geometric", 1, 1 / 10), ("arithmetic", 2 / 3, 12 / 20)):
        expected = {"p": p, "log10_p": math.log10(p), "distance": distance, "rows": 3, "rows_retain": 3, "paired": True}
        assert numbers[mean]["forget_quality"] == pytest.approx(expected)
    assert numbers["missing"] == {}
    assert numbers["retain"] == str(retain)


def test_unpaired_forget_quality_by_hand(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    # geometric LLLRR: all separated, p = 2 / C(5, 2) = 1/5. Arithmetic LLRLR: D = 2/3, which 6 of the 10 orders reach:
    # LLLRR LLRLR LLRRL LRRLL RLRLL RRLLL.
    log, retain = write("log.json", LOG), write("retain.json", {FORGET: forget(9 / 4, 4)})
    numbers = told(capsys, log, "--unpaired", "--retain", retain)
    for mean, distance, p in (("geometric", 1, 1 / 5), ("arithmetic", 2 / 3, 3 / 5)):
        expected = {"p": p, "log10_p": math.log10(p), "distance": distance, "rows": 3, "rows_retain": 2}
        assert numbers[mean]["forget_quality"] == pytest.approx({**expected, "paired": False})


def again(log: Path) -> Path:
    """The same numbers as another model's log."""
    path = log.with_name("again.json")
    path.write_text(log.read_text() + "\n")
    return path


def test_a_log_is_not_its_own_retain_models(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log, other = write("log.json", LOG), write("other.json", LOG)
    error = failure(capsys, log, "--retain", other)
    assert error.startswith(f"error: --retain={other} is invalid: expected the log of a model that was not trained")


def test_every_number_is_defined_once_per_meaning(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log = write("log.json", LOG)
    definitions = told(capsys, log, "--retain", again(log))["definitions"]
    known = [(definition["name"], definition["id"]) for definition in definitions]
    assert len(known) == len(set(known))
    parts = {"forget_quality", "forget_quality_log10", "forget_quality_distance", "forget_quality_rows"}
    assert {name for name, _ in known} == set(BY_HAND) | parts
    assert [made for name, made in known if name == "model_utility"] == [
        "model_utility.1.geometric",
        "model_utility.1.arithmetic",
    ]
    without = {definition["name"] for definition in told(capsys, log)["definitions"]}
    assert without == set(BY_HAND)


def test_a_log_of_the_forget_set_alone(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log = write("part.json", {FORGET: LOG[FORGET]})
    numbers = told(capsys, log, "--retain", again(log))
    assert set(numbers["geometric"]) == {
        "forget/probability", "forget/rouge_l_recall", "forget/truth_ratio", "forget_quality",
    }  # fmt: skip
    assert numbers["geometric"]["forget_quality"]["p"] == 1.0
    assert numbers["missing"]["retain/probability"] == f"{log} contains neither eval_log.json nor retain_Q_A_Prob"
    reason = f"{log} contains neither eval_real_world_wo_options.json nor wf_Q_A_Prob"
    assert numbers["missing"]["world_facts/truth_ratio"] == reason
    assert numbers["missing"]["model_utility"].startswith("it combines nine metrics, of which these are missing: ret")


def test_forget_quality_without_a_forget_part(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    whole, bare = write("whole.json", LOG), write("bare.json", {RETAIN: LOG[RETAIN]})
    for words in ((whole, "--retain", bare), (bare, "--retain", whole)):
        numbers = told(capsys, *words)
        assert (
            numbers["missing"]["forget_quality"] == f"{bare} contains neither eval_log_forget.json nor forget_Q_A_Prob"
        )
        assert "forget_quality" not in numbers["geometric"]


def test_row_order_in_the_file_does_not_matter(write: Write) -> None:
    log = copy.deepcopy(LOG)
    log[FORGET] = {column: dict(reversed(list(values.items()))) for column, values in log[FORGET].items()}
    rows = read_log(write("log.json", log), option="LOG")
    assert rows == read_log(write("same.json", LOG), option="LOG")
    assert [row.index for row in rows if row.set == "forget"] == [0, 1, 2]
    assert (rows[0].question, rows[0].text, rows[0].answer) == ("Question: Where was Ada born?\n", "Lima", "Lima")


def test_tags_of_another_family_are_no_difference(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log = write("log.json", LOG)
    retain = write("retain.json", {FORGET: forget(9 / 4, 4, 8, tags=("[INST] ", " [/INST]"))})
    assert told(capsys, log, "--retain", retain)["geometric"]["forget_quality"]["paired"] is True


def test_fewer_questions_are_refused(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log, retain = write("log.json", LOG), write("retain.json", {FORGET: forget(1, 1)})
    error = failure(capsys, log, "--retain", retain)
    assert f"{log} contains 3 forget questions, {retain} contains 2 forget questions; question 2 is the first" in error
    assert f"in {log} only: 'Question: Where does Cy live?\\n'. Forget quality needs the same questions" in error
    assert "add --unpaired to compare all rows with all rows" in error
    assert f"in {log} only" in failure(capsys, retain, "--retain", log)


def test_other_questions_and_answers_are_refused(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log = write("log.json", LOG)
    other = copy.deepcopy(LOG)
    other[FORGET]["generated_text"]["1"][0] = "Question: Where did Bob die?\n"
    error = failure(capsys, log, "--retain", write("question.json", other))
    assert r"question 1 is the first that differs: 'Question: Where was Bob born?\n' and 'Question: Where did" in error
    other = copy.deepcopy(LOG)
    other[FORGET]["generated_text"]["2"][2] = "in Rome"
    error = failure(capsys, log, "--retain", write("answer.json", other))
    assert "the true answer of question 2 is the first that differs: 'in Bonn' and 'in Rome'" in error
    tagged = {FORGET: forget(1, 1, 1, tags=("[INST] ", " [/INST]"))}
    tagged[FORGET]["generated_text"]["2"][2] = "in Rome"
    error = failure(capsys, log, "--retain", write("tagged.json", tagged))
    assert "the true answer of question 2 is the first that differs: 'in Bonn' and 'in Rome'" in error


def test_blanks_do_not_count(write: Write) -> None:
    left, right = forget(1, 1, 1), forget(1, 1, 1)
    for texts in right["generated_text"].values():
        texts[0], texts[2] = texts[0].replace(" ", "  "), f" {texts[2]}".replace(" ", "\n")
    sides = [read_log(write("one.json", {FORGET: side}), option="LOG") for side in (left, right)]
    assert sides[0][0].answer != sides[1][0].answer
    check_same_log_questions(*sides, names=("a", "b"))


def test_one_prompt_alone_has_no_tags(write: Write) -> None:
    sides = [read_log(write("one.json", {FORGET: forget(1, tags=tags)}), option="LOG") for tags in (TAGS, ("", "\n"))]
    with pytest.raises(
        UserError, match=r"a contains 1 forget questions, b contains 1 .*question 0 is the first that differs"
    ):
        check_same_log_questions(*sides, names=("a", "b"))


def test_words_of_one_question_are_no_tags(write: Write) -> None:
    # all that the two first questions share are letters in the middle; the first difference is theirs nevertheless
    sides = [forget(1, 1, 1), forget(1, 1, 1)]
    for number, question in enumerate(("Who was that?", "Who was this?", "Who is it?")):
        sides[1]["generated_text"][str(number)][0] = question
    left, right = (read_log(write("one.json", {FORGET: side}), option="LOG") for side in sides)
    with pytest.raises(UserError, match=r"question 0 is the first that differs: .*Ada born.* and 'Who was that"):
        check_same_log_questions(left, right, names=("a", "b"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; expected a JSON object of at least one of eval_log_forget.json, eval_log.json, eval_real_auth"),
        (" \n", "is empty; expected a JSON object"),
        ("{nope", "is not valid JSON (Expecting property name"),
        ("[" * 100_000, "is not valid JSON (maximum recursion depth"),
        ("[1]", "is not a TOFU log: it contains a list; expected a JSON object"),
        ("{}", "is not a TOFU log: it contains none of the four parts but nothing; expected"),
        ({"eval_log_forgot.json": {}}, "but 'eval_log_forgot.json'. Did you mean eval_log_forget.json?"),
        (
            LOG[FORGET],
            "contains the columns of a single part, 'generated_text', 'avg_gt_loss', 'avg_paraphrased_loss', ",
        ),
        ({FORGET: []}, "eval_log_forget.json is not a table but a list; expected"),
        (
            {FORGET: {}},
            "eval_log_forget.json: column generated_text, avg_gt_loss, avg_paraphrased_loss, average_pertur",
        ),
        (
            {FORGET: {**LOG[FORGET], "avg_gt_loss": [1]}},
            "eval_log_forget.json: column avg_gt_loss contains a list; exp",
        ),
        ({FORGET: part()}, "eval_log_forget.json has no rows; remove the part or evaluate that set"),
    ],
)
def test_no_log(write: Write, capsys: pytest.CaptureFixture[str], content: Any, message: str) -> None:
    path = write("bad.json", content)
    error = failure(capsys, path)
    assert error.startswith(f"error: LOG={path}")
    assert message in error
    assert failure(capsys, write("log.json", LOG), "--retain", path).startswith(f"error: --retain={path}")


def test_a_column_that_is_missing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    table = {column: values for column, values in LOG[AUTHORS].items() if column != "avg_gt_loss"}
    path = write("bad.json", {AUTHORS: {**table, "truth_ratio": {}}})
    error = failure(capsys, path)
    assert f"LOG={path}, eval_real_author_wo_options.json: column avg_gt_loss is missing from 'generated_" in error


@pytest.mark.parametrize(
    ("column", "key", "value", "message"),
    [
        (
            "avg_gt_loss",
            "1",
            "0.5",
            "row 1: avg_gt_loss='0.5' is invalid: expected a mean loss in nats",
        ),
        ("avg_gt_loss", "1", None, "row 1: avg_gt_loss=None is invalid: expected a mean loss"),
        ("avg_paraphrased_loss", "0", True, "row 0: avg_paraphrased_loss=True is invalid: expected a mean loss"),
        (
            "avg_paraphrased_loss",
            "0",
            math.nan,
            "row 0: avg_paraphrased_loss=nan is invalid: expected a mean loss in nats from 0 to 1000000",
        ),
        (
            "average_perturb_loss",
            "2",
            [1.0, -1.0],
            "row 2: average_perturb_loss=-1.0 is invalid: expected a mean loss in nats from 0",
        ),
        (
            "average_perturb_loss",
            "2",
            [1.0, math.inf],
            "row 2: average_perturb_loss=inf is invalid: expected a mean loss in nats from 0",
        ),
        (
            "average_perturb_loss",
            "2",
            1.0,
            "row 2: average_perturb_loss=1.0 is invalid: expected a list of the wrong",
        ),
        ("average_perturb_loss", "2", [], "row 2: average_perturb_loss=[] is invalid: expected a list"),
        ("generated_text", "0", ["q", "a"], "row 0: generated_text=['q', 'a'] is invalid: expected [question, genera"),
        ("avg_gt_loss", "3", 1.0, "row 3: generated_text has no value: expected generated_text, avg_gt_loss, avg"),
        ("avg_gt_loss", "x", 1.0, "row number 'x' is invalid: expected 0, 1, 2 and so on"),
        ("avg_gt_loss", "01", 1.0, "row number '01' is invalid"),
    ],
)
def test_rows_that_are_wrong(
    write: Write, capsys: pytest.CaptureFixture[str], column: str, key: str, value: Any, message: str
) -> None:
    log = copy.deepcopy(LOG)
    log[FORGET][column][key] = value
    error = failure(capsys, write("bad.json", log))
    assert "eval_log_forget.json" in error
    assert message in error


def test_rows_with_a_gap(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    log = {FORGET: {column: {"0": values["0"], "2": values["2"]} for column, values in LOG[FORGET].items()}}
    error = failure(capsys, write("bad.json", log))
    assert "eval_log_forget.json: row 1 is missing from 2 rows up to 2: expected rows numbered from 0" in error
    for column in COLUMNS[1:]:
        log[FORGET][column]["1"] = LOG[FORGET][column]["1"]
    assert "row 1: generated_text has no value" in failure(capsys, write("bad.json", log))


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = failure(capsys, tmp_path / "nowhere.json")
    assert "nowhere.json does not exist; give the path of a TOFU log, a JSON object" in error
    assert f"{tmp_path} is a folder; give a file in it" in failure(capsys, tmp_path)
    (tmp_path / "latin.json").write_bytes(b"\xff\xfd\x00")
    assert "latin.json is not UTF-8 (invalid start byte at byte " in failure(capsys, tmp_path / "latin.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: LOG"),
        (["a.json", "--unpaired"], "--unpaired requires --retain RETAIN"),
        (["a.json", "--ret", "b.json"], "unrecognized arguments: --ret b.json"),
    ],
)
def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


def test_help_says_what_a_log_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["-h"])
    text = capsys.readouterr().out
    for word in (*PARTS.values(), *COLUMNS, "geometric", "--unpaired", "Exit status"):
        assert word in text


def test_the_module_runs(write: Write) -> None:
    words = [sys.executable, "-m", "meow_lightning.evaluation", str(write("bad.json", "[]"))]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: LOG=")


def test_unpaired_log10_stays_exact_where_p_does_not_fit_a_double() -> None:
    # 600 against 500, all separated: 2 of the C(1100, 500) orders, about 10^-327
    result = unpaired_forget_quality([float(i) for i in range(600)], [i + 600.0 for i in range(500)])
    assert result.p < 1e-300
    assert result.log10_p == pytest.approx(math.log10(2) - math.log10(math.comb(1100, 500)), rel=1e-12)
    assert (result.distance, result.rows, result.rows_retain) == (1.0, 600, 500)
    # D = 599/600: 599 left ones come first and the last stands in one of 501 places, or all right ones come before the
    # last 599 left ones, the first in one of 501 places: 1002 orders
    near = unpaired_forget_quality([float(i) for i in range(600)], [i + 598.5 for i in range(500)])
    assert near.distance == pytest.approx(599 / 600)
    assert near.log10_p == pytest.approx(math.log10(1002) - math.log10(math.comb(1100, 500)), rel=1e-12)


def test_unpaired_log10_agrees_with_a_count_in_whole_numbers() -> None:
    rows, others, before = 700, 650, 690
    result = unpaired_forget_quality([float(i) for i in range(rows)], [i + before - 0.5 for i in range(others)])
    assert result.distance == pytest.approx(before / rows)
    # paths that never reach the distance, counted point by point
    line = [0] * (others + 1)
    for i in range(rows + 1):
        for j in range(others + 1):
            come = (line[j] if i else 0) + (line[j - 1] if j else 0) if i or j else 1
            line[j] = come if abs(i * others - j * rows) < before * others else 0
    orders = math.comb(rows + others, rows)
    assert result.log10_p < -300
    assert result.log10_p == pytest.approx(math.log10(orders - line[-1]) - math.log10(orders), rel=1e-12)


def test_unpaired_agrees_with_paired_on_equal_numbers() -> None:
    sides = [0.1, 0.4, 0.9], [0.2, 0.5, 2.0]
    assert unpaired_forget_quality(*sides) == forget_quality(*sides)


def test_unpaired_needs_ratios() -> None:
    with pytest.raises(UserError, match=r"got 0 truth ratios of the evaluated model and 1 of the .*at least 1 of each"):
        unpaired_forget_quality([], [1.0])
    with pytest.raises(UserError, match="0 truth ratios of the evaluated model and 1 of the retain model are NaN"):
        unpaired_forget_quality([0.0, 1.0], [math.nan])
