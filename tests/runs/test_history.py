"""A history is the same live or read later, in one piece or in many."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnn.events import Epoch, Event, Finished, Noted, Paused, Resumed, Saved, Started, Step, UnknownEvent, Warned
from convnn.runs import event_log
from convnn.runs.history import UNTRACED, History, Mark, Progress

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def run(epochs: int, per_epoch: int = 4, first: int = 1, start: float = 0.0) -> list[Event]:
    """Epochs of `per_epoch` steps, a second a step."""
    events: list[Event] = []
    for epoch in range(first, epochs + 1):
        for step in range((epoch - 1) * per_epoch + 1, epoch * per_epoch + 1):
            seconds = start + step - (first - 1) * per_epoch
            events.append(Step(time=after(seconds), epoch=epoch, step=step, loss=1 / step, lr=0.1))
        metrics = {"train_loss": 1 / epoch, "test_top1": 10.0 * epoch, "train_s": 4.0, "images_per_s": 9.0}
        events.append(Epoch(time=after(seconds), epoch=epoch, step=epoch * per_epoch, metrics=metrics))
    return events


STARTED = Started(time=after(0), epochs=3, steps_per_epoch=4)


def contents(history: History) -> tuple:
    """Everything that a screen shows of a history."""
    series = [history.series(name, x) for name in ("loss", "test_top1", "lr") for x in ("epoch", "step", "seconds")]
    return series, history.marks, history.progress, history.finished, history.digest(), history.warnings, history.best()


def test_folding_events_at_once_or_one_by_one_is_the_same():
    events = [
        STARTED,
        *run(2),
        Resumed(time=after(99), epoch=1, step=4),
        *run(3, first=2, start=100),
        Warned(message="w"),
    ]
    history = History()
    for event in events:
        history.fold([event])
    assert contents(history) == contents(History(events))


def test_series_have_a_point_per_epoch_and_the_loss_a_point_per_step():
    history = History([STARTED, *run(2)])
    assert history.series("test_top1") == ([1, 2], [10, 20])
    assert history.series("test_top1", "step") == ([4, 8], [10, 20])
    assert history.series("test_top1", "seconds") == ([4, 8], [10, 20])
    assert history.series("loss") == ([step / 4 for step in range(1, 9)], [1 / step for step in range(1, 9)])
    assert history.series("loss", "seconds")[0] == list(range(1, 9))
    assert history.series("lr") == ([step / 4 for step in range(1, 9)], [0.1] * 8)  # no epoch has it
    assert history.series("images_per_s") == ([1, 2], [9, 9])
    assert history.series("images_per_s", live=True) == ([], [])  # no step has it
    assert history.series("no_such") == ([], [])


def test_a_resume_drops_later_steps_and_is_marked():
    lost = [*run(2), Step(time=after(9), epoch=3, step=9, loss=9.0), Paused(time=after(10), epoch=3, step=9)]
    history = History([STARTED, *lost, Resumed(time=after(1000), epoch=1, step=4)])
    assert [epoch.epoch for epoch in history.epochs] == [1] and history.steps[-1].step == 4
    assert history.marks == [Mark("resumed", 1, 4)] and not history.paused
    assert history.progress.step == 4 and history.elapsed == 4
    history.fold(run(3, first=2, start=1000))
    assert contents(history)[0] == contents(History([STARTED, *run(3)]))[0]  # the same as if it had never stopped
    assert history.digest() == History(run(3)).digest()


def test_a_start_over_without_a_resume_counts_no_step_twice():
    history = History([STARTED, *run(2), STARTED, *run(3)])
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3]
    assert [step.step for step in history.steps] == list(range(1, 13))


def test_a_run_that_is_resumed_is_not_finished():
    events = [STARTED, *run(1), Finished(time=after(5), outcome="interrupted")]
    assert History(events).finished is not None
    assert History([*events, Resumed(time=after(9), epoch=1, step=4)]).finished is None
    assert History([*events, Started(time=after(9))]).finished is None


def test_pauses_the_time_between_two_processes_and_later_notes_do_not_count_as_elapsed():
    paused = [
        Paused(time=after(4), epoch=1, step=4),
        Saved(time=after(50), step=4, path="x"),
        UnknownEvent(time=after(60), event="X"),
    ]
    history = History([STARTED, *run(1), *paused, Resumed(time=after(104), epoch=1, step=4)])
    history.fold(run(2, first=2, start=104))
    history.fold([Finished(time=after(109), outcome="done"), Noted(time=after(1e8), text="note")])
    assert history.elapsed == 9
    assert history.series("test_top1", "seconds")[0] == [4, 8]


def test_elapsed_never_decreases_when_a_clock_is_set_back():
    history = History([STARTED, *run(1), Warned(time=after(-500), message="the clock")])
    assert history.elapsed == 4


def test_progress_counts_steps_and_estimates_the_time_left():
    assert History().progress == Progress(0, None, 0, None, 0, None, 0.0, None)
    history = History([STARTED, *run(2)[:-2]])  # the last step of epoch 2 is not recorded yet
    assert history.progress == Progress(2, 3, 3, 4, 7, 12, 7.0, 5.0)
    assert History([STARTED, *run(1)[:3]]).progress.eta == 9.0
    assert History([STARTED]).progress.eta is None
    assert History([STARTED, *run(3), Finished(time=after(12), outcome="done")]).progress.eta == 0


def test_the_first_epoch_does_not_slow_the_estimate_once_there_are_others():
    slow = [
        Epoch(time=after(seconds), epoch=number, step=number * 4, metrics={})
        for number, seconds in [(1, 100.0), (2, 104.0)]
    ]
    assert History([STARTED, *slow]).progress.eta == pytest.approx(4.0)


def test_best_is_lowest_for_losses_highest_for_accuracies_and_never_nan():
    values = [("train_loss", [math.nan, 0.5, 0.2, 0.2]), ("test_top1", [math.nan, 30.0, 60.0, 60.0])]
    events = [Epoch(epoch=n + 1, step=n + 1, metrics={name: column[n] for name, column in values}) for n in range(4)]
    history = History(events)
    assert history.best("train_loss") == (0.2, 3) and history.best("test_top1") == (60.0, 3)
    assert history.best() == (60.0, 3)
    assert History(events[:1]).best("train_loss") is None and history.best("no_such") is None
    history = History([Epoch(epoch=1, step=1, metrics={"images_per_s": 1.0, "train_s": 2.0, "val_top1": 5.0})])
    history.fold([Epoch(epoch=2, step=2, metrics={"images_per_s": 2.0, "train_s": 1.0, "val_top1": 4.0})])
    assert history.best("images_per_s") == (2.0, 2) and history.best("train_s") == (1.0, 2)
    assert history.best_metric == "val_top1" and history.best() == (5.0, 1)


@settings(deadline=None, max_examples=50)
@given(metrics=st.dictionaries(st.sampled_from(["a_loss", "b_top1", *UNTRACED]), st.floats()), seconds=st.integers(0))
def test_the_digest_depends_on_metrics_and_not_on_time_speed_or_memory(metrics, seconds):
    history = History([Epoch(time=NOON, epoch=1, step=4, metrics=metrics)])
    later = {name: value for name, value in metrics.items() if name not in UNTRACED} | {"eval_s": 3.0}
    assert History([Epoch(epoch=1, step=4, metrics=later)]).digest() == history.digest()
    assert History([Epoch(epoch=1, step=4, metrics=metrics | {"c_loss": 1.0})]).digest() != history.digest()
    assert History([Epoch(epoch=1, step=5, metrics=metrics)]).digest() != history.digest()


def test_a_history_read_while_the_file_grows_is_the_history_read_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    live = History()
    assert not live.update(path)  # no file yet
    events = [STARTED, *run(2), Paused(time=after(9), epoch=2, step=8)]
    for event in events:
        event_log.append_event(path, event)
        assert live.update(path) and not live.update(path)
    whole = History()
    whole.update(path)
    assert contents(live) == contents(whole) == contents(History(events))
    coarse = History()
    coarse.update(path, steps=False)
    assert not coarse.steps and coarse.epochs == whole.epochs and coarse.digest() == whole.digest()


def test_a_damaged_line_is_reported_with_its_byte_and_the_rest_is_read(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"damage\n")
    for event in run(1):
        event_log.append_event(path, event)
    history = History()
    history.update(path)
    assert [byte for byte, _ in history.skipped_lines] == [0] and len(history.epochs) == 1


def test_the_time_left_includes_evaluation():
    """Before it was measured by images, where a forward pass takes a third of a step; then as it was measured."""
    start = datetime(2026, 11, 1, tzinfo=UTC)

    def at(seconds: float) -> datetime:
        return start + timedelta(seconds=seconds)

    history = History([Started(time=start, epochs=2, steps_per_epoch=10, images={"train": 100, "test": 50})])
    history.fold(Step(time=at(number), epoch=1, step=number, loss=1.0) for number in range(1, 6))
    assert history.progress.eta == pytest.approx(15 + 2 * 10 * 0.5 / 3)
    history.fold([Epoch(time=at(14), epoch=1, step=10, metrics={"train_s": 10.0, "eval_s": 4.0})])
    assert history.progress.eta == pytest.approx(10 + 4)
    history.fold([Step(time=at(24), epoch=2, step=20, loss=1.0)])
    assert history.progress.eta == pytest.approx(4)  # no step is left, its evaluation is


def test_system_metrics_are_series_of_the_steps_that_have_them_and_outside_the_digest():
    systems = [{}, {"cpu_util": 40.0}, {"cpu_util": 60.0, "gpu_util": 97.0, "of_a_later_version": 1.0}, {}]
    steps = [Step(epoch=1, step=number, loss=1.0, system=values) for number, values in enumerate(systems, 1)]
    history = History(steps)
    assert history.series("cpu_util", "step") == ([2, 3], [40, 60])
    assert history.series("gpu_util", "step") == ([3], [97])
    assert history.series("gpu_power", "step") == ([], [])
    assert history.recent_system_metric("cpu_util") == 50
    assert history.recent_system_metric("gpu_power") is None
    assert history.step_values(2) == {"loss": 1.0, "cpu_util": 60.0, "gpu_util": 97.0}
    history.fold([Resumed(epoch=1, step=2), Step(epoch=1, step=3, loss=2.0)])
    assert history.series("cpu_util", "step") == ([2], [40])
    assert history.series("gpu_util", "step") == ([], [])
    assert history.digest() == History().digest()
