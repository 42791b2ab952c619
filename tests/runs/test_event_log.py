"""Events survive the file: every number, every good line, whatever stands around it."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convnn import events
from convnn.events import (
    KINDS,
    Changed,
    Epoch,
    Event,
    Finished,
    LayerStatistics,
    Noted,
    Paused,
    Resumed,
    Saved,
    Started,
    Step,
    Tagged,
    UnknownEvent,
    Warned,
)
from convnn.runs import event_log
from convnn.runs.event_log import LONGEST, EventLog, EventReader
from convnn.runs.history import History

EXAMPLES = [
    Started(
        device="cpu",
        versions={"torch": "2"},
        normalisation={"mean": (0.5,), "std": (0.2,)},
        classes=("cat", "dög"),
        image_size=(3, 32, 32),
        images={"train": 8},
        epochs=2,
        steps_per_epoch=4,
        flops=1e9,
        amp={"mode": "autocast", "dtype": "bf16"},
    ),
    Step(epoch=1, step=3, loss=math.nan, lr=1e-3, grad_norm=math.inf, images_per_s=10.0),
    Epoch(epoch=1, step=4, metrics={"train_loss": 1.5, "test_loss": -math.inf}),
    Paused(epoch=1, step=4),
    Resumed(epoch=1, step=4, exact=False, note="another device"),
    Noted(text="lr was too high", by="somebody"),
    Changed(text="lr was too high", by="somebody"),
    Tagged(added=("baseline",), removed=("draft",), by="somebody"),
    Saved(step=4, path="checkpoints/00000004", kind="best"),
    Warned(message="line\u2028one\nline two \udc80"),
    Finished(outcome="diverged", cause="the loss is not a number", code=3),
    LayerStatistics(epoch=1, step=4, layers={"stage1.conv1": {"neighbors_outside": 61.5}}, images=16, every=3),
]


def same(ours: events.Event, theirs: events.Event) -> bool:
    return type(ours) is type(theirs) and event_log.event_line(ours) == event_log.event_line(theirs)


def test_every_kind_has_an_example():
    assert {type(event).__name__ for event in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_line(event):
    text = event_log.event_line(event)
    assert re.match(r'\{"event": "\w+", "time": "\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"', text)
    assert "\n" not in text and text.isascii()
    assert same(event_log.parse_event(text), event) and event_log.parse_event(text).time == event.time


def test_numbers_that_are_not_finite_are_strings_in_the_file_and_numbers_in_memory():
    text = event_log.event_line(EXAMPLES[1])
    assert json.loads(text)["loss"] == "NaN" and json.loads(text)["grad_norm"] == "Infinity"
    read = event_log.parse_event(text)
    assert isinstance(read, Step) and math.isnan(read.loss) and read.grad_norm == math.inf


def test_events_and_fields_of_a_later_version_are_kept():
    known = event_log.parse_event(event_log.event_line(EXAMPLES[3])[:-1] + ', "who": "me"}')
    assert isinstance(known, Paused) and json.loads(event_log.event_line(known))["who"] == "me"
    unknown = event_log.parse_event('{"event": "Forked", "time": "2026-11-22T15:15:00.123Z", "from": "3f2a"}')
    assert isinstance(unknown, UnknownEvent)
    assert (
        json.loads(event_log.event_line(unknown))["event"] == "Forked"
        and json.loads(event_log.event_line(unknown))["from"] == "3f2a"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"event": 1}',
        '{"event": "Step", "time": "2026-11-22T15:15:00Z"}',
        '{"event": "Paused", "epoch": 1, "step": 1}',
        '{"event": "Paused", "time": "9999-12-31T23:59:59-23:00", "epoch": 1, "step": 1}',
        '{"event": "X", "time": ' + "[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_not_an_event_raises_value_error(text):
    with pytest.raises(ValueError):
        event_log.parse_event(text)


def test_reading_leaves_a_half_written_line_for_later(tmp_path):
    path = tmp_path / "events.jsonl"
    event_log.append_event(path, EXAMPLES[3])
    text = event_log.event_line(EXAMPLES[4]).encode() + b"\n"
    with path.open("ab") as file:
        file.write(text[:20])
    reader = EventReader()
    read, bad, _ = reader.read(path)
    assert len(read) == 1 and not bad
    with path.open("ab") as file:
        file.write(text[20:])
    read, bad, restarts = reader.read(path)
    assert [same(event, EXAMPLES[4]) for event in read] == [True] and not bad and not restarts


def test_an_append_after_a_cut_line_starts_a_new_one_and_the_cut_one_is_reported_once(tmp_path):
    path = tmp_path / "events.jsonl"
    event_log.append_event(path, EXAMPLES[3])
    cut = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"event": "Ste')
    event_log.append_event(path, EXAMPLES[4])
    reader = EventReader()
    read, bad, _ = reader.read(path)
    assert [type(event) for event in read] == [Paused, Resumed]
    assert [byte for byte, _ in bad] == [cut]
    assert reader.read(path) == ([], [], False)


def test_a_line_too_long_to_hold_is_skipped(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b"x" * (3 * LONGEST) + b"\n" + event_log.event_line(EXAMPLES[3]).encode() + b"\n" + b"y" * (2 * LONGEST)
    )
    reader = EventReader()
    read, bad, _ = reader.read(path)
    assert len(read) == 1 and [byte for byte, _ in bad] == [0]
    with path.open("ab") as file:
        file.write(b"\n")
    assert [byte for byte, _ in reader.read(path)[1]] == [path.stat().st_size - 2 * LONGEST - 1]


def test_steps_can_be_skipped(tmp_path):
    path = tmp_path / "events.jsonl"
    for event in EXAMPLES:
        event_log.append_event(path, event)
    reader = EventReader()
    read, _, _ = reader.read(path, steps=False)
    assert [type(event) for event in read] == [type(event) for event in EXAMPLES if not isinstance(event, Step)]
    assert reader.read(path) == ([], [], False)


def test_the_longest_text_still_makes_a_readable_line(tmp_path):
    path = tmp_path / "events.jsonl"
    event_log.append_event(path, Finished(outcome="failed", cause="\x00" * LONGEST))
    read, bad, _ = EventReader().read(path)
    assert isinstance(read[0], Finished) and not bad


pieces_of_a_file = st.one_of(
    st.binary(max_size=40).map(lambda junk: junk.replace(b"\n", b"")),
    st.sampled_from(EXAMPLES),
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["event", "time", "epoch", "step"]), inner),
        max_leaves=5,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(sorted(KINDS)).map(
        lambda name: b'{"event": "%s", "time": 1e99, "\\ud800": 1}' % name.encode()  # a key no text can hold
    ),
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(pieces_of_a_file, max_size=12), cuts=st.lists(st.integers(0, 2000), max_size=4))
def test_no_bytes_make_reading_fail_or_lose_a_good_line(tmp_path, pieces, cuts):
    path = tmp_path / "events.jsonl"
    lines = [event_log.event_line(piece).encode() if isinstance(piece, events.Event) else piece for piece in pieces]
    data = b"".join(text + b"\n" for text in lines)
    good = [piece for piece in pieces if isinstance(piece, events.Event)]
    path.write_bytes(b"")
    events_read: list[events.Event] = []
    reported: list[int] = []
    reader = EventReader()
    for size in [*sorted(cuts), len(data)]:  # the file grows while it is read
        path.write_bytes(data[:size])
        read, bad, restarts = reader.read(path)
        assert not restarts
        events_read += read
        reported += [byte for byte, _ in bad]
    assert reader.read(path) == ([], [], False) and len(reported) == len(set(reported))
    texts = iter([event_log.event_line(event) for event in events_read])
    assert all(event_log.event_line(event) in texts for event in good)  # in their order, and none missing


def write_many(path: Path, writer: int, count: int) -> None:
    for number in range(count):
        event_log.append_event(path, Step(epoch=writer, step=number, loss=0.5, who="x" * 500))


def test_eight_writers_and_a_reader_see_no_torn_line(tmp_path):
    path = tmp_path / "events.jsonl"
    path.touch()
    context = multiprocessing.get_context("fork" if os.name == "posix" else None)
    writers = [context.Process(target=write_many, args=(path, writer, 50)) for writer in range(8)]
    for writer in writers:
        writer.start()
    events_read, reader = [], EventReader()
    while True:
        alive = any(writer.is_alive() for writer in writers)
        read, bad, restarts = reader.read(path)
        events_read += read
        assert not bad and not restarts
        if not alive:
            break
    for writer in writers:
        writer.join()
    assert sorted((step.epoch, step.step) for step in events_read) == [(w, n) for w in range(8) for n in range(50)]


def edited(path: Path, change: Callable[[str], str]) -> None:
    """Save a changed copy over a file, as an editor does."""
    copy = path.with_name("copy")
    copy.write_text(change(path.read_text()))
    copy.replace(path)


EDITS: dict[str, Callable[[Path, str], object]] = {
    "replaced by its older state": lambda path, older: edited(path, lambda text: older),
    "replaced with a changed line": lambda path, older: edited(path, lambda text: text.replace('"here"', '"x"')),
    "replaced with every line changed": lambda path, older: edited(path, lambda text: text.replace("{", "{ ")),
    "replaced by nothing": lambda path, older: edited(path, lambda text: ""),
    "cut in place": lambda path, older: path.write_text(older),
    "cut within a line": lambda path, older: path.write_text(older[:-20]),
    "emptied in place": lambda path, older: path.write_text(""),
    "deleted": lambda path, older: path.unlink(),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_log_that_another_program_saves_over_loses_no_epoch(tmp_path, name):
    path = tmp_path / "events.jsonl"
    event_log.append_event(path, Started(host="here"))
    warnings: list[Event] = []
    log = EventLog(path, lambda event, line: warnings.append(event))
    for number in range(1, 4):
        log.append(Step(epoch=number, step=10 * number - 5, loss=1.0))
        log.append(Epoch(epoch=number, step=10 * number, metrics={"test_top1": number}))
        if number == 1:
            older = path.read_text()
    EDITS[name](path, older)
    log.append(Epoch(epoch=4, step=40, metrics={"test_top1": 4}))
    log.append(Finished(outcome="done"))
    log.close()
    history = History()
    history.update(path)
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4] and history.first_started
    assert history.finished is not None and len(history.skipped_lines) == (name == "cut within a line")
    assert [type(event) for event in warnings] == [Warned] and len(history.warnings) == 1


def test_a_log_that_became_a_link_is_not_written_through(tmp_path):
    path, victim = tmp_path / "events.jsonl", tmp_path / "victim"
    log = EventLog(path, lambda event, line: None)
    log.append(Started())
    victim.write_text("words")
    path.unlink()
    path.symlink_to(victim)
    log.append(Epoch(epoch=1, step=1, metrics={}))
    assert log.problem is not None and not log.flush() and victim.read_text() == "words"
    path.unlink()
    assert log.flush()
    log.close()
    history = History()
    history.update(path)
    assert history.first_started and len(history.epochs) == 1


def test_a_log_moves_with_its_directory(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    log = EventLog(directory / "events.jsonl", lambda event, line: None)
    log.append(Started())
    directory.rename(tmp_path / "moved")
    log.append(Epoch(epoch=1, step=1, metrics={}))
    log.close()
    assert len((tmp_path / "moved" / "events.jsonl").read_text().splitlines()) == 2
