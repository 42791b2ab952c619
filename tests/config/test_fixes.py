"""A fix in the language of the place where the value stands."""

from __future__ import annotations

import tomllib

import pytest

from convnn.config.fixes import form_fix, in_file
from convnn.config.options import OPTIONS
from convnn.errors import Problem

FIXES = [
    ("use --lr 0.001", "write lr = 0.001 in [optimizer]", "use lr 0.001"),
    (
        "use --num_samples -1, or --sampling_type random or spatial",
        'write num_samples = -1 in [sampling], or type = "random" in [sampling] or spatial',
        "use num_samples -1, or sampling_type random or spatial",
    ),
    ("use --no_use_amp", "write amp = false in [runtime]", "use use_amp false"),
    (
        "use a smaller --limit or --resize",
        "use a smaller limit in [data] or resize in [data]",
        "use a smaller limit or resize",
    ),
    ("use --limit none", 'write limit = "none" in [data]', "use limit none"),
    ("`convnn resume RUN --fork` continues it", "`convnn resume RUN --fork` continues it", None),
]


@pytest.mark.parametrize(("fix", "toml", "form"), FIXES, ids=[row[0] for row in FIXES])
def test_a_fix_is_said_in_the_words_of_its_place(fix, toml, form):
    problem = Problem("wrong", fix=fix)
    assert in_file(problem, "a.toml").fix == toml
    assert form_fix(problem) == (form or fix)
    assert in_file(problem, None) is problem and form_fix(in_file(problem, "a.toml")) == toml


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_the_fix_of_every_option_can_be_copied_into_a_file(option):
    fix = in_file(option.problem(object()), "a.toml").fix
    if option.kind == "words":
        return  # nothing is the default, which takes no line
    assignment, section = fix.removeprefix("write ").split(" in [")
    value = tomllib.loads(f"[{section}\n{assignment}")[option.section][option.field]
    assert option.validate(value) == option.default
