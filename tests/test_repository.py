"""The state of the code that a run is trained with: what is read of a git repository, and that nothing of it is run."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from contextlib import suppress

import pytest
from dulwich.objects import Blob
from dulwich.porcelain import add, commit, init
from dulwich.repo import Repo
from support import killing, training

from convnn.repository import diff, state
from convnn.repository.head import find_repository, git_commit
from convnn.repository.reftable import read_reference
from convnn.runs.find import list_runs

SMALL = [*killing.arguments(training.SMALL | {"limit": 20, "num_epochs": 1}), "--json"]


def stage(top, *names):
    with Repo(str(top)) as repository:
        add(repository, [str(top / name) for name in names])


@pytest.fixture
def top(tmp_path, monkeypatch):
    """A repository of a few committed files, which is the current directory."""
    top = tmp_path / "code"
    (top / "folder").mkdir(parents=True)
    init(str(top)).close()
    (top / "same.py").write_text("same\n")
    (top / "staged.py").write_text("one\ntwo\nthree")
    (top / "unstaged.py").write_text("".join(f"{number}\n" for number in range(100)))
    (top / "deleted.py").write_text("gone\n")
    (top / "folder" / "binary").write_bytes(b"\0\xff" * 50)
    (top / "link").symlink_to("same.py")
    (top / ".gitignore").write_text("*.log\nruns/\n")
    stage(top, "same.py", "staged.py", "unstaged.py", "deleted.py", "folder/binary", "link", ".gitignore")
    commit(str(top), message=b"first", author=b"a <a@b>", committer=b"a <a@b>")
    monkeypatch.chdir(top)
    git_commit.cache_clear()
    yield top
    git_commit.cache_clear()


def compared():
    code_state, text = diff._document(diff.WorkingTree(find_repository()))
    return code_state, text.decode()


def test_changes_of_tracked_files_are_the_diff_and_untracked_files_its_head(top):
    clean, text = compared()
    assert clean == {"commit": find_repository().head_commit(), "dirty": False, "diff_sha256": None}
    assert text == f"# the working tree against {clean['commit']}: no changes\n"
    (top / "staged.py").write_text("one\n2\nthree")
    (top / "new.py").write_text("new\n")
    stage(top, "staged.py", "new.py")
    (top / "unstaged.py").write_bytes((top / "unstaged.py").read_bytes().replace(b"50\n", b"\x1b[31m\xff\r\n"))
    (top / "deleted.py").unlink()
    (top / "folder" / "binary").write_bytes(b"\0")
    (top / "link").unlink()
    (top / "link").symlink_to("elsewhere")
    (top / "kept.log").write_text("ignored")
    (top / "notes\x07.txt").write_text("untracked")
    (top / "other").mkdir()
    (top / "other" / os.fsdecode(b"\xff")).write_text("untracked")
    (top / "other" / "a.log").write_text("ignored")
    dirty, text = compared()
    head, body = text[: text.index("diff --git")], text[text.index("diff --git") :]
    assert head.splitlines()[1:] == ["# untracked: notes\\x07.txt", "# untracked: other/"]
    assert dirty["dirty"] and dirty["diff_sha256"] == hashlib.sha256(body.encode()).hexdigest()
    for lines in (
        "-two\n+2\n three\n\\ No newline at end of file\n",
        "new file mode 100644\n",
        "-50\n+\\x1b[31m\\xff\\r\n",
        "--- a/deleted.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n",
        "Contents not shown: binary, large or missing\n",
        "-same.py\n\\ No newline at end of file\n+elsewhere\n",
    ):
        assert lines in body, lines
    assert body.count("diff --git") == 6 and "same.py b/same.py" not in body


def test_the_permission_to_execute_is_compared_where_the_file_system_has_it(top):
    (top / "same.py").chmod(0o755)
    (top / "deleted.py").chmod(0o755)
    (top / "deleted.py").write_text("changed\n")
    code_state, text = compared()
    modes = "old mode 100644\nnew mode 100755\n"
    assert code_state["dirty"] and f"b/same.py\n{modes}" in text and f"b/deleted.py\n{modes}index " in text
    assert "--- a/same.py" not in text and "\n-gone\n+changed\n" in text
    with (top / ".git" / "config").open("a") as file:
        file.write("[core]\n\tfileMode = false\n")
    text = compared()[1]
    assert "mode" not in text and "\n-gone\n+changed\n" in text


def test_the_commit_is_found_through_symbolic_branches_many_packed_ones_and_hard_links(top):
    git, head = top / ".git", find_repository().head_commit()
    branch = git / (git / "HEAD").read_text().removeprefix("ref:").strip()
    others = "".join(f"{number:040x} refs/tags/{number}\n" for number in range(80_000))
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{others}{head} {branch.relative_to(git)}\n")
    branch.unlink()
    assert find_repository().head_commit() == head
    (git / "refs" / "heads" / "alias").write_text(f"ref: {branch.relative_to(git)}\n")
    (git / "HEAD").write_text("ref: refs/heads/alias\n")
    os.link(git / "HEAD", git / "copy")
    assert find_repository().head_commit() == head
    (git / "HEAD").unlink()
    (git / "HEAD").symlink_to("refs/heads/alias")
    assert find_repository().head_commit() == head
    branch.write_text("ref: refs/heads/alias\n")  # a circle
    assert find_repository().head_commit() is None
    (git / "HEAD").unlink()
    (git / "HEAD").symlink_to("/etc/passwd")
    assert find_repository().head_commit() is None


def number(value):
    text = bytes([value & 127])
    while value := value >> 7:
        value -= 1
        text = bytes([value & 127 | 128]) + text
    return text


def reftable(records, block_size=0):
    """A table of blocks of two references: name, kind and value of each; names share their first five letters."""
    header = b"REFT\1" + block_size.to_bytes(3) + bytes(7) + b"\1" + bytes(7) + b"\1"
    data = header
    for first in range(0, len(records), 2):
        body, shared = b"", 0
        for name, kind, value in records[first : first + 2]:
            body += number(shared) + number(len(name[shared:]) << 3 | kind) + name[shared:] + number(0) + value
            shared = 5
        body += bytes(3) + b"\0\1"
        start = len(header) if first == 0 else 0
        block = b"r" + (start + 4 + len(body)).to_bytes(3) + body
        data += block + bytes(max(0, block_size - start - len(block)))
    return data + header + bytes(44)


@pytest.mark.parametrize("block_size", [0, 4096])
def test_the_commit_is_found_where_branches_are_reftables(top, block_size):
    git, head = top / ".git", find_repository().head_commit()
    (git / "HEAD").write_text("ref: refs/heads/.invalid\n")
    (git / "reftable").mkdir()
    assert find_repository().head_commit() is None
    name = b"refs/heads/" + b"x" * 200
    tag = bytes(20) + bytes.fromhex(head)
    older = [(b"HEAD", 3, number(len(name)) + name), (b"gone!", 1, bytes(20)), (name[:-1], 1, bytes(20))]
    older += [(name, 1, bytes(20)), (b"refs/tags/t", 2, tag)]
    newer = [(name[:-1], 0, b""), (name, 1, bytes.fromhex(head))]
    for table, records in (("0x01-a.ref", older), ("0x02-b.ref", newer)):
        (git / "reftable" / table).write_bytes(reftable(records, block_size))
    (git / "reftable" / "tables.list").write_text("0x01-a.ref\n0x02-b.ref\n")
    assert find_repository().head_commit() == head
    assert read_reference(git / "reftable", "refs/tags/t") == "00" * 20
    assert read_reference(git / "reftable", name.decode()[:-1]) is None
    for size in range(0, len(reftable(newer)), 11):  # cut anywhere: an error or nothing, and no hang
        (git / "reftable" / "0x02-b.ref").write_bytes(reftable(newer)[:size])
        with suppress(ValueError):
            find_repository().head_commit()
    assert git_commit() is None or len(git_commit()) == 40


def test_sizes_are_bounded_and_the_digest_is_of_everything(top):
    (top / "same.py").write_text("x" * 2_000_000)
    (top / "staged.py").write_text("é" * 499_000 + "\n")
    first, text = compared()
    assert "Contents not shown" in text and len(text.encode()) <= diff.MAX_DIFF and "# cut here" not in text
    for number, name in enumerate(["unstaged.py", "deleted.py"]):
        (top / name).write_text(f"{number}\n" * 10_000)
    assert compared()[1].endswith("\n# cut here: this file holds at most 1,000,000 bytes of the diff\n")
    digests = {first["diff_sha256"], compared()[0]["diff_sha256"]}
    with (top / "same.py").open("r+") as file:
        file.write("y")  # of a file that is not shown
    assert compared()[0]["diff_sha256"] not in digests
    blob = Blob.from_string(b"gone\n").id.decode()
    file = top / ".git" / "objects" / blob[:2] / blob[2:]
    file.chmod(0o600)
    bomb = zlib.compressobj()
    file.write_bytes(bomb.compress(b"blob 600000000\0") + bomb.compress(bytes(6_000_000)) * 2)
    assert f"index {blob}" in compared()[1]


def test_nothing_outside_of_the_working_tree_is_read(top, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "binary").write_text("secret")
    (top / "folder" / "binary").unlink()
    (top / "folder").rmdir()
    (top / "folder").symlink_to(tmp_path)  # which has a file of that name
    (top / "same.py").unlink()
    os.mkfifo(top / "same.py")
    (top / "staged.py").unlink()
    (top / "staged.py").symlink_to(tmp_path / "secret")
    with Repo(str(top)) as repository:
        index = repository.open_index()
        index[b"../secret"] = index[b".git/config"] = index[b"deleted.py"]
        index.write()
    code_state, text = compared()
    assert code_state["dirty"] and "+secret" not in text
    assert "# not compared: ../secret (not a path in a working tree)" in text and "(not a path" in text.split("\n")[1]
    assert "deleted file mode 100644\nindex" in text[text.index("folder/binary") :]


DAMAGES = ["empty", "no repository", "pointer", "objects", "index", "alternates", "split index", "sparse index"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_repository_that_cannot_be_read_is_a_warning(top, tmp_path, monkeypatch, damage):
    if damage == "no repository":
        monkeypatch.chdir(tmp_path)
    elif damage == "empty":
        init(str(tmp_path)).close()
        monkeypatch.chdir(tmp_path)
    elif damage == "pointer":
        (tmp_path / ".git").write_bytes(b"gitdir: else\0where")
        monkeypatch.chdir(tmp_path)
    elif damage in ("split index", "sparse index"):
        index = (top / ".git" / "index").read_bytes()[:-20]
        extensions = b"TREE\0\0\0\0" + (b"link" if damage == "split index" else b"sdir") + bytes(4)
        index += extensions
        (top / ".git" / "index").write_bytes(index + hashlib.sha1(index).digest())
    elif damage == "index":
        (top / ".git" / "index").write_bytes(b"DIRC\0\0\0\2\x7f\xff\xff\xff" + b"\0" * 40)
    else:
        objects = top / ".git" / "objects"
        for file in objects.glob("??/*"):
            file.unlink()
        if damage == "alternates":
            (objects / "info").mkdir(exist_ok=True)
            (objects / "info" / "alternates").write_text(f"{objects}\n")  # a circle
    record = state.read_code()
    assert record.state is None and record.warning.startswith("the state of the code is not recorded: "), record
    assert "Traceback" not in record.warning
    assert damage not in ("split index", "sparse index") or "split or sparse" in record.warning
    if damage in ("empty", "no repository", "pointer"):
        assert git_commit() is None


def test_a_run_records_it_and_nothing_of_the_repository_is_run(top, tmp_path, in_process, monkeypatch):
    monkeypatch.setenv("CONVNN_RUNS", str(tmp_path / "runs"))
    (top / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    command = f"touch {tmp_path / 'executed'}; cat"
    (top / ".git" / "config").write_text(
        f'[core]\nfsmonitor = "{command}"\nhooksPath = {top}\nworktree = /\n[include]\npath = /dev/zero\n'
        f'[filter "x"]\nclean = "{command}"\nprocess = "{command}"\nrequired = true\n'
        f'[diff]\nexternal = "{command}"\n[diff "x"]\ntextconv = "{command}"\ncommand = "{command}"\n'
    )
    (top / "same.py").write_text("changed\n")
    for words in (["--record_code"], []):
        code, _, err = in_process("run", *SMALL, *words)
        assert code == 0, err
    recorded, plain = sorted(list_runs(tmp_path / "runs")[0], key=lambda run: not (run.path / state.DIFF).exists())
    started = recorded.history().started
    text = (recorded.path / state.DIFF).read_text()
    assert started.code.commit == started.git_commit and started.code.dirty and "+changed" in text
    assert plain.history().started.code is None and not (plain.path / state.DIFF).exists()
    assert not (tmp_path / "executed").exists()
    with pytest.raises(PermissionError):  # should a version of the library try
        diff._refuse_programs("subprocess.Popen", ())
    assert json.loads(in_process("show", recorded.name, "--json")[1])["code"]["dirty"] is True
    assert f"{started.git_commit[:12]}, changed: see code.diff" in in_process("show", recorded.name)[1]
    document = json.loads(in_process("compare", recorded.name, plain.name, "--json")[1])
    assert document["code_differs"] is None and document["code"][1]["dirty"] is None


def test_commands_whose_runs_start_elsewhere_refuse_it_and_the_extra_is_named(in_process, monkeypatch):
    for words in (["--queue"], ["--slurm"], ["--seeds", "2"], ["--dry-run"]):
        code, _, err = in_process("run", "quickstart", "--record_code", *words)
        assert code == 2 and f"{words[0]} is not possible with --record_code" in err
    monkeypatch.setattr(state, "find_spec", lambda name: None)
    code, _, err = in_process("run", "quickstart", "--record_code")
    assert code == 2 and "pip install 'convnn[code]'" in err
