from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hydra import cell, keys, moved, named, options, with_values

from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph

LOOP = ("method=meow_loop",)
ENDPOINT = ("inversion=endpoint", "inversion.base_url=http://localhost:8000/v1", "inversion.model=m")


def stages(*words: str) -> list[tuple[str, str]]:
    return [(each.stage, each.label) for each in cell(*LOOP, *words).goal("report")]


def test_every_round_is_planned_beforehand():
    made = stages()
    for number in (1, 2, 3):
        for stage in ("propose", "filter", "unlearn", "predict"):
            assert made.count((stage, f"round {number}")) == 1
        assert made.count(("score", f"target candidates round {number}")) == 1
        assert made.count(("score", f"round {number} memorization")) == 1
    assert made.count(("propose", "round 4")) == made.count(("unlearn", "unlearned")) == 1
    assert ("predict", "round 4") not in made  # nobody is asked after the last round
    assert not [label for _, label in made if "round 5" in label]
    assert len(made) == len(set(made))


def test_a_round_starts_from_the_target_model_and_knows_the_round_before():
    made = named(cell(*LOOP))
    for number in (2, 3, 4):
        ask, unlearn = made[f"round/{number}/propose"], made[f"round/{number}/unlearn"]
        assert unlearn.needs["start"].key == made["target"].key
        assert unlearn.needs["previous"].key == made[f"round/{number - 1}/unlearn"].key
        assert ask.needs["previous_filtered"].key == made[f"round/{number - 1}/filter"].key
        assert ask.needs["proposed"].key == made[f"round/{number - 1}/propose"].key
        assert ask.needs["scores"].key == made[f"round/{number - 1}/score"].key
        assert list(ask.needs["predictions"].settings["sets"]) == ["forget"]
        assert made[f"round/{number}/score"].needs["previous"].key == ask.needs["scores"].key
    assert made["unlearned"].key == made["round/4/unlearn"].key
    assert made["filtered"].key == made["round/4/filter"].key


def test_remaining_memorization_is_measured_by_words_and_the_numbers_follow_memo():
    made = named(cell(*LOOP))
    held, answers = made["round/1/score"].settings["memo"], made["score/unlearned/answers"].settings["memo"]
    assert (held["cut_unit"], held["stride"], answers["cut_unit"], answers["stride"]) == ("words", 1, "characters", 5)
    assert held.keys() == answers.keys()
    assert cell(*LOOP, "method.rounds.cut_unit=null").rounds[0].scores.settings["memo"] == answers


def test_later_rounds_pick_as_the_loop_says():
    made = named(cell(*LOOP, "method.select.k=2", "method.rounds.k=1"))
    assert made["round/1/unlearn"].settings["select"]["k"] == 2
    assert [made[f"round/{number}/unlearn"].settings["select"]["k"] for number in (2, 3, 4)] == [1, 1, 1]


def test_fewer_rounds_share_what_more_rounds_made():
    four, two = keys(cell(*LOOP)), keys(cell(*LOOP, "method.rounds.count=2"))
    for name in ("round/1/propose", "round/1/filter", "round/1/unlearn", "round/2/propose", "round/2/unlearn"):
        assert four[name] == two[name]


def test_a_single_round_is_meow():
    loop = cell(*LOOP, "method.rounds.count=1", "method.rounds.candidates=null", "method.select.k=3")
    assert loop.models.unlearned.settings == cell().models.unlearned.settings


def test_a_threshold_changes_who_is_requested_again_and_nothing_before():
    changed = moved("method.rounds.memorized_above=0.5", start=LOOP)
    assert {"round/1/propose", "round/1/filter", "round/1/unlearn", "round/1/score", "target"} & changed == set()
    assert {"round/2/propose", "round/2/filter", "round/2/unlearn", "unlearned"} <= changed


@pytest.mark.parametrize(
    "word",
    [
        "inversion.base_url=http://localhost:9000/v1", "inversion.concurrency=2", "inversion.requests_per_minute=9",
        "inversion.timeout=3", "inversion.retries=0", "inversion.max_requests=7", "inversion.max_total_tokens=8",
        "inversion.key_env=OTHER",
    ],
)  # fmt: skip
def test_where_and_how_fast_a_server_answers_is_in_no_key(word: str):
    assert moved(word, start=ENDPOINT) == set()


@pytest.mark.parametrize(
    "word",
    [
        "inversion.model=n", "inversion.temperature=0.5", "inversion.top_p=0.5", "inversion.max_new_tokens=9",
        "inversion.candidates=5", "inversion.context=Writers.", "inversion.seed=7", "inversion.max_retries_per_fact=1",
        "inversion.prompt.version=2", "inversion.extra={reasoning_effort: low}",
        "inversion.prompt.model_answer='{model_answer}!'",
    ],
)  # fmt: skip
def test_request_settings_of_a_server_are_in_the_key(word: str):
    assert {"proposed", "filtered", "unlearned"} <= moved(word, start=ENDPOINT)


def test_accepting_too_few_sends_no_further_request():
    assert moved("inversion.on_shortage=warn", start=ENDPOINT) == {"report"}
    filled = moved("inversion.on_shortage=rules", start=ENDPOINT)
    assert "filtered" in filled
    assert "proposed" not in filled
    assert "proposed" not in moved("method.select.k=2", start=ENDPOINT)
    assert "proposed" not in moved("method.select.k=2", start=(*ENDPOINT, "inversion.on_shortage=rules"))


def test_a_goal_of_a_loop_is_its_first_round_or_its_last_model():
    made = cell(*LOOP)
    assert [(each.stage, each.label) for each in made.goal("filter")] == [("propose", "round 1"), ("filter", "round 1")]
    assert made.goal("unlearn")[-1].key == made.models.unlearned.key


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("method.rounds.memorized_above=1",),
            r"^method.rounds.memorized_above=1 is invalid: expected a number of at least 0 and below 1$",
        ),
        (("method.rounds.count=0",), r"^method.rounds.count=0 is invalid: expected a number from 1 to "),
        (("method.rounds.max_requests=0",), r"^method.rounds.max_requests=0 is invalid: expected a number from 1 to "),
        (
            ("method.rounds.max_requests=7",),
            r"^method.rounds.max_requests=7 is invalid: expected at least 8, one request per fact. Did you mean 8\?$",
        ),
        (
            ("method.rounds.k=3",),
            r"^method.rounds.k=3 is invalid: expected at most the number of candidates .*=2. Did you mean 2",
        ),
        (("method.select.k=3",), r"^method.select.k=3 is invalid: .*, method.rounds.candidates=2. Did you mean 2"),
        (
            ("memo=ma",),
            r"^method.rounds.cut_unit=words is invalid: expected null, since memo=ma counts in tokens. Did you",
        ),
        (("method.rounds.requery=some",), r"^method.rounds.requery=some is invalid: expected one of memorized, all$"),
        (
            ("method.rounds.memorized_above={phi15: .5}",),
            r"^method.rounds.memorized_above has no entry for tiny and no default \(entries: phi15\); set method",
        ),
        (
            ("inversion.on_shortage=maybe",),
            r"^inversion.on_shortage=maybe is invalid: expected one of error, few, warn, rules$",
        ),
        (("method.select.rows=official",), r"^method.select.rows=official trains at most four rows per fact, so the"),
        (
            ("method.rounds.memorized_above.tiny=abc",),
            r"^method.rounds.memorized_above.tiny=abc is invalid: expected a number$",
        ),
        (
            ("method.rounds.memorized_above=null",),
            r"^method.rounds.memorized_above=None is invalid: expected a number or a mapping by model$",
        ),
        (
            ("inversion.max_retries_per_fact=-1",),
            r"^inversion.max_retries_per_fact=-1 is invalid: expected a number from 0 to ",
        ),
    ],
)
def test_a_loop_that_cannot_be_is_reported(words: tuple[str, ...], text: str):
    with pytest.raises(UserError, match=text):
        if words == ("method.rounds.memorized_above={phi15: .5}",):
            graph(with_values(options(*LOOP), {"method.rounds.memorized_above": {"phi15": 0.5}}))
        cell(*LOOP, *words)


def test_a_loop_is_for_methods_that_train_inverted_facts():
    rounds = options(*LOOP).plain()["method"]["rounds"]
    given = with_values(options("method=grad_ascent"), {"method.rounds": rounds})
    with pytest.raises(
        UserError, match=r"^method.rounds needs inverted facts, but method=grad_ascent trains on none; leave it out$"
    ):
        graph(given)


def test_answers_that_the_loop_cannot_cut_are_reported_before_any_work(tmp_path: Path):
    path = tmp_path / "facts.jsonl"
    facts = [{"question": f"Who wrote book {i}?", "answer": "Anastasia"} for i in range(3)]
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    own = {
        "name": "jsonl", "_target_": "meow_lightning.data.jsonl.Jsonl", "forget": str(path), "retain": None,
        "real_world": True, "perturb": 2, "retain_eval": 9, "seed": 0,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"^MEMO cuts no window from the answer of fact .*words"):
        graph(with_values(options(*LOOP), {"dataset": own}))
    graph(with_values(options(*LOOP, "method.rounds.cut_unit=null"), {"dataset": own}))


def test_a_budget_that_cannot_bind_in_the_first_round_is_not_in_its_key():
    base, wide = keys(cell(*LOOP)), keys(cell(*LOOP, "method.rounds.max_requests=1000"))
    assert base["round/1/unlearn"] == wide["round/1/unlearn"]
    assert base["round/2/propose"] != wide["round/2/propose"]
    again = (*LOOP, "inversion.max_retries_per_fact=1")  # up to 16 questions about 8 facts
    assert (
        keys(cell(*again, "method.rounds.max_requests=15"))["round/1/propose"] != keys(cell(*again))["round/1/propose"]
    )
    assert (
        keys(cell(*again, "method.rounds.max_requests=16"))["round/1/propose"] == keys(cell(*again))["round/1/propose"]
    )
    # what is wanted of each fact is the loop's number, whatever the writer's own is
    assert base["round/1/propose"] == keys(cell(*LOOP, "inversion.candidates=5"))["round/1/propose"]


def test_every_score_that_a_loop_decides_by_is_verified():
    made = named(cell(*LOOP, "memo.verify=3"))
    assert {f"round/{number}/verify" for number in (1, 2, 3, 4)} <= set(made)
    assert made["round/2/verify"].needs["scores"].key == made["round/2/score"].key


def test_a_file_cannot_be_requested_again(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"question": "Who?", "answers": ["Ada."]}\n')
    with pytest.raises(
        UserError, match=r"^method=meow_loop requests further inverted facts .*, but inversion=file cannot"
    ):
        cell(*LOOP, "inversion=file", f"inversion.path={path}")


def test_a_baseline_scores_the_candidates_once_more_and_none_changes_no_key():
    plain, base = cell("method=meow"), cell("method=meow", "method.select.baseline=base")
    assert "baseline" not in plain.models.unlearned.settings["select"]
    assert base.rounds[0].baseline_scores is not None
    assert base.rounds[0].baseline_scores.needs["model"] == base.models.base
    assert base.models.unlearned.needs["baseline_scores"] == base.rounds[0].baseline_scores
    assert base.rounds[0].candidate_scores.key == plain.rounds[0].candidate_scores.key
    assert cell("method.select.baseline=retain").rounds[0].baseline_scores.needs["model"] == base.models.retain
