"""The filter language: what a filter selects, how a text is refused, and what is completed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.event_streams import run

from convnn.analysis.completion import complete
from convnn.analysis.filters import MAX_DEPTH, MAX_LENGTH, parse_filter
from convnn.errors import UserError

A = run("a-br0500", layer="Branching", K=9, branch_ratio=0.5, lr=1e-4, test_top1=(80.0, 82.0), tags=["pub"])
B = run("b-br0000", layer="Branching", K=12, branch_ratio=0.0, lr=1e-3, test_top1=(70.0, 71.0), status="failed")
C = run('c (odd) "name"', layer="Conv2d", K=9, resize=64, test_top1=(60.0, 60.0), status="running")
D = run("d-csv", layer=None)
RUNS = [A, B, C, D]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "abcd"),
        ("layer=Branching", "ab"),
        ("layer=Branching K>=10", "b"),
        ("layer = Branching   AND K >= 10", "b"),
        ("K=9", "ac"),
        ("layer.K=9,12", "abc"),
        ("branching.ratio=0.50", "ac"),
        ("lr=1e-4", "a"),
        ("lr<0.001", "a"),
        ("best>80", "a"),
        ("test_top1>80", ""),  # at the last epoch
        ("best:test_top1>80", "a"),
        ("last:test_top1>=80", "a"),
        ("status=done,failed", "abd"),
        ("status!=done", "bc"),
        ("NOT status=done", "bc"),
        ("name~br05", "a"),
        ("name~BR05,csv", "ad"),
        ("name!~br0", "cd"),
        ("name='c (odd) \"name\"'", "c"),
        ("name='c (odd) \"name\"' OR K=12", "bc"),
        ("br0", "ab"),
        ("has:K", "a"),  # ratio 0 leaves no neighbors, Conv2d has none
        ("has:kernel_size", "abc"),
        ("has:K,kernel_size", "abc"),
        ("has:test_top1 NOT has:K", "bc"),
        ("has:attention_dropout", ""),
        ("resize=none", "ab"),
        ("resize=64,none", "abc"),
        ("resize>32", "c"),
        ("tag=pub", "a"),
        ("K!=9", "bd"),  # an unknown value is not 9 either
        ("NOT (K=9 OR status=done)", "b"),
        ("K=9 OR K=12 layer=Conv2d", "ac"),
        ("augment=off", "abc"),
        ("epoch>=2", "abc"),
        ("age>1d", "abcd"),
        ("started>=2026-11-01 started<2026-12", "abcd"),
        ("started=2026-11", "abcd"),
        ("started>2026-11", ""),  # as exact as it is typed
        ("best==82.00", "a"),  # as it is shown
        ("best!=82.00", "bcd"),
        ("K=9 and not layer=Conv2d or K=12", "ab"),
        ("name~or", ""),
    ],
)
def test_a_filter_selects(text, names):
    assert "".join(run.name[0] for run in parse_filter(text, RUNS).select(RUNS)) == names


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("layr=x", 1, "Did you mean layer?"),
        ("layer.Kay=9", 1, "Did you mean layer.K?"),
        ("ratio=1", 1, "Did you mean branch_ratio?"),
        ("K=9 test_topp1>3", 5, "unknown field test_topp1. Did you mean test_top1?"),
        ("layer=Branchng", 7, "layer cannot be Branchng. Did you mean Branching?"),
        ("status=don", 8, "Did you mean done?"),
        ("K=abc", 3, "K cannot be abc"),
        ("K>=", 4, "expected a value after K>="),
        ("K=9,", 5, "expected a value after K="),
        ("(K=9", 5, "the parenthesis at column 1 is not closed"),
        ("K=9)", 4, "unexpected ')'"),
        ("layer", 1, "needs an operator"),
        ("layer>3", 6, "has no order"),
        ("K>1,2", 5, "takes one value"),
        ("resize>none", 8, "none has no order"),
        ("age>30", 5, "age cannot be 30"),
        ("augment=maybe", 9, "augment cannot be maybe"),
        ("started>yesterday", 9, "started cannot be yesterday"),
        ("K=9 && K=12", 5, "unexpected '&&'"),
        ("has:", 1, "has: needs a key"),
        ("has:K,", 7, "expected a value after has:"),
        ("NOT", 4, "expected a condition at the end"),
        ("K=9 OR", 7, "expected a condition at the end"),
        ("K=9 AND OR", 9, "expected a condition before 'OR'"),
        ('name="a', 6, "the quote is not closed"),
        ("K=9 !", 5, "unexpected '!'"),
        ("has:layr", 1, "Did you mean layer?"),
        ("(" * 200 + "K=9" + ")" * 200, MAX_DEPTH, f"more than {MAX_DEPTH} deep"),
        ("NOT " * 200 + "K=9", 4 * MAX_DEPTH - 3, f"more than {MAX_DEPTH} deep"),
    ],
)
def test_a_text_that_is_no_filter_is_refused_with_its_column_and_a_fix(text, column, message):
    with pytest.raises(UserError) as refusal:
        parse_filter(text, RUNS)
    (problem,) = refusal.value.problems
    assert problem.message.startswith(f"filter, column {column}: ") and message in problem.message
    assert problem.key == "filter" and problem.value == text and problem.fix


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(UserError, match=str(MAX_LENGTH)):
        parse_filter("K=9 " * MAX_LENGTH, RUNS)


def test_a_value_that_only_an_imported_run_has_can_be_asked_for():
    imported = run("x", layer="ConvNN_Spatial")
    assert parse_filter("layer=ConvNN_Spatial", [imported, A]).select([imported, A]) == [imported]


@given(st.text(alphabet="K=<>!~()\"' ,:9aORNT|has", max_size=30))
def test_any_text_is_a_filter_or_is_refused_with_a_user_error(text):
    try:
        parse_filter(text, RUNS).select(RUNS)
    except UserError as refusal:
        assert str(refusal)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("sta", ["status=", "started="]),
        ("K=9 branch_", ["K=9 branch_ratio="]),
        ("(layer=Br", ["(layer=Branching", "(layer=Branching_Attn"]),
        ("K=", ["K=9", "K=12"]),  # the most frequent first
        ("status=done,f", ["status=done,failed"]),
        ("has:attention", ["has:attention_dropout"]),
        ("tag=", ["tag=pub"]),
        ("best:test_l", ["best:test_loss="]),
        ("name=c", ["name='c (odd) \"name\"'"]),
        ("nothing=", []),
    ],
)
def test_keys_and_values_of_runs_are_completed(text, first):
    completions = complete(text, RUNS)
    assert completions[: len(first)] == first and (first or not completions)


def test_every_completion_can_be_parsed():
    for key in complete("", RUNS, limit=500):
        for completion in complete(key, RUNS):
            parse_filter(completion, RUNS)
    assert [parse_filter(text, RUNS).select(RUNS) for text in complete("name=", RUNS)] == [[run] for run in RUNS]


def test_has_tag_matches_the_runs_with_tags():
    runs = [run("a", tags=["x"]), run("b")]
    assert [match.name for match in parse_filter("has:tag", runs).select(runs)] == ["a"]
    assert [match.name for match in parse_filter("NOT has:tag", runs).select(runs)] == ["b"]
