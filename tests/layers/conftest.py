"""Small maps are convolved in a way of their own, which would hide the other from tests of the layers."""

import pytest

from convnn.layers import gather


@pytest.fixture
def by_tiles(monkeypatch):
    """Small maps go the way of large ones."""
    monkeypatch.setattr(gather, "FEW_BYTES", -1)


@pytest.fixture(params=["few", "tiles"])
def either_way(request):
    """The test runs once each way."""
    if request.param == "tiles":
        request.getfixturevalue("by_tiles")
