"""A command in any environment: no traceback, the right code, and files that are UTF-8."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from support import killing, training
from support.processes import convnn
from support.started import Started

from convnn.runs.find import list_runs

SEED = 5
SMALL = killing.arguments(training.SMALL | {"limit": 20, "num_epochs": 1})
COMMANDS = {
    "help": ["run", "--help"],
    "presets": ["presets"],
    "runs": ["runs"],
    "show": ["show", "@last"],
    "table": ["table", "--rows", "lr"],
    "summary": ["summary", "quickstart"],
    "dry run": ["run", "quickstart", "--dry-run"],
    "note": ["note", "@last", "größe"],
    "train": ["run", *SMALL, "--plain"],
}
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "COLUMNS=0": {"COLUMNS": "0"},
    "COLUMNS negative": {"COLUMNS": "-1", "LINES": "-1"},
    "COLUMNS no number": {"COLUMNS": "²", "TERMINAL_WIDTH": "wide"},
    "COLUMNS huge": {"COLUMNS": "9" * 30},
    "TERM=dumb": {"TERM": "dumb"},
    "TERM unset": {"TERM": None},
    "TERM unknown": {"TERM": "no-such-terminal", "COLORTERM": "?"},
    "C locale": {"LC_ALL": "C", "LANG": None},
    "locale unknown": {"LC_ALL": "xx_YY.nothing"},
    "TMPDIR missing": {"TMPDIR": "/no/such/folder"},
    "TZ unknown": {"TZ": "Nowhere/At:all"},
    "HOME unset": {"HOME": None},
    "HOME empty": {"HOME": ""},
    "HOME no folder": {"HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null/config"},
    "nothing set": dict.fromkeys(os.environ) | {"PATH": "/usr/bin:/bin"},
}
GRID = [(environment, command) for environment in ENVIRONMENTS for command in COMMANDS]
SAMPLED = killing.sample(GRID, 3, SEED)
torture = pytest.mark.torture


@pytest.fixture
def folder(tmp_path):
    """A folder with a run."""
    run, _ = training.train(tmp_path / "runs", training.config(limit=20, num_epochs=1))
    assert run.status() == "done"
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "command"), [case if case in SAMPLED else pytest.param(*case, marks=torture) for case in GRID]
)
def test_command_in_an_environment(folder, environment, command):
    variables = ENVIRONMENTS[environment] | {"CONVNN_RUNS": str(folder / "runs")}
    ended = Started(*COMMANDS[command], cwd=folder, **variables).wait()
    assert ended.code == 0, ended
    assert "Traceback" not in ended.out + ended.err
    assert list_runs(folder / "runs")[1] == []
    assert not (folder / "~").exists()


@pytest.mark.parametrize(
    "closed", ["<&-", *(pytest.param(text, marks=torture) for text in (">&-", "2>&-", "<&- >&- 2>&-"))]
)
@pytest.mark.parametrize(
    "command", ["train", *(pytest.param(name, marks=torture) for name in COMMANDS if name != "train")]
)
def test_command_with_closed_descriptors(folder, closed, command):
    words = [sys.executable, "-m", "convnn", *COMMANDS[command]]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
    variables = os.environ | {"CONVNN_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(shell, cwd=folder, env=variables, capture_output=True, text=True)
    assert ended.returncode == 0, ended
    assert "Traceback" not in ended.stdout + ended.stderr
    assert list_runs(folder / "runs")[1] == []


@pytest.fixture
def latin_1(tmp_path):
    """The variables of a locale that is not UTF-8."""
    if shutil.which("localedef") is None:
        pytest.skip("needs localedef")
    built = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "locales" / "en_US")]
    (tmp_path / "locales").mkdir()
    subprocess.run(built, capture_output=True)
    if not (tmp_path / "locales" / "en_US").exists():
        pytest.skip("localedef has no source of en_US")
    return {"LOCPATH": str(tmp_path / "locales"), "LANG": "en_US", "LC_ALL": None, "LC_CTYPE": None}


def test_files_are_utf_8_in_another_locale(tmp_path, latin_1):
    run = training.create(tmp_path / "runs", training.config(limit=20, num_epochs=1, tag=("größe",)))
    training.train_run(run, run.config())
    listed = Started("runs", "--columns", "tag", cwd=tmp_path, **latin_1).wait()
    assert (listed.code, listed.err) == (0, ""), listed
    assert listed.out.isascii() and "gr\\xf6" in listed.out
    assert Started("run", "--help", cwd=tmp_path, **latin_1).wait().out.isascii()
    summaries = convnn("runs", "--json", cwd=tmp_path).out  # from the cache that the other locale wrote
    assert json.loads(summaries)["runs"][0]["config"]["run"]["tags"] == ["größe"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_is_recorded_and_nothing_of_the_repository_is_run(tmp_path):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]

    def git(*words: str) -> str:
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / ".gitattributes").write_text("* filter=x diff=x\n")
    (tmp_path / "file").write_text("text\n")
    git("add", "file", ".gitattributes")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    run_marker = f"touch {tmp_path / 'executed'}; cat"
    for key in ("filter.x.clean", "diff.x.textconv", "core.fsmonitor", "core.pager", "diff.external"):
        git("config", key, run_marker)
    os.utime(tmp_path / "file", (1, 1))
    assert convnn("run", *SMALL, "--plain", cwd=tmp_path).code == 0
    (run,) = list_runs(tmp_path / "runs")[0]
    assert run.history().started.git_commit == commit
    assert not (tmp_path / "executed").exists()


@torture
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
@pytest.mark.parametrize("home", [None, "/"])
@pytest.mark.parametrize("command", COMMANDS)
def test_user_without_an_entry(folder, home, command):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    words = [
        "unshare",
        "--user",
        "--map-user=4321",
        "--map-group=4321",
        sys.executable,
        "-m",
        "convnn",
        *COMMANDS[command],
    ]
    names = ("HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    variables |= {"CONVNN_RUNS": str(folder / "runs")} | ({"HOME": home} if home else {})
    ended = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    assert ended.returncode == 0, ended
    assert "Traceback" not in ended.stderr
