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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.processes import until

from convnn.slurm_job import JobState, own_jobs, run_command

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
GRACE_SECONDS = 15
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
KillWait=5
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
        until(_is_idle, seconds=30)
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


def state_of(job: str) -> JobState | None:
    return own_jobs().get(job)


def start_again_now(job: str) -> None:
    """Spare a requeued job its waiting time of two minutes, and wait until it runs."""
    until(lambda: _has_waiting_time(job))

    def has_started() -> bool:
        """A job that still completes gets its waiting time once more: it is spared that, too."""
        state = state_of(job)
        if _has_waiting_time(job):
            run_command(["scontrol", "update", f"jobid={job}", "StartTime=now"])
        return state is not None and not state.is_waiting

    until(has_started)


def _has_waiting_time(job: str) -> bool:
    reasons = run_command(["squeue", "--noheader", "--array", "--me", "--Format=JobArrayID:|,Reason:|"])
    return f"{job}|BeginTime|" in reasons.splitlines()


def until_ended(job: str, seconds: float = 90) -> None:
    until(lambda: state_of(job) is None, seconds=seconds)
