from __future__ import annotations

import csv as csv_format
import io

from meow_lightning.evaluation.robustness import with_conditions
from meow_lightning.report import tables
from meow_lightning.report.data import definition, flatten, format_value, number, subject_name, why_missing
from meow_lightning.report.robustness import attack_tables
from meow_lightning.types import Definition, Results

RESULTS = Results(
    definitions=(
        Definition("value_accuracy", "v.1", "share", "higher", "Says it.", "value accuracy", 3, main=True),
        Definition("forget/value_accuracy", "v.1", "share", "lower", "Says it.", "value said", 2, main=False),
        Definition("forget_quality_log10", "f.1", "log10 | p", "higher", "Test.", "quality (log10 p)", 1, main=True),
    ),
    values={
        "target": {"forget_quality_log10": -6.1, "forget/value_accuracy": 1.0, "retain/value_accuracy": 0.99},
        "unlearned": {"forget_quality_log10": -0.04, "retain/value_accuracy": float("nan"), "zeta": 1 / 3},
        "retain": {},
    },
    missing={
        "unlearned": {"forget/value_accuracy": "no value\nis marked"},
        "retain": {"retain/value_accuracy": "no retain model"},
    },
)


def test_markdown_has_one_row_per_metric_and_the_reasons_below() -> None:
    text = tables.markdown(RESULTS).splitlines()
    body = [line for line in text if line.startswith("|")]
    assert len(body) == 2 + 4
    assert {line.replace("\\|", "").count("|") for line in body} == {7}
    assert body[2] == "| quality (log10 p) | ↑ | log10 \\| p | -6.1 | 0.0 | — [1] |"
    assert body[3] == "| value said | ↓ | share | 1.000 | — [2] | — [1] |"
    notes = [line.strip() for line in text if line.startswith("[")]
    assert notes[:2] == ["[1] no retain model", "[2] no value is marked"]


def test_the_questions_behind_a_number_stand_beside_it() -> None:
    name = "forget/value_accuracy"
    counts = {f"{name}_covered": 38.0, f"{name}_out_of": 40.0}
    names = (name, *counts)
    definitions = tuple(Definition(each, "v.1", "share", "lower", "T.", each, 1, main=False) for each in names)
    every = {**counts, f"{name}_covered": 40.0}
    results = Results(definitions, {"target": {name: 0.5, **counts}, "unlearned": {name: 0.25, **every}})
    (row,) = [line for line in tables.markdown(results).splitlines() if name in line]
    assert "| 0.500 (38 of 40) | 0.250 |" in row
    rows = {row["metric"]: row["target"] for row in csv_format.DictReader(io.StringIO(tables.csv(results)))}
    assert rows == {name: "0.5", f"{name}_covered": "38.0", f"{name}_out_of": "40.0"}


def test_csv_parses_in_full_precision_and_leaves_missing_numbers_empty() -> None:
    rows = {row["metric"]: row for row in csv_format.DictReader(io.StringIO(tables.csv(RESULTS)))}
    assert float(rows["zeta"]["unlearned"]) == 1 / 3
    assert rows["forget/value_accuracy"]["unlearned"] == ""
    assert rows["forget/value_accuracy"]["direction"] == "lower"
    assert rows["retain/value_accuracy"]["direction"] == "higher"
    assert (
        "unlearned: retain/value_accuracy of the unlearned model is not a number"
        in (rows["retain/value_accuracy"]["missing"])
    )


def test_closing_table_has_a_header_and_a_row_per_metric_that_a_model_has() -> None:
    table = tables.closing_table(RESULTS)
    assert table[0] == ["", "target", "unlearned", "retain"]
    assert table[1] == ["quality (log10 p) ↑", "-6.1", "0.0", "—"]
    assert table[2] == ["value said ↓", "1.000", "—", "—"]
    assert [row[0] for row in table[3:]] == ["retain value accuracy ↑"]


def test_ability_stands_after_model_utility_with_its_standard_error() -> None:
    places = {
        "forget_quality_log10": 10, "model_utility": 50, "ability/piqa/acc": 55, "ability/piqa/acc_stderr": 55,
    }  # fmt: skip
    names = tuple(places)
    results = Results(
        definitions=tuple(
            Definition(
                name=name, id="x.1", unit="share", direction="higher", text="It.",
                label=name.removeprefix("ability/").replace("/", " "), order=order, main=True,
            )
            for name, order in places.items()
        ),
        values={"target": dict.fromkeys(names, 0.5) | {"ability/piqa/acc_stderr": 0.0625}, "unlearned": {}},
        missing={"unlearned": {"ability/piqa/acc": "not measured: no questions"}},
    )  # fmt: skip
    assert tables.metric_names(results) == ["forget_quality_log10", "model_utility", "ability/piqa/acc"]
    assert tables.is_main(results, "ability/piqa/acc")
    assert tables.closing_table(results)[3] == ["piqa acc ↑", "0.500 ± 0.062", "—", "—"]
    assert "piqa acc" in tables.closing_reasons(results)[0]
    assert "| piqa acc | ↑ | share | 0.500 ± 0.062 |" in tables.markdown(results)
    rows = {row["metric"]: row for row in csv_format.DictReader(io.StringIO(tables.csv(results)))}
    assert rows["ability/piqa/acc_stderr"]["target"] == "0.0625"


def test_the_headlines_of_the_probe_close_a_run_that_has_one() -> None:
    name = "slim/leak_on"
    known = Definition(
        name=name, id="x.1", unit="share", direction="lower", text="It.", label="said", order=59, main=False
    )
    results = Results((known,), {"target": {name: 0.5}, "unlearned": {}}, {"unlearned": {name: "not measured: few"}})
    assert tables.closing_table(results)[1:] == [["said ↓", "0.500", "—", "—"]]
    assert tables.closing_reasons(results)[0].endswith(", said (few)")


def test_closing_reasons_group_missing_numbers() -> None:
    reasons = tables.closing_reasons(RESULTS)
    assert "not measured: value said (no value is marked)" in reasons
    assert (
        "not measured: retain value accuracy (retain/value_accuracy of the unlearned model is not a number)" in reasons
    )
    assert not any("log10" in reason for reason in reasons)


def test_definitions_are_found_by_name_before_last_part() -> None:
    own, shared = definition(RESULTS, "forget/value_accuracy"), definition(RESULTS, "world_facts/value_accuracy")
    assert own is not None
    assert shared is not None
    assert (own.direction, shared.direction) == ("lower", "higher")


def test_numbers_are_written_with_the_digits_they_deserve() -> None:
    assert format_value("forget_quality", 4.2e-7) == "4.2e-07"
    assert format_value("forget_quality", 0.136) == "0.14"
    assert format_value("forget_quality_rows", 64.0) == "64"
    assert format_value("forget_quality_log10", float("-inf")) == "-inf"
    assert format_value("model_utility", -0.0001) == "0.000"


def test_a_role_without_numbers_gives_its_reason_for_every_metric() -> None:
    assert number(RESULTS, "retain", "model_utility") is None
    assert why_missing(RESULTS, "retain", "model_utility") == "no retain model"
    assert why_missing(Results(definitions=(), values={}), "retain", "x") == "this run has no retain model"
    assert why_missing(RESULTS, "target", "memo/answers") == "memo answers was not measured for the target model"


def test_flat_keeps_empty_mappings() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": None}) == {"a.b": 1, "a.c": {}, "d": None}


def test_a_target_that_does_not_know_the_facts_is_doubted() -> None:
    def knowing(share: float, **retain: float) -> Results:
        target = {"facts_known": share, "forget/rouge_l_recall": 0.39}
        values = {"target": target, "retain": {f"forget/{name}": value for name, value in retain.items()}}
        return Results(definitions=(), values=values)

    assert (
        tables.unmeasured_reasons(knowing(0.8)) == tables.unmeasured_reasons(Results(definitions=(), values={})) == []
    )
    (doubt,) = tables.unmeasured_reasons(knowing(-0.03, rouge_l_recall=0.41))
    assert doubt.startswith(
        "the target model does not know the facts: compared with the retain model, which never saw them, it has "
        "learned -3% of what there is to learn (ROUGE-L recall of the true answers 0.39, retain model 0.41). There is "
        "nothing to unlearn, and the unlearned model's numbers mean nothing; "
    )
    assert tables.markdown(knowing(-0.03)).count("**the target model does not know the facts") == 1
    (doubt,) = tables.unmeasured_reasons(knowing(0.3))
    assert doubt.startswith(
        "the target model knows the facts in part: compared with an answer that repeats the question, it "
        "has learned 30% of what there is to learn (ROUGE-L recall of the true answers 0.39); "
    )


def test_a_set_that_does_not_exist_is_the_reason_for_its_numbers() -> None:
    results = Results(definitions=(), values={"unlearned": {"forget/rouge_l_recall": 0.5}})
    assert (
        "not measured: retain value accuracy, retain rouge l recall (there is no retain set)"
        in tables.closing_reasons(results)
    )


def test_rows_stand_in_the_order_of_their_definitions_and_main_ones_are_marked() -> None:
    assert tables.metric_names(RESULTS) == [
        "forget_quality_log10", "forget/value_accuracy", "retain/value_accuracy", "zeta",
    ]  # fmt: skip
    assert tables.is_main(RESULTS, "forget_quality_log10")
    assert not tables.is_main(RESULTS, "forget/value_accuracy")
    assert not tables.is_main(RESULTS, "zeta")


def attacked() -> Results:
    """A run with one attack, after which the retain model was not measured."""
    name = "forget/value_accuracy"
    defined = (Definition(name, "v.1", "share", "lower", "Says it.", "value said", 2, main=True),)
    plain = Results(defined, {"target": {name: 0.9}, "unlearned": {name: 0.1}, "retain": {name: 0.2}})
    after = Results(
        defined, {"target": {name: 1.0}, "unlearned": {name: 0.5}, "retain": {}}, {"retain": {name: "killed"}}
    )
    return with_conditions({"": plain, "relearn": after}, {"relearn": "after relearning"})


def test_after_an_attack_every_model_stands_before_and_after_it() -> None:
    ((title, rows),) = attack_tables(attacked())
    assert title == "After relearning"
    assert rows == [
        ["", "target", "unlearned", "retain", "recovered", "R", "Q"],
        ["value said ↓", "0.900 → 1.000", "0.100 → 0.500", "—", "0.50", "—", "0.33"],
    ]
    assert attack_tables(RESULTS) == []
    assert tables.closing_table(attacked())[1:] == [["value said ↓", "0.900", "0.100", "0.200"]]


def test_markdown_has_both_tables_of_an_attack_and_csv_a_column_per_subject() -> None:
    text = tables.markdown(attacked())
    before, after = text.split("## After relearning")
    assert "| value said | ↓ | share | 0.900 | 0.100 | 0.200 |" in before
    assert "| value said ↓ | 0.900 → 1.000 | 0.100 → 0.500 | — | 0.50 | — | 0.33 |" in after
    assert "| value said | ↓ | share | 1.000 | 0.500 | — [1] |" in after
    assert "[1] killed" in after
    rows = {row["metric"]: row for row in csv_format.DictReader(io.StringIO(tables.csv(attacked())))}
    assert rows["forget/value_accuracy"]["unlearned@relearn"] == "0.5"
    assert float(rows["recovered/forget/value_accuracy"]["unlearned@relearn"]) == 0.5
    assert "retain@relearn: killed" in rows["forget/value_accuracy"]["missing"]


def test_a_subject_after_an_attack_has_a_readable_name() -> None:
    assert subject_name(attacked(), "unlearned@relearn") == "unlearned model, after relearning"
    assert subject_name(attacked(), "retain") == "retain model"
    assert "target model, after relearning" in why_missing(attacked(), "target@relearn", "forget/zeta")


def test_what_asking_found_closes_the_terminals_table_and_stands_under_no_other_attack() -> None:
    named = {"extraction/sample/value_leak_at_4": "sampled: value leak@4", "extraction/sample/rest": "sampled: rest"}
    definitions = tuple(
        Definition(name, "e.1", "share", "lower", "T.", label, 58, main=label.endswith("@4"))
        for name, label in named.items()
    )
    values = {role: dict.fromkeys(named, 0.25) for role in ("target", "unlearned")}
    results = Results(definitions, {**values, "retain": {}}, {})
    assert tables.closing_table(results)[1:] == [["sampled: value leak@4 ↓", "0.250", "0.250", "—"]]
    assert [line.name for line in tables.lines(results, named)[0]] == [*named]
    assert tables.lines(results, named, "relearn") == ([], [])
