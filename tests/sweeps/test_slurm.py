"""Options of sbatch as lines of a script that hold nothing else, and the script of an array."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnn.config.schema import RunConfig, RuntimeSection
from convnn.errors import UserError
from convnn.runs.run import Run
from convnn.slurm_job import SlurmError
from convnn.sweeps.dump import dump_sweep, same_cells
from convnn.sweeps.file import parse_sweep
from convnn.sweeps.folder import SweepFolder
from convnn.sweeps.slurm import common_processes, ranges, run_job, sbatch_environment, submit, sweep_job, try_job
from convnn.sweeps.slurm_options import REFUSED, directive, typed_options

VALUES = st.text(max_size=40) | st.integers() | st.booleans() | st.floats() | st.none() | st.lists(st.text())


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["partition", "gres", "comment", "a-b"]) | st.text(max_size=12), VALUES, max_size=3)
)
def test_a_script_has_one_line_for_each_option_and_is_otherwise_the_same(options):
    import tomli_w

    try:
        table = tomli_w.dumps({"slurm": options})
        sweep = parse_sweep(table, "grid")
    except (TypeError, ValueError, UserError, UnicodeError):  # no TOML, or refused with a message
        return
    job = run_job(Run(Path("/r/a"), "a"), sweep.slurm or {}, None)
    plain = run_job(Run(Path("/r/a"), "a"), {}, None).text().splitlines()
    set_options = [directive(name, value) for name, value in options.items() if value is not False]
    lines = job.text().split("\n")
    assert all(lines.count(line) >= 1 for line in set_options)
    assert len(lines) - 1 == len(plain) + len([name for name in options if options[name] is not False]) - (
        "job-name" in options
    )
    for name, value in options.items():
        if isinstance(value, str):
            quoted = re.fullmatch(rf'#SBATCH --{name}="(.*)"', directive(name, value))
            assert quoted is not None and re.sub(r"\\(.)", r"\1", quoted[1]) == value
    assert parse_sweep(dump_sweep(sweep), "grid").slurm == (sweep.slurm or None)


@pytest.mark.parametrize(
    "name",
    [*REFUSED, "arr", "wra", "cluster", "requeue", "Partition", "--gres", "cpus_per_task", "a b", "a=b", "", "-"],
)
def test_options_that_are_refused(name):
    with pytest.raises(UserError, match=r"slurm|option of sbatch"):
        parse_sweep(f'[slurm]\n"{name}" = "1"\n', "grid")


def test_variables_of_sbatch_win_over_no_line_that_a_job_needs(monkeypatch):
    for name in ("SBATCH_WAIT", "SBATCH_OUTPUT", "SBATCH_ARRAY_INX", "SBATCH_QOS", "SBATCH_PARTITION", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "1")
    names = sbatch_environment(run_job(Run(Path("/r/a"), "a"), {"qos": "low"}, None)).keys()
    assert {name for name in names if name.startswith(("SBATCH_", "SLURM_"))} == {"SBATCH_PARTITION"}


@pytest.mark.parametrize(("answer", "number"), [("note: low priority\\n12;east", "12"), ("", None), ("queued", None)])
def test_the_number_of_a_job_is_what_sbatch_prints_last(tmp_path, monkeypatch, answer, number):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = run_job(Run(tmp_path, "a"), {}, None)
    if number is None:
        with pytest.raises(SlurmError, match="names no job"):
            submit(job)
    else:
        assert submit(job) == number


def test_a_cell_whose_number_no_element_has_is_refused_with_the_limit(tmp_path, monkeypatch):
    for name, script in (("sbatch", "echo Invalid >&2; exit 1"), ("scontrol", "echo 'MaxArraySize    = 1001'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for cells, message in (([1, 1001], "element 1001 .* is 1001"), ([1, 1000], "sbatch refuses")):
        with pytest.raises(UserError, match=message):
            try_job(sweep_job(SweepFolder(tmp_path, "grid"), cells, {}))


def test_options_say_where_a_sweep_is_trained_and_not_what():
    sweeps = [parse_sweep(f'base = "quickstart"\n[slurm]\ntime = "{hours}:00:00"\n', "grid") for hours in (1, 2)]
    assert same_cells(*sweeps) and sweeps[0] != sweeps[1]
    assert typed_options(["gres=gpu:1,nic:2", "exclusive", "comment=a=b"]) == {
        "gres": "gpu:1,nic:2",
        "exclusive": True,
        "comment": "a=b",
    }
    with pytest.raises(UserError, match='time = "04:00:00"'):
        parse_sweep("[slurm]\ntime = 04:00:00\n", "grid")


def test_a_script_is_one_for_the_shell_whatever_its_paths(tmp_path):
    folder = SweepFolder(tmp_path / "a b'$(id) %j", "grid")
    text = sweep_job(folder, [1, 2, 3, 7], {"partition": "gpu"}, slots=2, max_minutes="90").text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert '#SBATCH --array="1-3,7%2"' in text and "a b'$(id) %%j/.sweeps/grid/log/%4a.out" in text
    with pytest.raises(UserError, match="cannot stand in the script"):
        sweep_job(SweepFolder(tmp_path / "a\nb", "grid"), [1], {}).text()


def test_each_process_of_a_run_is_a_task():
    run = Run(Path("/r/a"), "a")
    for options in ({}, {"ntasks": 4}, {"ntasks": "4"}):
        lines = run_job(run, options, None, 4).text().splitlines()
        assert sum(line.startswith("#SBATCH --ntasks=") for line in lines) == 1
        assert lines[-1].startswith("exec srun --ntasks=4 --kill-on-bad-exit=1 ")
    with pytest.raises(UserError, match=r"ntasks is 2, but runtime.processes is 4"):
        run_job(run, {"ntasks": 2}, None, 4).text()
    two, four = (RunConfig(runtime=RuntimeSection(processes=processes)) for processes in (2, 4))
    assert (common_processes([]), common_processes([two, two])) == (1, 2)
    with pytest.raises(UserError, match="processes is 2 and 4"):
        common_processes([two, four])


def test_numbers_as_ranges():
    assert ranges([4, 1, 2, 9, 10, 12]) == "1-2,4,9-10,12" and ranges([5]) == "5"


def test_the_script_in_the_documentation_is_the_one_that_is_written():
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    table = re.search(r"```toml\n(.*?)```", page, re.S)
    script = re.search(r"```bash\n(#!/bin/bash.*?)```", page, re.S)
    assert table is not None and script is not None
    options = parse_sweep(table[1], "neighbors").slurm or {}
    text = sweep_job(SweepFolder(Path("/home/me/runs"), "neighbors"), [1, 2, 3, 4], options, slots=2).text()
    assert text.replace(sys.executable, "/home/me/venv/bin/python") == script[1]
