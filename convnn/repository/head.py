"""Where the repository of the current directory is, and the commit that is checked out in it."""

from __future__ import annotations

import re
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from convnn.files import open_regular
from convnn.repository.reftable import read_reference

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1 or SHA-256
LARGEST = 1 << 12  # bytes of a file of git's, or of a line of `packed-refs`, that are read
MAX_PACKED = 5_000_000  # lines of `packed-refs`, one for each branch and tag
MAX_SYMBOLIC = 5  # names that lead to a branch, as git follows them


class Repository(NamedTuple):
    """A repository with a working tree."""

    top: Path  # of the working tree
    directory: Path  # of HEAD and the index: `.git`, or what that names in a worktree or submodule

    @property
    def shared(self) -> Path:
        """The directory of branches and objects, which worktrees have in common. Raises OSError."""
        common = self.directory / "commondir"
        return self.directory / _read(common).strip() if common.exists() else self.directory

    def head_commit(self) -> str | None:
        """Return what HEAD names: a commit, directly or by a branch; None where nothing was committed yet.

        Raises OSError and ValueError where it cannot be read.
        """
        value = self._reference("HEAD", (self.directory,))
        for _ in range(MAX_SYMBOLIC):
            if value is None or not value.startswith("ref:"):
                break
            name = value.removeprefix("ref:").strip()
            if not name.startswith("refs/") or ".." in name:
                return None
            value = self._reference(name, (self.directory, self.shared))
        return value if value is not None and COMMIT.fullmatch(value) else None

    def _reference(self, name: str, folders: tuple[Path, ...]) -> str | None:
        """Return what a name refers to: a commit, or "ref: NAME" of another one."""
        if (self.shared / "reftable").is_dir():
            values = (read_reference(folder / "reftable", name) for folder in folders)
            return next((value for value in values if value is not None), None)
        for folder in folders:
            if (file := folder / name).is_symlink():  # with core.preferSymlinkRefs
                return f"ref: {file.readlink()}"
            if file.is_file():
                return _read(file).strip()
        return self._packed_commit(name)

    def _packed_commit(self, branch: str) -> str | None:
        """Return the commit of a branch that has no file of its own, None where it has none."""
        if not (packed := self.shared / "packed-refs").exists():
            return None
        with open_regular(packed, single_link=False) as file:
            for line in islice(iter(partial(file.readline, LARGEST), b""), MAX_PACKED):
                commit, _, name = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
                if name == branch:
                    return commit
        return None


def find_repository() -> Repository | None:
    """Return the repository of the current directory, None outside one. Raises OSError."""
    current = Path.cwd()
    for folder in (current, *current.parents):
        if (git := folder / ".git").exists():
            return Repository(folder, _git_directory(git))
    return None


@cache
def git_commit() -> str | None:
    """Return the commit that is checked out in the current directory, None outside a repository.

    It is read from git's files: git itself runs the filters, hooks and monitors that a repository configures.
    """
    try:
        repository = find_repository()
        return None if repository is None else repository.head_commit()
    except (OSError, ValueError):
        return None  # it is damaged, the directory has vanished, or may not be read


def _git_directory(git: Path) -> Path:
    """Return the directory that `.git` is or, in a worktree or submodule, names: "gitdir: PATH"."""
    if git.is_dir():
        return git
    return git.parent / _read(git).removeprefix("gitdir:").strip()


def _read(path: Path) -> str:
    with open_regular(path, single_link=False) as file:
        return file.read(LARGEST).decode("utf-8", "replace")
