"""Fixtures that several parts of the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one finished run: a narrow vgg11 ConvNN, two epochs on a hundred digits. Not to be changed."""
    from convnn import presets
    from convnn.runs import create
    from convnn.worker import work

    root = tmp_path_factory.mktemp("runs")
    words = {
        "model.width": "0.05",
        "data.dataset": "digits",
        "data.limit": "100",
        "training.batch_size": "25",
        "training.num_epochs": "2",
        "training.seed": "7",
        "runtime.device": "cpu",
    }
    config = presets.resolve(None, words).checked()
    run = create(presets.text(config, whole=True), model="vgg11", layer="ConvNN", root=root)
    assert work(run, config, show=lambda event: None).code == 0
    return root
