"""The software that a run is trained by: versions, and the commit of the current directory."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import torch

from convnn.files import open_regular
from convnn.version import version

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1 or SHA-256
LARGEST = 1 << 22  # bytes of a file of git's that are read: packed-refs has a line for each branch and tag


def versions() -> dict[str, str]:
    """Return the versions that results may depend on."""
    return {"convnn": version(), "torch": torch.__version__}


@cache
def git_commit() -> str | None:
    """Return the commit that is checked out in the current directory, None outside a repository.

    It is read from git's files: git itself runs the filters, hooks and monitors that a repository configures.
    """
    try:
        current = Path.cwd()
        for folder in (current, *current.parents):
            if (git := folder / ".git").exists():
                return _head_commit(_git_directory(git))
    except OSError:
        pass  # the directory has vanished, or may not be read
    return None


def _git_directory(git: Path) -> Path:
    """Return the directory that `.git` is or, in a worktree or submodule, names: "gitdir: PATH"."""
    if git.is_dir():
        return git
    return git.parent / _read(git).removeprefix("gitdir:").strip()


def _head_commit(directory: Path) -> str | None:
    """Return what HEAD names: a commit, or a branch in a file of its own or in `packed-refs`."""
    head = _read(directory / "HEAD").strip()
    if not head.startswith("ref:"):
        return _commit(head)
    branch = head.removeprefix("ref:").strip()
    if not branch.startswith("refs/") or ".." in branch:
        return None
    common = directory / "commondir"  # of a worktree: where the branches are
    shared = directory / _read(common).strip() if common.exists() else directory
    for folder in (directory, shared):
        if (file := folder / branch).exists():
            return _commit(_read(file).strip())
    if not (packed := shared / "packed-refs").exists():
        return None  # nothing was committed yet
    lines = (line.split(" ", 1) for line in _read(packed).splitlines())
    return next((_commit(words[0]) for words in lines if words[1:] == [branch]), None)


def _commit(text: str) -> str | None:
    return text if COMMIT.fullmatch(text) else None


def _read(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(LARGEST).decode("utf-8", "replace")
