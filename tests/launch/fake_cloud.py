"""Cloud TPUs without the cloud: a `gcloud` whose slices are folders on this machine.

What goes to the workers by ssh is really run, once for each, with a home folder of its own. Only
what a test machine must not do is replaced: installing packages, mounting, and the training itself.
"""

import json
import os
import pathlib
import signal
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).parents[2]
POD = REPOSITORY / "launch" / "tpu_pod.sh"

# The states that a queued resource goes through are lines of the file `states`; each `describe`
# takes one off, and the last one stays.
GCLOUD = r"""#!/usr/bin/env -S python3 -SE
import json, os, pathlib, shutil, subprocess, sys

cloud = pathlib.Path(os.environ["FAKE_CLOUD"])
states, homes = cloud / "states", cloud / "workers"
words = sys.argv[1:]
with (cloud / "calls.jsonl").open("a") as file:
    file.write(json.dumps(words) + "\n")
assert words[:3] == ["compute", "tpus", "queued-resources"], words
verb = words[3]
flags = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
plain = [word for word in words[4:] if not word.startswith("--")]
assert flags["project"] == "my-project" and flags["zone"] == "us-east5-a", flags

def end(message):
    sys.exit(f"ERROR: (gcloud.compute.tpus.queued-resources.{verb}) {message}")

if (cloud / "network-is-down").exists():
    end("could not reach the server")
if verb == "create":
    if states.exists():
        end("ALREADY_EXISTS: Resource already exists")
    for number in range(int((cloud / "hosts").read_text())):
        (homes / f"w-{number}").mkdir(parents=True)
    shutil.copy(cloud / "states-after-create", states)
    sys.exit()
if not states.exists():
    end("NOT_FOUND: Resource was not found")
if verb == "describe":
    first, *rest = states.read_text().split()
    if rest:
        states.write_text("\n".join(rest))
    print(first)
elif verb == "delete":
    assert "force" in flags and "quiet" in flags
    for pid in homes.glob("*/qwen-audio-run/pid"):
        subprocess.run(["kill", "-KILL", pid.read_text().strip()], stderr=subprocess.DEVNULL)
    shutil.rmtree(homes)
    states.unlink()
elif verb in ("ssh", "scp"):
    chosen = sorted(homes.iterdir())
    if flags["worker"] != "all":
        chosen = [homes / f"w-{flags['worker']}"]
    if (cloud / "unreachable").exists():  # as the real one: passed over with a warning
        chosen = [home for home in chosen if home.name not in (cloud / "unreachable").read_text()]
    status = 0
    for home in chosen:
        if verb == "scp":
            shutil.copy(plain[0], home)
            continue
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "FAKE_CLOUD": str(cloud)}
        environment |= {"STOP_SECONDS": os.environ.get("STOP_SECONDS", "20")}
        done = subprocess.run(["bash", "-c", flags["command"]], cwd=home, env=environment)
        status = done.returncode or status
    sys.exit(status)
else:
    end(f"Invalid choice: {verb}")
"""

# uv makes the environment, whose interpreter plays the training as the file `behaviour` has it.
UV = r"""#!/usr/bin/env bash
echo "uv $*" >>"$HOME/uv.log"
[[ $1 == venv ]] || exit 0
mkdir -p "${!#}/bin"
cat >"${!#}/bin/python" <<'END'
#!/usr/bin/env bash
if [[ $1 == -c ]]; then echo 0.0; exit; fi
printf '%s\n' "$@" >"$HOME/arguments"
echo run >>"$HOME/starts"
trap 'echo "stopped by SIGTERM; the same command goes on from here"; exit 0' TERM
behaviour=$(cat "$FAKE_CLOUD/behaviour")
case $behaviour in
  finish) echo "report: x/report.html"; exit 0 ;;
  fail) echo "error: no data"; exit 3 ;;
  hang) trap '' TERM ;;
esac
while :; do sleep 0.05; done
END
chmod +x "${!#}/bin/python"
"""

FAKES = {
    "gcloud": GCLOUD,
    "uv": UV,
    "hostname": '#!/usr/bin/env bash\nbasename "$HOME"\n',
    "mountpoint": "#!/usr/bin/env bash\n[[ -e $HOME/mounted ]]\n",
    "gcsfuse": '#!/usr/bin/env bash\necho "gcsfuse $*" >>"$HOME/mounted"\n',
    "mount.nfs": "#!/usr/bin/env bash\n",
    "sudo": '#!/usr/bin/env bash\n[[ $1 != mount ]] || echo "$*" >>"$HOME/mounted"\n',
}


class FakeCloud:
    """`with FakeCloud(folder, hosts=2) as cloud: cloud("create")`."""

    def __init__(self, folder: pathlib.Path, hosts: int, accelerator: str = "v5p-16"):
        self.folder = folder
        self.workers = folder / "workers"
        tools = folder / "bin"
        tools.mkdir(parents=True)
        for name, text in FAKES.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        (folder / "hosts").write_text(str(hosts))
        self.after_create("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
        self.behave("run")
        self.environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(folder),
            "FAKE_CLOUD": str(folder),
            "POLL_SECONDS": "0.05",
            "PROJECT_ID": "my-project",
            "ZONE": "us-east5-a",
            "TPU_NAME": "audio",
            "ACCELERATOR_TYPE": accelerator,
        }

    def __enter__(self) -> "FakeCloud":
        return self

    def __exit__(self, *error) -> None:
        for pid in self.workers.glob("*/qwen-audio-run/pid"):
            try:
                os.kill(int(pid.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                continue

    def behave(self, behaviour: str) -> None:
        """Says what training does from its next start on: run, finish, fail or hang."""
        (self.folder / "behaviour").write_text(behaviour)

    def states(self, *names: str) -> None:
        """What the queued resource is from now on, a state for each time it is asked."""
        (self.folder / "states").write_text("\n".join(names))

    def after_create(self, *names: str) -> None:
        (self.folder / "states-after-create").write_text("\n".join(names))

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", str(POD), *words],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def begin(self, *words: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(POD), *words],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def verbs(self) -> list[str]:
        """The calls to gcloud so far, without the questions for the state; forgets them."""
        path = self.folder / "calls.jsonl"
        calls = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        )
        path.write_text("")
        return [call[3] for call in calls if call[3] != "describe"]

    def starts(self) -> int:
        """How often training has been started, over all workers that are there."""
        return sum(len(path.read_text().split()) for path in self.workers.glob("*/starts"))

    def wait_until(self, condition, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.05)
