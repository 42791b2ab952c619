"""Notes and tags of runs that exist: kept in the history, known to lists and filters, outside of what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import runs

from convnn.analysis.filters import parse_filter
from convnn.errors import UserError
from convnn.events import Finished, Started
from convnn.runs.annotate import add_note, change_tags
from convnn.runs.event_log import parse_event
from convnn.runs.summary import summarize
from convnn.runs.summary_cache import summaries


@pytest.fixture
def run(tmp_path: Path):
    return runs.new(tmp_path, Started(), runs.epoch(1, 50.0), Finished(outcome="done"))


def test_tags_are_added_and_removed_and_found_by_a_filter(run, tmp_path):
    assert change_tags(run, add=["baseline", "draft", "baseline"]) == ("baseline", "draft")
    assert change_tags(run, remove=["draft"]) == ("baseline",)
    for _ in range(2):  # from the files, then from the cache
        (summary,), _ = summaries(tmp_path)
        assert summary.json()["tags"] == ["baseline"]
        assert parse_filter("tag=baseline", [summary]).select([summary]) == [summary]
        assert parse_filter("tag=draft", [summary]).select([summary]) == []


def test_tags_of_the_configuration_count_and_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "CONFIG", runs.CONFIG + '\n[run]\ntags = ["first"]\n')
    run = runs.new(tmp_path, Started())
    assert change_tags(run, add=["second"]) == ("first", "second")
    assert change_tags(run, remove=["first"]) == ("second",)
    assert parse_filter("tag=first", []).select([summarize(run)]) == []


@pytest.mark.parametrize(("change", "value"), [({"remove": ["none"]}, "none"), ({"add": [" "]}, None)])
def test_an_unknown_or_empty_tag_is_refused_and_nothing_is_written(run, change, value):
    before = run.events_path.read_bytes()
    with pytest.raises(UserError) as error:
        change_tags(run, **change)
    assert error.value.problems[0].value == value
    assert run.events_path.read_bytes() == before


def test_notes_stand_in_the_summary_and_change_neither_digest_nor_time(run, tmp_path):
    before = run.history()
    add_note(run, "looks\npromising")
    change_tags(run, add=["good"])
    after = run.history()
    assert after.digest() == before.digest()
    assert after.elapsed == before.elapsed
    (summary,), _ = summaries(tmp_path)
    assert summary.json()["notes"] == ["looks promising"]
    assert parse_filter("note~promising", [summary]).select([summary]) == [summary]
    assert summary.status == "done"


def test_a_note_of_an_earlier_version_is_one(run):
    line = '{"event": "Changed", "time": "2026-11-22T15:15:00.000Z", "what": "old note", "by": "somebody"}'
    history = run.history().fold([parse_event(line)])
    assert [note.text for note in history.notes] == ["old note"]


@pytest.mark.parametrize("tag", ["a b", "a,b", "\x1b[31mred", "x" * 41])
def test_a_tag_is_one_short_printable_word(run, tag):
    with pytest.raises(UserError, match="is no tag"):
        change_tags(run, add=["good", tag])
    assert run.history().tag_changes == []
    assert change_tags(run, add=["x" * 40]) == ("x" * 40,)
