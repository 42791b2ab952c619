"""One cluster for all tests of this folder, or none: then they are skipped, and say what is missing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import slurm


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    if missing := slurm.missing_commands():
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: the path of a socket has 107 characters
    folder.chmod(0o711)
    try:
        with slurm.cluster(folder) as configuration:
            yield configuration
    finally:
        shutil.rmtree(folder, ignore_errors=True)
