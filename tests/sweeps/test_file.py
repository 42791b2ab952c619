"""Sweep files: what they hold, and an error with the key and the fix for everything that is wrong in one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from convnn.errors import UserError
from convnn.sweeps.file import KEYS, find_sweep, parse_sweep, read_sweep, shipped_sweeps
from convnn.sweeps.plan import plan_sweep


def problems(text):
    with pytest.raises(UserError) as caught:
        parse_sweep(text, "mine")
    return caught.value.problems


def labels(text, name="K"):
    """The labels of an axis."""
    (axis,) = [axis for axis in parse_sweep(f"[axes]\n{text}", "mine").axes if axis.name == name]
    return [point.label for point in axis.points]


def test_a_file_is_read():
    sweep = parse_sweep(
        """
        about = "a question"
        base = "quickstart"
        name = "K{K}-{dataset}"
        seeds = 3
        same = "train"
        [set]
        training.num_epochs = 5
        lr = 0.1
        [axes]
        K = [1, 9]
        features = [{ label = "a", layer.similarity_type = "Col" }, { layer.similarity_type = "Loc" }]
        N = { from = 2, to = 6, step = 2 }
        [[derive]]
        when = "K<5"
        set = { layer.padding = 0, sampling.num_samples = "= N ** 2", sampling.type = "random" }
        [[skip]]
        when = "N=4 features=Loc"
        """,
        "mine",
    )
    assert sweep.base.name == "quickstart" and sweep.seeds == [0, 1, 2] and sweep.trains_same
    assert sweep.values == {"training.num_epochs": 5, "optimizer.lr": 0.1}
    assert [(axis.name, [point.label for point in axis.points]) for axis in sweep.axes] == [
        ("K", ["1", "9"]),
        ("features", ["a", "Loc"]),
        ("N", ["2", "4", "6"]),
    ]
    assert sweep.variables == {"features", "N"} and len(sweep.derivations) == len(sweep.skips) == 1


@pytest.mark.parametrize("name", ["branch_ratio", "k", "lr", "n", "shuffle"])
def test_the_published_sweeps_ship(name):
    sweep = read_sweep(shipped_sweeps()[name])
    assert sweep.base.name == "published-branching" and sweep.template


def test_the_documented_file_is_valid():
    page = Path(__file__).parents[2] / "docs" / "sweeps.md"
    grid, search, *_ = sorted(
        re.findall(r"^```toml\n(.*?)^```", page.read_text(), flags=re.S | re.M), key=lambda text: "[search]" in text
    )
    assert plan_sweep(parse_sweep(search)).sweep.search.trials == 40
    plan = plan_sweep(parse_sweep(grid))
    assert len(plan.to_train) == len(plan.cells) == (2 * 3 - 1) * 3 * 2 * (2 * 3 + 2) * 3


@pytest.mark.parametrize("name", ["k", "quickstart"])
def test_a_sweep_is_found_by_name(name):
    assert find_sweep(name).name == name and plan_sweep(find_sweep(name)).cells


def test_an_unknown_sweep_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean quickstart"):
        find_sweep("quickstrt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K = { from = 1, to = 4 }", ["1", "2", "3", "4"]),
        ("K = { from = 9, to = 1, step = -4 }", ["9", "5", "1"]),
        ("K = { from = 1, to = 9, steps = 3 }", ["1", "5", "9"]),
        ("lr = { from = 1e-5, to = 1e-3, steps = 3, log = true }", ["1e-05", "0.0001", "0.001"]),
        ("branch_ratio = { from = 0, to = 0.3, step = 0.1 }", ["0", "0.1", "0.2", "0.3"]),
        ("augment = [true, false]", ["true", "false"]),
        ('resize = ["none", 64]', ["none", "64"]),
        ('layer = ["ConvNN", "Conv2d"]', ["ConvNN", "Conv2d"]),
        ("layer.K = [1.0, 2]", ["1", "2"]),
    ],
)
def test_axes_are_lists_and_ranges_with_both_ends(text, expected):
    assert labels(text, text.split(" ")[0].removeprefix("layer.")) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axes]\nK = 9", "K is one value"),
        ("[axes]\nK = []", "empty"),
        ("[axes]\nK = [1, 1]", "K has 1 twice"),
        ("[axes]\nK = [0]", "layer.K is 0: must be"),
        ('[axes]\nK = ["= N"]', "arithmetic is only possible"),
        ("[axes]\nK = { from = 1, to = 2, step = 0 }", "never reaches"),
        ("[axes]\nK = { from = 1, to = 9, step = -1 }", "never reaches"),
        ("[axes]\nbranch_ratio = { from = 0, to = 1, step = 0.3 }", "do not end at 1"),
        ("[axes]\nK = { from = 1, to = 1e9 }", "at most 100,000"),
        ("[axes]\nK = { from = 1, to = 2, steps = 1e9 }", "at most 100,000"),
        ("[axes]\nK = { from = 1, to = 2, stepp = 1 }", "Did you mean step"),
        ("[axes]\nK = { from = 1 }", "from, to"),
        ("[axes]\nlr = { from = 0, to = 1, steps = 3, log = true }", "above 0"),
        ("[axes]\nlr = { from = nan, to = 1 }", "must be a number"),
        ("[axes]\nbrnch_ratio = [0, 1]", "Did you mean branch_ratio"),
        ("[axes]\nlayer.KK = [0, 1]", "no option layer.KK"),
        ("[axes]\nlyer.K = [0, 1]", "Did you mean layer"),
        ("[axes]\ntraining.seed = [1, 2]", "seeds are no axis"),
        ("[axes]\nK = [1, 2]\nlayer.K = [3]", "varied twice"),
        ('[axes]\nK = [1]\nf = [{ label = "a", layer.K = 2 }]', "layer.K is varied twice"),
        ('[axes]\nf = [{ label = "a", layer.K = 2 }, { label = "a", layer.K = 3 }]', "twice"),
        ('[axes]\nf = [{ label = "a" }]', "sets no option"),
        ('[axes]\nK = [{ label = "a", layer.K = 2 }]', "K is an option"),
        ("[set]\nK = 9\n[axes]\nK = [1, 2]", "both set and varied"),
        ("[axes]\nK = [1]\n[[block]]\nset = { K = 2 }", "both set and varied"),
        ("[set]\nK = 9\nlayer.K = 8", "set twice"),
        ("[set]\nseed = 9", "set by seeds"),
        ("[set]\noutput.dir = 'x'", "belongs to one run"),
        ("[set]\nrun.name = 'x'", "template of the names"),
        ("[set]\nlr = 'fast'", "optimizer.lr is 'fast'"),
        ("K = [1]", "does not stand at the top"),
        ("layer = 3", "does not stand at the top"),
        ("axis = 3", "Did you mean axes"),
        ("seeds = 0", "from 1 to"),
        ("seeds = [1, 1]", "twice"),
        ("seeds = [1e3]", "must be whole numbers"),
        ("[axes]\nK = [1, 1e300]", r"layer.K is 1e\+300: .* 9$"),
        ("seeds = [-1]", "training.seed is -1"),
        ("same = 'trian'", "Did you mean train"),
        ("base = 'publishd-branching'", "Did you mean published-branching"),
        ("name = 'a{KK}'", "no option or variable KK"),
        ("name = 'a/b'", "cannot be the name"),
        ("name = '{K.__class__}'", "no option or variable"),
        ("[[derive]]\nwhen = 'K<5'", "sets nothing"),
        ("[[derive]]\nwhen = 'KK<5'\nset = { K = 1 }", "a cell has no KK"),
        ("[[derive]]\nwhen = 'status=done'\nset = { K = 1 }", "a cell has no status"),
        ("[[derive]]\nwhen = 'best>3'\nset = { K = 1 }", "a cell has no best"),
        ("[[derive]]\nwhen = 'K'\nset = { K = 1 }", "needs an operator"),
        ("[[derive]]\nwhen = 3\nset = { K = 1 }", "text of a condition"),
        ("[[derive]]\nset = { K = '= M * 2' }", "no option or variable M"),
        ("[[derive]]\nset = { K = '= lr.__class__' }", "no option or variable lr.__class__"),
        ("[[derive]]\nset = { K = '= lr +' }", "expected a number"),
        ("[[derive]]\nset = { K = '= dataset' }", "dataset is no number"),
        ("[[derive]]\nset = { dataset = '= 1' }", "no arithmetic gives it"),
        ("[derive]\nset = { K = 1 }", r"\[\[derive\]\]"),
        ("[[block]]\nid = 'a'\n[[block]]\nid = 'a'", "two blocks"),
        ("[[block]]\nskip = 'a'", "no key block 1.skip"),
        ("about = 3", "one line of text"),
        ("x = [", "line 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_a_fix(text, words):
    reported = problems(text)
    assert any(re.search(words, f"{problem.message} {problem.fix}") for problem in reported)
    assert all(problem.fix and problem.file == "mine" for problem in reported)


def test_fixes_are_written_as_keys_of_the_file():
    (problem,) = problems("[axes]\nK = [0]")
    assert problem.fix == "write layer.K = 1"


def test_everything_that_is_wrong_is_reported_at_once():
    text = (
        "seeds = 0\n[set]\nlr = -1\n[axes]\nK = [0, 1, 0.5]\nM = [1]\n[[derive]]\nwhen = 'x=1'\nset = { padding = -1 }"
    )
    assert len(problems(text)) >= 7


def test_a_base_lies_beside_its_sweep(tmp_path):
    (tmp_path / "base.toml").write_text("[layer]\nK = 4\n")
    (tmp_path / "s.toml").write_text('base = "base.toml"\n[axes]\nlr = [0.1, 0.2]\n')
    assert read_sweep(tmp_path / "s.toml").base.values == {"layer.K": 4}
    (tmp_path / "base.toml").write_text("[layer]\nK = 0\n")
    with pytest.raises(UserError, match=r"base\.toml: layer\.K is 0"):
        read_sweep(tmp_path / "s.toml")


def test_only_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "s.toml")
    with pytest.raises(UserError):
        read_sweep(tmp_path / "s.toml")


NAMES = st.sampled_from(
    ["K", "layer.K", "lr", "N", "dataset", "layer", "training", "from", "to", "steps", "label", "x"]
)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-5, 20),
    st.floats(),
    st.sampled_from(["= K ** 2", "= N", "K<5", "cifar10", "ConvNN", "none", "{K}", "\x1b[31m"]),
    st.text(max_size=5),
)
TABLES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), TABLES, max_size=5), st.dictionaries(NAMES, TABLES, max_size=3))
def test_any_file_is_a_sweep_or_an_error(tables, axes):
    text = tomli_w.dumps({**tables, "axes": axes})
    try:
        plan_sweep(parse_sweep(text))
    except UserError as error:
        assert all(problem.message for problem in error.problems)


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("KN<>=!~,() OR'\"5", max_size=40))
def test_any_condition_is_a_condition_or_an_error(when):
    text = tomli_w.dumps({"axes": {"K": [1, 9]}, "derive": [{"when": when, "set": {"layer": {"padding": 0}}}]})
    try:
        plan = plan_sweep(parse_sweep(text))
    except UserError as error:
        assert all("derive 1.when" in problem.message for problem in error.problems)
    else:
        assert len(plan.cells) == 2
