"""A Slurm cluster of one node in a folder, for tests: munged, slurmctld and slurmd as processes of this user.

Two partitions: jobs of `low` give way to those of `high`, with a grace time. There is no accounting and no cgroup.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from support import processes

from convnn.slurm_job import JobState, own_jobs, run_command

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
GRACE_SECONDS = 60
FEW_SECONDS = 10  # more than a job waits that is to start at once, less than one that is requeued
POLL_SECONDS = 0.1
until = partial(processes.until, seconds=240)  # a busy machine is slow
CONFIGURATION = """\
ClusterName=convnn
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=100000{preempt_word}
KillWait=30
AccountingStorageType=accounting_storage/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{preempt_line}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low  Nodes={host} Default=YES State=UP PriorityTier=1  PreemptMode=REQUEUE GraceTime={grace}
PartitionName=high Nodes={host} State=UP PriorityTier=9 PreemptMode=OFF
"""


def missing_commands() -> list[str]:
    """The commands of Slurm and munge that are not on this machine."""
    return [name for name in COMMANDS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Run a cluster while the block runs; SLURM_CONF names its configuration, which is yielded."""
    (folder / "munge").mkdir(parents=True)
    (folder / "munge").chmod(0o711)  # clients reach the socket through it
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(_configuration(folder))
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n" if _version() >= (23, 11) else "")
    os.environ["SLURM_CONF"] = str(configuration)
    try:
        munge = folder / "munge"
        options = [f"--{name}={munge / name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        _start("munged", f"--key-file={key}", "--num-threads=2", *options)
        _start("slurmctld", "-c")
        _start("slurmd")
        until(_is_idle)
        yield configuration
    finally:
        _end(folder)
        del os.environ["SLURM_CONF"]


def _version() -> tuple[int, int]:
    match = re.search(r"(\d+)\.(\d+)", subprocess.check_output([_path("slurmctld"), "-V"], text=True))
    assert match is not None
    return int(match[1]), int(match[2])


def _configuration(folder: Path) -> str:
    # PreemptParameters took the place of a word of SchedulerParameters
    has_parameters = _version() >= (23, 2)
    port, node_port = _free_ports(2)
    return CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        user=getpass.getuser(),
        folder=folder,
        port=port,
        node_port=node_port,
        cpus=os.cpu_count(),
        grace=GRACE_SECONDS,
        preempt_word="" if has_parameters else ",preempt_send_user_signal",
        preempt_line="PreemptParameters=send_user_signal" if has_parameters else "",
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def _path(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert path is not None, name
    return path


def _start(name: str, *words: str) -> None:
    """Start a daemon, which puts itself into the background."""
    subprocess.run([_path(name), *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)


def _is_idle() -> bool:
    with suppress(subprocess.SubprocessError):
        return "idle" in subprocess.check_output(["sinfo", "-h", "-o", "%T"], text=True, stderr=subprocess.DEVNULL)
    return False


def _end(folder: Path) -> None:
    """End the jobs, and then the daemons by their recorded process numbers."""
    with suppress(Exception):
        run_command(["scancel", "--full", *(name.partition("_")[0] for name in own_jobs())])
        until(lambda: not own_jobs(), seconds=20)
    for name, path in (("slurmd", "slurmd.pid"), ("slurmctld", "slurmctld.pid"), ("munged", "munge/pid-file")):
        with suppress(OSError, ValueError):
            pid = int((folder / path).read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() != name:
                continue  # the number is another's by now
            os.kill(pid, 15)
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), seconds=20)


# -- jobs ------------------------------------------------------------------------------------------------------------


def until_job(job: str, true: Callable[[JobState | None], bool]) -> None:
    """Wait until something is true of a job, which is None once it has left the queue."""

    def is_true() -> bool:
        time.sleep(POLL_SECONDS)
        return true(own_jobs().get(job))

    until(is_true)


def until_waiting(job: str) -> None:
    """Wait until a job is in the queue and has no processes."""
    until_job(job, lambda state: state is not None and state.is_waiting)


def until_restarted(job: str, restarts: int) -> None:
    """Wait until a job was requeued so often; its processes may still end."""
    until_job(job, lambda state: state is not None and state.restarts == restarts)


def until_ended(job: str) -> None:
    until_job(job, lambda state: state is None)


def start_again_now(job: str) -> None:
    """Spare a requeued job its waiting time of two minutes, and wait until it has started.

    It starts in a later second than its last start was ended in: slurmd tells the two apart by the seconds of their
    credentials, and Slurm drops a job whose credential is revoked. This is what the waiting time is there for.
    """
    until_waiting(job)
    restarts = own_jobs()[job].restarts

    def has_started(state: JobState | None) -> bool:
        if state is None or state.restarts > restarts:  # and has ended
            return True
        if state.is_waiting and _earliest_start(job) > time.time() + FEW_SECONDS:  # also anew, as if it still completed
            run_command(["scontrol", "update", f"jobid={job}", "StartTime=now+1"])
        return state.state == "RUNNING"

    until_job(job, has_started)


def _earliest_start(job: str) -> float:
    """Return the time before which a job does not start, however free the cluster is; 0 for one that has left it."""
    environment = os.environ | {"SLURM_TIME_FORMAT": "%s"}
    words = ["squeue", "--noheader", "--array", "--me", "--Format=JobArrayID:|,EligibleTime:|"]
    lines = run_command(words, environment=environment).splitlines()
    return next((float(time) for name, time, _ in (line.split("|") for line in lines) if name == job), 0.0)
