"""The versions of the software that a run is trained by."""

from __future__ import annotations

import torch

from convnn.version import version


def versions() -> dict[str, str]:
    """Return the versions that results may depend on."""
    return {"convnn": version(), "torch": torch.__version__}
