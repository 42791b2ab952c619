"""Statistics of layers: the same whatever interrupts a run, and without any effect on what it computes."""

from collections import deque

import pytest
import torch
from support.training import SMALL, config, recorded_events, resume, same_weights, train

from convnn.data.loaders import Normalize
from convnn.events import Epoch, LayerStatistics
from convnn.metrics import LAYER_METRICS
from convnn.runs.control import ControlCommand
from convnn.training import layer_statistics
from convnn.training.layer_statistics import StatisticsState
from convnn.training.trainer import Trainer

DRAWING = SMALL | {  # random numbers in every step
    "layer": "Branching_Attn",
    "limit": 16,
    "batch_size": 8,
    "K": 4,
    "sampling_type": "random",
    "num_samples": 16,
    "attention_dropout": 0.2,
    "augment": True,
    "noise": 0.1,
}


@pytest.fixture
def every_epoch(monkeypatch):
    monkeypatch.setattr(layer_statistics, "COST_SHARE", float("inf"))


def statistics(run):
    return [(event.epoch, event.step, event.layers) for event in run.history().layer_statistics]


def test_they_change_nothing_in_what_a_run_computes_and_survive_an_interruption(tmp_path, every_epoch):
    run, _ = train(tmp_path, config(DRAWING))
    without, _ = train(tmp_path, config(DRAWING, neighbor_stats=False))
    assert same_weights(run, without)
    assert run.history().digest() == without.history().digest()
    assert not without.history().layer_statistics
    expected = statistics(run)
    assert [epoch for epoch, _, _ in expected] == [1, 2]
    assert ["neighbors_overlap" in layers["stage1.block1.conv1"] for _, _, layers in expected] == [False, True]
    kinds = [type(event) for event in recorded_events(run) if isinstance(event, Epoch | LayerStatistics)]
    assert kinds == 2 * [LayerStatistics, Epoch]
    commands = deque()

    def stop(event, line):
        if isinstance(event, Epoch):
            commands.append(ControlCommand.STOP)

    interrupted, result = train(tmp_path, config(DRAWING), commands=commands, show=stop)
    assert (result.finished.outcome, len(interrupted.history().epochs)) == ("stopped", 1)
    resume(interrupted)
    assert statistics(interrupted) == expected
    assert same_weights(run, interrupted)


def test_a_run_that_is_stopped_right_after_its_statistics_takes_them_again_and_lists_them_once(tmp_path, every_epoch):
    options = config(layer="ConvNN", K=4, limit=32, num_epochs=2)
    run, _ = train(tmp_path, options)

    commands = deque()

    def stop(event, line):
        if isinstance(event, LayerStatistics) and event.epoch == 2:
            commands.append(ControlCommand.STOP)

    stopped, result = train(tmp_path, options, commands=commands, show=stop)
    assert (result.finished.outcome, len(stopped.history().epochs)) == ("stopped", 1)
    resume(stopped)
    logged = [event.epoch for event in recorded_events(stopped) if isinstance(event, LayerStatistics)]
    assert logged == [1, 2, 2]
    assert statistics(stopped) == statistics(run)


def test_layers_without_neighbors_and_branches_have_none(tmp_path):
    run, _ = train(tmp_path, config(SMALL, num_epochs=1))
    assert not any(isinstance(event, LayerStatistics) for event in recorded_events(run))


def test_they_are_taken_every_nth_epoch_where_they_cost_more_than_their_share(tmp_path, monkeypatch):
    monkeypatch.setattr(layer_statistics, "COST_SHARE", 1e-9)
    run, _ = train(tmp_path, config(SMALL, layer="ConvNN", K=4, limit=16, num_epochs=4))
    taken = run.history().layer_statistics
    assert [event.epoch for event in taken] == [1, 4]
    assert all(event.every > 3 for event in taken)
    summary = run.history()
    assert summary.last("neighbors_outside") == summary.epochs[3].metrics["neighbors_outside"]
    assert "neighbors_outside" not in summary.epochs[1].metrics
    stopping = {"lr": 1e-12, "val_share": 0.5, "early_stop": 2, "num_epochs": 9}
    run, _ = train(tmp_path, config(SMALL | stopping, layer="ConvNN", K=4, limit=16))
    assert len(run.history().epochs) < 9
    assert [event.epoch for event in run.history().layer_statistics] == [1, len(run.history().epochs)]


def test_metrics_are_means_over_the_layers_and_no_part_of_the_digest(tmp_path, every_epoch):
    run, _ = train(tmp_path, config(SMALL, layer="Branching", K=4, limit=16, num_epochs=2))
    history = run.history()
    (_, latest) = history.layer_statistics
    for name in LAYER_METRICS:
        values = [layer[name] for layer in latest.layers.values()]
        assert history.epochs[-1].metrics[name] == pytest.approx(sum(values) / len(values))
        assert history.series(name)[0] == [2.0] if name == "neighbors_overlap" else [1.0, 2.0]


@pytest.mark.parametrize(("layer", "has_kernel"), [("ConvNN", False), ("Branching", True)])
def test_the_window_is_that_of_a_kernel_size_that_has_an_effect(layer, has_kernel):
    def outside(kernel_size):
        options = config(SMALL, layer=layer, K=4, branch_ratio=0.75, limit=16, kernel_size=kernel_size)
        observer = Trainer.from_config(options).layers
        event, _ = observer.take(StatisticsState(), epoch=1, step=1, epoch_seconds=1.0, loss_scale=1.0)
        return event.layers["stage1.block1.conv1"]["neighbors_outside"]

    assert (outside(5) < outside(3)) == has_kernel


def test_a_checkpoint_holds_few_neighbors_whatever_K_is():
    options = config(SMALL, layer="ConvNN", K=200, padding=8, limit=4)
    observer = Trainer.from_config(options).layers
    _, following = observer.take(StatisticsState(), epoch=1, step=1, epoch_seconds=1.0, loss_scale=1.0)
    assert {tuple(index.shape[1:]) for index in following.neighbors.values()} == {(20, 200)}  # of 64 queries


def test_gradients_are_those_of_the_loss_of_the_fixed_batch():
    trainer = Trainer.from_config(config(SMALL, layer="Branching_Attn", K=4, branch_ratio=0.25))
    state, observer = trainer.state, trainer.layers
    event, following = observer.take(StatisticsState(), epoch=1, step=4, epoch_seconds=1.0, loss_scale=1024.0)
    assert all(parameter.grad is None for parameter in state.model.parameters())
    x, y = observer._fixed_batch()
    images = torch.stack([state.data.test.image(number)[0] for number in range(state.data.test.num_images)])
    normalized = Normalize((state.data.mean, state.data.std), 0.0, state.device)(images)
    assert all((normalized == image).flatten(1).all(1).any() for image in x)  # images of the evaluation split
    trainer.loss_fn(state.model(x), y).mean().backward()
    values = event.layers["stage2.block1.conv1"]
    branch = state.model.get_submodule("stage2.block1.conv1.first")
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in branch.parameters()])
    assert values["first_gradient"] == pytest.approx(norm.item(), rel=1e-4)
    assert StatisticsState.from_state_dict(following.state_dict()).state_dict() == following.state_dict()
