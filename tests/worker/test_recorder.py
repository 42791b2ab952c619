"""The recorder: an event is serialized once, and what is shown is the line that was written."""

from __future__ import annotations

from support import training

from convnn.events import Step, Warned
from convnn.runs.history import History
from convnn.worker.recorder import Recorder


def test_what_is_shown_are_the_lines_of_the_file(tmp_path):
    run = training.create(tmp_path, training.config())
    lines = []
    recorder = Recorder(run, History(), lambda event, line: lines.append(line))
    recorder.emit(Warned(message="a\nb"))
    recorder.emit(Step(epoch=1, step=1, loss=float("nan")))
    recorder.close()
    assert run.events_path.read_text().splitlines() == lines


class CountedWarning(Warned):
    """A warning that counts how often it is serialized."""

    def model_dump(self, **options) -> dict:
        serialized.append(self)
        return super().model_dump(**options)


serialized: list[Warned] = []


def test_an_event_is_serialized_once(tmp_path):
    serialized.clear()
    run = training.create(tmp_path, training.config())
    recorder = Recorder(run, History(), lambda event, line: None)
    event = CountedWarning(message="words")
    recorder.emit(event)
    recorder.close()
    assert serialized == [event]


def test_the_callers_history_is_folded_before_an_event_is_shown(tmp_path):
    run = training.create(tmp_path, training.config(num_epochs=1))
    history = History()
    steps = []
    training.train_run(run, run.config(), show=lambda event, line: steps.append(history.step), history=history)
    assert steps == sorted(steps) and steps[-1] == 4
    assert history.digest() == run.history().digest()
