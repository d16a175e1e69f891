"""A Slurm cluster of one node on this machine, for as long as a test lasts.

Its own munged, slurmctld and slurmd, with all their files in one folder, so it needs no installed
configuration and disturbs none. They must run as root: slurmd starts jobs for others.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import time

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")


def missing() -> str:
    """Why no cluster can be started here, or ""."""
    lacking = [name for name in COMMANDS if not shutil.which(name, path=_path())]
    if lacking:
        return f"{', '.join(lacking)} not installed (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd has to run as root"
    return ""


class SlurmCluster:
    """`with SlurmCluster(folder) as cluster: cluster.run("sbatch", ...)`."""

    def __init__(self, folder: pathlib.Path, cpus: int = 2):
        """Args:
        folder: for the daemons' files; under a short path, since a socket's may have 107 letters.
        cpus: how many the node claims to have; more than are there is allowed.
        """
        self.folder = folder
        self.cpus = cpus
        self.environment = os.environ | {
            "PATH": _path(),
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self._daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "SlurmCluster":
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        (self.folder / "slurm.conf").write_text(self._configuration())
        # Named only so that slurmd does not go looking for one: nothing here uses control groups.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        # Slurm gives these two files out as if they were GPUs.
        for number in range(2):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        try:
            self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def run(self, *command: str, **options) -> str:
        """Runs one of Slurm's commands and returns what it prints."""
        done = subprocess.run(
            command,
            env=self.environment | options.pop("env", {}),
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, …"""
        for word in self.run("scontrol", "show", "job", "--oneliner", job).split():
            if word.startswith("JobState="):
                return word.removeprefix("JobState=")
        raise AssertionError(f"scontrol told no state of job {job}")

    def wait_for(self, job: str, *states: str, seconds: float) -> str:
        """Waits until a job is in one of these states."""
        end = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < end, f"job {job} is still {state}"
            time.sleep(0.5)
        return state

    def wait_until_idle(self, seconds: float) -> None:
        """Waits until the last process of every job has ended."""
        end = time.monotonic() + seconds
        while "idle" not in self._node_state():
            logs = "\n".join(path.read_text() for path in self.folder.glob("*.out"))
            assert time.monotonic() < end, f"the node is {self._node_state().strip()}:\n{logs}"
            time.sleep(0.5)

    def _start_daemons(self) -> None:
        folder = self.folder
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder / 'munge.sock'}",
            f"--key-file={folder / 'munge.key'}",
            f"--pid-file={folder / 'munged.pid'}",
            f"--seed-file={folder / 'munged.seed'}",
            f"--log-file={folder / 'munged.log'}",
        )
        end = time.monotonic() + 30
        while not (folder / "munge.sock").exists():
            assert time.monotonic() < end, (folder / "munged.out").read_text()
            time.sleep(0.1)
        self._start("slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf"))
        self._start("slurmd", "-D", "-f", str(folder / "slurm.conf"))
        self.wait_until_idle(seconds=30)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("w") as output:
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
            )

    def _node_state(self) -> str:
        done = subprocess.run(
            ("sinfo", "--noheader", "--format=%t"),
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def _configuration(self) -> str:
        controller, node = _free_ports(2)
        host = socket.gethostname().partition(".")[0]
        folder = self.folder
        return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder / "munge.sock"}
CredType=cred/munge
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={folder / "slurmctld.pid"}
SlurmdPidFile={folder / "slurmd.pid"}
StateSaveLocation={folder / "state"}
SlurmdSpoolDir={folder / "spool"}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=60
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={self.cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _path() -> str:
    # Debian puts the daemons where an ordinary user's PATH does not look.
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
