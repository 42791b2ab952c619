"""A program that compares the working tree of the current directory with its commit, and prints state and diff.

A repository may be a stranger's. Git is not run; no attribute, filter, hook or monitor is read, and no configuration
but `core.fileMode`. Of Dulwich only the readers of objects, the index and ignore files are used. Memory, processor time
and what is printed are bounded, and the process refuses to start another program.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import re
import resource
import stat
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from dulwich.ignore import IgnoreFilter, IgnoreFilterManager, read_ignore_patterns
from dulwich.index import IndexEntry, read_index_dict_with_version
from dulwich.object_format import OBJECT_FORMATS
from dulwich.object_store import DiskObjectStore
from dulwich.objects import S_ISGITLINK, Blob, Commit, ObjectID, Tree

from convnn.files import read_regular
from convnn.repository.head import Repository, find_repository
from convnn.text import escaped

MAX_DIFF = 1_000_000  # bytes of what is kept of a diff
MAX_CONTENT = 1 << 20  # bytes of a file that is compared line by line
MAX_FILE = 1 << 26  # bytes of a file that is read
MAX_INDEX = 1 << 28
MAX_PAIRS = 20_000_000  # of lines that may be equal: beyond, a file is shown as replaced
MAX_ENTRIES = 200_000  # files of a commit, and directory entries among which untracked files are looked for
MAX_PATH = 4096  # bytes
MAX_NAMES = 100  # of untracked files, and of files that are not compared
MAX_MEMORY = 1 << 32  # bytes
MAX_SECONDS = 30  # of processor time
PROCESS_EVENTS = ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.", "socket.")
FILE, EXECUTABLE, LINK = "100644", "100755", "120000"  # modes
WITHOUT_MODES = re.compile(rb"^\s*filemode\s*=\s*(false|no|off|0)\s*$", re.I | re.M)  # core.fileMode


class Content(NamedTuple):
    """A file of a commit or a working tree; `data` is None where it is too large to be shown, or unknown."""

    mode: str
    id: str  # of the blob
    data: bytes | None

    @property
    def version(self) -> tuple[str, str]:
        """What differs where the file has changed."""
        return self.mode, self.id


class Diff:
    """The lines of a diff as text, as many as are kept, and the SHA-256 of all."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size, self.is_cut = 0, False
        self.digest = hashlib.sha256()

    def write(self, line: str) -> None:
        line += "\n"
        self.digest.update(line.encode())
        self.size += len(line.encode())
        self.is_cut |= self.size > MAX_DIFF
        if not self.is_cut:
            self.lines.append(line)

    def write_file(self, path: str, old: Content | None, new: Content | None) -> None:
        """Write how a file differs, with the whole ids of both blobs: they stand for what is not shown."""
        if old and new and old.mode != new.mode and LINK in (old.mode, new.mode):
            self.write_file(path, old, None)
            return self.write_file(path, None, new)
        content = old or new
        assert content is not None
        no_id = "0" * len(content.id)
        self.write(f"diff --git a/{path} b/{path}")
        if old is None or new is None:
            self.write(f"{'new' if old is None else 'deleted'} file mode {content.mode}")
        elif old.mode != new.mode:
            self.write(f"old mode {old.mode}")
            self.write(f"new mode {new.mode}")
            if old.id == new.id:
                return None
        self.write(f"index {old.id if old else no_id}..{new.id if new else no_id}")
        if any(side is not None and (side.data is None or b"\0" in side.data) for side in (old, new)):
            return self.write("Contents not shown: binary, large or missing")
        before, after = (_lines(side.data or b"") if side else [] for side in (old, new))
        names = f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null"
        if len(before) * len(after) <= MAX_PAIRS:
            for line in difflib.unified_diff(before, after, *names, lineterm=""):
                self.write(line)
            return None
        replaced = [*(f"-{line}" for line in before), *(f"+{line}" for line in after)]
        ranges = f"@@ -1,{len(before)} +1,{len(after)} @@"
        for line in (f"--- {names[0]}", f"+++ {names[1]}", ranges, *replaced):
            self.write(line)
        return None


class WorkingTree:
    """The working tree of a repository, compared with its commit. Raises ValueError, KeyError and OSError."""

    def __init__(self, repository: Repository) -> None:
        commit = repository.head_commit()
        if commit is None:
            raise ValueError("nothing is committed in the git repository of the current directory")
        self.top, self.commit, self.shared = repository.top, commit, repository.shared
        self.algorithm = "sha1" if len(commit) == 40 else "sha256"
        object_format = OBJECT_FORMATS[self.algorithm]
        self.store = DiskObjectStore(self.shared / "objects", object_format=object_format)
        self.has_modes = WITHOUT_MODES.search(self._read("config")) is None
        index = repository.directory / "index"
        self.index: Mapping[bytes, object] = {}
        if index.exists():
            data = read_regular(index, MAX_INDEX, single_link=False)
            file = io.BytesIO(data)
            self.index = read_index_dict_with_version(file, object_format)[0]
            # before the checksum Dulwich stops at an extension that has to be understood: its name is in lower case
            if file.tell() < len(data) - object_format.oid_length:
                raise ValueError("the index is split or sparse, which is not read: see git update-index")
        self.real_folder = cache(self._real_folder)

    def committed(self) -> dict[bytes, tuple[int, ObjectID]]:
        """Return mode and blob of each file of the commit."""
        commit = self.store[ObjectID(self.commit.encode())]
        if not isinstance(commit, Commit):
            raise ValueError("HEAD names no commit")
        files: dict[bytes, tuple[int, ObjectID]] = {}
        trees, count = [(b"", commit.tree)], 0
        while trees:
            folder, tree_id = trees.pop()
            tree = self.store[tree_id]
            if not isinstance(tree, Tree):
                raise ValueError("the commit names a tree that is none")
            for entry in tree.iteritems():
                path = folder + entry.path
                count += 1
                if count > MAX_ENTRIES or len(path) > MAX_PATH:
                    raise ValueError(f"over {MAX_ENTRIES:,} files, or a path of over {MAX_PATH:,} bytes, in the commit")
                if stat.S_ISDIR(entry.mode):
                    trees.append((path + b"/", entry.sha))
                else:
                    files[path] = entry.mode, entry.sha
        return files

    def changes(self) -> tuple[Diff, list[str]]:
        """Return the diff as `git diff HEAD` defines it, and which files are not compared for what reason."""
        diff, not_compared, committed = Diff(), [], self.committed()
        for path in sorted(committed.keys() | self.index.keys()):
            mode, blob_id = committed.get(path, (0, None))
            entry = self.index.get(path)
            if S_ISGITLINK(mode) or (isinstance(entry, IndexEntry) and S_ISGITLINK(entry.mode)):
                continue
            try:
                new = None if entry is None else self._in_working_tree(path, entry)
            except (OSError, ValueError) as error:
                reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
                not_compared.append(f"{_text(path)} ({reason})")
                continue
            if new is None and isinstance(entry, IndexEntry) and entry.skip_worktree:
                continue  # of a sparse checkout
            old = None
            if blob_id is not None:
                old = Content(_mode(mode), blob_id.decode(), None)
            if (old and old.version) != (new and new.version):
                diff.write_file(_text(path), old and old._replace(data=self._blob(blob_id)), new)
        return diff, not_compared

    def _blob(self, blob_id: ObjectID | None) -> bytes | None:
        try:
            blob = self.store[blob_id] if blob_id else None
        except (KeyError, zlib.error, MemoryError):
            return None  # left out of a partial clone, or larger than is unpacked
        return blob.data if isinstance(blob, Blob) and len(blob.data) <= MAX_CONTENT else None

    def _in_working_tree(self, path: bytes, entry: object) -> Content | None:
        """Read a file; None where there is none, as where a directory above it is a link that leads elsewhere.

        On a file system without modes of its own a file has the mode of its entry in the index.
        """
        parts = path.split(b"/")
        if b"\0" in path or any(part in (b"", b".", b"..") or part.lower() == b".git" for part in parts):
            raise ValueError("not a path in a working tree")
        file = self.top / os.fsdecode(path)
        if not self.real_folder(file.parent):
            return None
        try:
            status = file.lstat()
            if stat.S_ISLNK(status.st_mode):
                mode, data = LINK, os.fsencode(file.readlink())
            elif stat.S_ISREG(status.st_mode):
                mode, data = _mode(status.st_mode), read_regular(file, MAX_FILE, single_link=False)
                if not self.has_modes and isinstance(entry, IndexEntry) and stat.S_ISREG(entry.mode):
                    mode = _mode(entry.mode)
            else:
                return None
        except FileNotFoundError:
            return None
        blob_id = hashlib.new(self.algorithm, b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return Content(mode, blob_id, data if len(data) <= MAX_CONTENT else None)

    def _real_folder(self, folder: Path) -> bool:
        """Return whether a folder is in the working tree, without a link on the way."""
        if folder == self.top:
            return True
        return self.real_folder(folder.parent) and folder.is_dir() and not folder.is_symlink()

    def _read(self, name: str) -> bytes:
        """Return a file of the repository; empty where it cannot be read."""
        try:
            return read_regular(self.shared / name, MAX_CONTENT, single_link=False)
        except OSError:
            return b""

    def untracked(self) -> Iterator[str]:
        """Yield the files that are neither tracked nor ignored, a folder of nothing else as `FOLDER/`."""
        tracked = {os.fsdecode(path) for path in self.index}
        folders = {str(parent) for path in tracked for parent in Path(path).parents}
        patterns = self._read("info/exclude")
        ignored = IgnoreFilterManager(str(self.top), [IgnoreFilter(read_ignore_patterns(io.BytesIO(patterns)))], False)
        left = iter(range(MAX_ENTRIES))

        def walk(folder: str) -> Iterator[str]:
            try:
                with os.scandir(self.top / folder) as entries:
                    sorted_entries = sorted(islice(entries, MAX_ENTRIES), key=lambda entry: entry.name)
            except OSError:
                return
            for entry in sorted_entries:
                path = folder + entry.name
                if entry.name == ".git" or path in tracked or next(left, None) is None:
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    if not ignored.is_ignored(path):
                        yield path
                elif path in folders:
                    yield from walk(f"{path}/")
                elif not ignored.is_ignored(f"{path}/") and next(walk(f"{path}/"), None) is not None:
                    yield f"{path}/"

        yield from walk("")
        if next(left, None) is None:
            yield f"... (not looked for beyond {MAX_ENTRIES:,} entries)"


def _mode(mode: int) -> str:
    """Return a mode as git records it: of the permissions only whether the owner may execute the file."""
    if stat.S_ISLNK(mode):
        return LINK
    return EXECUTABLE if mode & stat.S_IXUSR else FILE


def _text(data: bytes) -> str:
    """Return text without control characters except tabs, and with bytes that are not UTF-8 as escapes."""
    return "\t".join(escaped(part) for part in data.decode("utf-8", "backslashreplace").split("\t"))


def _lines(data: bytes) -> list[str]:
    lines = data.split(b"\n")
    last = lines.pop()
    texts = [_text(line) for line in lines]
    return [*texts, _text(last) + "\n\\ No newline at end of file"] if last else texts


def _comments(label: str, names: list[str]) -> list[str]:
    more = [f"# {label}: and more"] if len(names) > MAX_NAMES else []
    return [f"# {label}: {name}" for name in names[:MAX_NAMES]] + more


def _document(tree: WorkingTree) -> tuple[dict[str, object], bytes]:
    """Return the state, and the diff under comments that name the files it does not show."""
    diff, not_compared = tree.changes()
    untracked = [_text(os.fsencode(path)) for path in islice(tree.untracked(), MAX_NAMES + 1)]
    is_dirty = diff.size > 0
    state = {"commit": tree.commit, "dirty": is_dirty, "diff_sha256": diff.digest.hexdigest() if is_dirty else None}
    head = [f"# the working tree against {tree.commit}: {'changed' if is_dirty else 'no changes'}"]
    head += _comments("not compared", not_compared) + _comments("untracked", untracked)
    text = ("".join(f"{line}\n" for line in head) + "".join(diff.lines)).encode()
    if diff.is_cut or len(text) > MAX_DIFF:
        cut = f"# cut here: this file holds at most {MAX_DIFF:,} bytes of the diff\n".encode()
        text = text[: text.rfind(b"\n", 0, MAX_DIFF - len(cut)) + 1] + cut
    return state, text


def _refuse_programs(event: str, arguments: object) -> None:
    if event.startswith(PROCESS_EVENTS):
        raise PermissionError(f"{event} is refused")


def main() -> int:
    """Print the state as a line of JSON, then the diff; on stderr why there is none."""
    for kind, limit in ((resource.RLIMIT_AS, MAX_MEMORY), (resource.RLIMIT_CPU, MAX_SECONDS)):
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError):  # macOS does not bound the memory of a process
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    sys.addaudithook(_refuse_programs)
    try:
        if (repository := find_repository()) is None:
            raise ValueError("the current directory is in no git repository")
        state, diff = _document(WorkingTree(repository))
    except Exception as error:  # whatever a damaged repository leads to
        reason = str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
        print(escaped(reason), file=sys.stderr)
        return 1
    sys.stdout.buffer.write(json.dumps(state).encode() + b"\n" + diff)
    return 0


if __name__ == "__main__":
    sys.exit(main())
