"""The filter language: what it lets through, what it refuses and how, and what it completes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.event_streams import run

from convnn.analysis.completion import complete
from convnn.analysis.filters import DEEPEST, LONGEST, parse_filter
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
        ("has:K", "a"),  # ratio 0 leaves no neighbours, Conv2d has none
        ("has:kernel_size", "abc"),
        ("has:K,kernel_size", "abc"),
        ("has:test_top1 NOT has:K", "bc"),
        ("has:attention_dropout", ""),
        ("resize=none", "ab"),
        ("resize=64,none", "abc"),
        ("resize>32", "c"),
        ("tag=pub", "a"),
        ("K!=9", "bd"),  # what is not told is not 9 either
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
def test_it_lets_through(text, names):
    assert "".join(each.name[0] for each in parse_filter(text, RUNS).select(RUNS)) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layr=x", "column 1: there is nothing called layr. Did you mean layer?"),
        ("layer.Kay=9", "Did you mean layer.K?"),
        ("ratio=1", "Did you mean branch_ratio?"),
        ("K=9 test_topp1>3", "column 5: there is nothing called test_topp1. Did you mean test_top1?"),
        ("layer=Branchng", "column 7: layer is never Branchng. Did you mean Branching?"),
        ("status=don", "status is never don. Did you mean done?"),
        ("K=abc", "column 3: K is never abc"),
        ("K>=", "column 4: a value is missing after K>="),
        ("K=9,", "column 5: a value is missing"),
        ("(K=9", "the parenthesis of column 1 is left open"),
        ("K=9)", "')' is too much"),
        ("layer", "layer needs a comparison"),
        ("layer>3", "layer has no order"),
        ("K>1,2", "takes one value"),
        ("resize>none", "can be none"),
        ("age>30", "age is never 30"),
        ("augment=maybe", "augment is never maybe"),
        ("started>yesterday", "column 9: started is never yesterday"),
        ("K=9 && K=12", "column 5: '&&' means nothing here"),
        ("has:", "has: needs a key"),
        ("NOT", "a condition is missing"),
        ("K=9 OR", "a condition is missing"),
        ('name="a', "left open"),
        ("has:layr", "Did you mean layer?"),
        ("(" * 200 + "K=9" + ")" * 200, f"more than {DEEPEST} deep"),
        ("NOT " * 200 + "K=9", f"more than {DEEPEST} deep"),
        ("K=9 " * LONGEST, "characters"),
        ("\x1b[31m=2", r"\x1b"),
    ],
)
def test_it_refuses_with_the_place_and_the_nearest_word(text, words):
    with pytest.raises(UserError) as refused:
        parse_filter(text, RUNS)
    assert words in str(refused.value) and "\x1b" not in str(refused.value)


def test_a_value_that_only_an_imported_run_has_can_be_asked_for():
    odd = run("x", layer="ConvNN_Spatial")
    assert parse_filter("layer=ConvNN_Spatial", [odd, A]).select([odd, A]) == [odd]


@given(st.text(alphabet="K=<>!~()\"' ,:9aORNT|has", max_size=30))
def test_any_text_is_a_filter_or_is_refused_in_words(text):
    try:
        parse_filter(text, RUNS).select(RUNS)
    except UserError as refused:
        assert str(refused)


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
        ("nothing=", []),
    ],
)
def test_it_completes_keys_and_values_seen(text, first):
    found = complete(text, RUNS)
    assert found[: len(first)] == first and (first or not found)


def test_what_it_completes_can_be_parsed():
    for key in complete("", RUNS, most=500):
        for whole in complete(key, RUNS):
            parse_filter(whole, RUNS)
    assert [parse_filter(text, RUNS).select(RUNS) for text in complete("name=", RUNS)] == [[each] for each in RUNS]
