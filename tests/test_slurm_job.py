"""The job of a process by its environment, and what is known where there is no Slurm."""

from __future__ import annotations

import pytest

from convnn import slurm_job
from convnn.slurm_job import SlurmError, current_job, job_state


def test_job_of_the_environment():
    assert current_job({}) is None
    assert current_job({"SLURM_JOB_ID": "12"}) == "12"
    element = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    assert current_job(element) == "12_3"  # "12" would be the whole array
    assert current_job({"SLURM_JOB_ID": "12; rm"}) is None


def test_without_slurm_nothing_is_known_of_a_job(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="no squeue on this machine"):
        job_state("12")
    with pytest.raises(SlurmError, match="no number of a job"):
        job_state("--help")


def test_state_of_a_job_is_parsed_with_any_path(monkeypatch, tmp_path):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho '12_3|PENDING|1795727900|N/A|N/A|2|/a b|c/job.sh '\necho '13|x'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    state = slurm_job.JobState("PENDING", start=1795727900.0, restarts=2, script="/a b|c/job.sh")
    assert job_state("12_3") == state and state.is_waiting and not state.was_preempted
    assert job_state("12_4") is None and job_state("13") is None


def test_a_refusal_of_slurm_is_passed_on(monkeypatch, tmp_path):
    for name, message in (("squeue", "slurm_load_jobs error: Invalid job id specified"), ("scancel", "no permission")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SlurmError, match="Invalid job id"):  # it may be of another cluster
        job_state("12")
    with pytest.raises(SlurmError, match="no permission"):
        slurm_job.cancel(["12"])
