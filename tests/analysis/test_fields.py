"""The fields of a run: keys, their nearest neighbors, values as text and in order."""

from __future__ import annotations

import pytest
from support.event_streams import run

from convnn.analysis.fields import RUN_FIELDS, get_field, is_unknown, parse_duration, parse_fields, parse_size
from convnn.config.options import OPTIONS
from convnn.config.recorded import UNKNOWN
from convnn.errors import UserError
from convnn.metrics import known_metric_names


def test_every_flag_option_metric_and_fact_of_a_run_is_a_field():
    a = run("a", test_top1=(80.0, 82.0))
    keys = [*RUN_FIELDS, *known_metric_names(), *(f"best:{name}" for name in known_metric_names())]
    keys += [key for option in OPTIONS for key in (option.key, option.name)]
    for key in keys:
        field = get_field(key)
        assert field.key == key and isinstance(field.text(a), str)


def test_a_metric_is_that_of_the_last_or_of_the_best_epoch():
    a = run("a", test_top1=(80.0, 82.0))
    texts = [get_field(key).text(a) for key in ("test_top1", "last:test_top1", "best:test_top1", "best", "best_epoch")]
    assert texts == ["80.00", "80.00", "82.00", "82.00", "1"]
    assert get_field("test_loss").get(a) is UNKNOWN and get_field("test_loss").text(a) == ""


def test_a_metric_that_only_some_run_has_is_a_field_where_it_is_named():
    assert get_field("best:test_top3", ["test_top3"]).best
    with pytest.raises(UserError):
        get_field("best:test_top3")


def test_every_unknown_key_is_named_at_once_with_the_nearest_one():
    with pytest.raises(UserError) as refusal:
        parse_fields("layr, K, ratio, test_topp1")
    messages = [problem.message for problem in refusal.value.problems]
    assert [message.partition("Did you mean ")[2] for message in messages] == ["layer?", "branch_ratio?", "test_top1?"]
    assert [problem.key for problem in refusal.value.problems] == ["layr", "ratio", "test_topp1"]


def test_choices_sort_in_the_order_of_the_schema_and_unknown_values_last():
    status = get_field("status")
    assert sorted(["failed", "done", "running"], key=status.sort_key) == ["running", "done", "failed"]
    best = get_field("best")
    values = sorted([UNKNOWN, 2.0, float("nan"), 1.0], key=best.sort_key)
    assert values[:2] == [1.0, 2.0] and all(is_unknown(best.sort_key(value)) for value in values[2:])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("12h", 43200), ("30d", 2592000), ("2w", 1209600)]
)
def test_durations_are_parsed_by_their_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "xd", "nand", "infw"])
def test_a_text_that_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("300MB", 3e8), ("1.2 GB", 1.2e9), ("5000", 5000), ("2kB", 2000)])
def test_sizes_are_parsed_in_powers_of_1000(text, size):
    assert parse_size(text) == size
