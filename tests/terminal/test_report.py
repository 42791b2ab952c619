"""Events as lines of text."""

from __future__ import annotations

import pytest

from convnn.events import Epoch, Resumed, Started, Step
from convnn.runs.history import History
from convnn.terminal.report import bottleneck, device_text, event_line, latest_rate, system_series, system_values


def test_the_learning_rate_is_that_of_the_last_event_whether_a_step_or_an_epoch():
    step, epoch = Step(epoch=1, step=1, loss=1.0, lr=0.1), Epoch(epoch=1, step=4, metrics={"lr": 0.01})
    assert latest_rate(History([step])) == 0.1
    assert latest_rate(History([step, epoch])) == 0.01
    assert latest_rate(History([step, epoch, Step(epoch=2, step=5, loss=1.0, lr=0.001)])) == 0.001
    assert latest_rate(History([step, epoch, Step(epoch=2, step=5, loss=1.0)])) == 0.01
    assert latest_rate(History()) is None


def test_a_resumption_that_is_not_exact_is_marked_with_its_reason():
    def line(**fields):
        return event_line(Resumed(epoch=2, step=9, **fields), History())[0]

    assert line(exact=False, note="threads changed").endswith("(not exact: threads changed)")
    assert line(exact=False).endswith("(not exact)") and "(" not in line()


@pytest.mark.parametrize(
    ("device", "system", "bound"),
    [
        ("cpu (a processor)", {"data_loading": 3.0}, "compute-bound"),
        ("cpu (a processor)", {"data_loading": 45.0, "cpu_util": 99.0}, "input-bound"),
        ("cpu (a processor)", {"cpu_util": 99.0}, None),
        ("cuda:0 (a card)", {"data_loading": 45.0}, None),  # the card may compute meanwhile
        ("cuda:0 (a card)", {"data_loading": 45.0, "gpu_util": 97.0}, "compute-bound"),
        ("cuda:0 (a card)", {"data_loading": 45.0, "gpu_util": 30.0}, "input-bound"),
        ("cuda:0 (a card)", {"data_loading": 2.0, "gpu_util": 30.0}, "host-bound"),
        ("mps", {"data_loading": 2.0, "cpu_util": 30.0}, None),
        ("", {}, None),
    ],
)
def test_what_bounds_the_speed_is_named_only_where_it_was_measured(device, system, bound):
    history = History([Started(device=device), Step(epoch=1, step=1, loss=1.0, system=system)])
    sentence = bottleneck(history)
    assert sentence is None if bound is None else sentence.startswith(f"{bound}: ")
    assert (("training", sentence) in system_values(history)) == (bound is not None)


def test_system_values_have_units():
    system = {"gpu_util": 97.0, "gpu_bytes": 12.0 * 2**30, "gpu_power": 310.4, "gpu_temp": 61.0, "gpu_clock": 1710.0}
    history = History([Step(epoch=1, step=1, loss=1.0, system=system | {"cpu_util": 40.0, "rss_bytes": 2.0**30})])
    assert system_values(history) == [("gpu", "97 %, 12.0 GiB, 310 W, 61 C, 1710 MHz"), ("cpu", "40 %, 1.0 GiB")]
    curves = system_series("bytes", lambda name: history.series(name, "step"))
    assert [(curve.label, list(curve.ys)) for curve in curves] == [("gpu GiB", [12.0]), ("process GiB", [1.0])]


@pytest.mark.parametrize(
    ("started", "text"),
    [
        (Started(device="cpu", threads=2, matmul="fp32"), "cpu, 2 threads"),
        (Started(device="cpu", threads=1, processes=2), "cpu, 2 processes, 1 thread each"),
        (Started(device="cuda:0", threads=4, matmul="tf32"), "cuda:0, products in tf32"),
        (Started(device="cuda:0", matmul="tf32", processes=4), "cuda:0, 4 processes, products in tf32"),
    ],
)
def test_the_device_of_a_run_is_named_with_what_computes_on_it(started, text):
    assert device_text(started) == text
