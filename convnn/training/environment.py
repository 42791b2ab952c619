"""The software that a run is trained by: versions, and the commit of the current directory."""

from __future__ import annotations

import subprocess
from functools import cache

import torch

from convnn.version import version


def versions() -> dict[str, str]:
    """Return the versions that results may depend on."""
    return {"convnn": version(), "torch": torch.__version__}


@cache
def git_commit() -> str | None:
    """Return the commit of the current directory, with "+" when it has changes; None outside a repository."""
    command = ["git", "-c", "core.fsmonitor=", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit or None
