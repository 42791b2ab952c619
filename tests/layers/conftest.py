"""One image on a small map is convolved in a way of its own, which would hide the other from tests of the layers."""

import pytest

from convnn.layers import gather


@pytest.fixture
def by_tiles(monkeypatch):
    """One small image goes the way of many."""
    monkeypatch.setattr(gather, "FEW_BYTES", -1)


@pytest.fixture(params=["few", "tiles"])
def either_way(request):
    """The test runs once each way."""
    if request.param == "tiles":
        request.getfixturevalue("by_tiles")
