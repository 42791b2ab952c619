"""A sweep writes into no folder that a link leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from convnn.errors import UserError
from convnn.runs.sweep_cells import SWEEPS
from convnn.sweeps.folder import SweepFolder, remove


@pytest.mark.parametrize("place", [SWEEPS, f"{SWEEPS}/grid", f"{SWEEPS}/grid/cells", f"{SWEEPS}/.trash"])
def test_a_linked_folder_is_refused_and_nothing_behind_it_changes(tmp_path: Path, place: str) -> None:
    victim = tmp_path / "victim"
    (victim / "grid").mkdir(parents=True)
    (victim / "grid" / "sweep.toml").write_text("mine")
    before = sorted(victim.rglob("*"))
    link = tmp_path / "runs" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    folder = SweepFolder(tmp_path / "runs", "grid")
    if place.endswith(".trash"):
        folder.path.mkdir()
    else:
        with pytest.raises(UserError, match="symbolic link"), folder.changing():
            pass
    with pytest.raises(UserError, match="symbolic link"):
        remove(folder)
    assert sorted(victim.rglob("*")) == before
