"""launch/tpu_pod.sh: the commands it gives, and what it does when slices come and go."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

import pytest
from fake_cloud import POD, REPOSITORY, FakeCloud

from qwen_audio_jax.training import loop

SETTINGS = {
    "PATH": os.environ["PATH"],
    "PROJECT_ID": "my-project",
    "ZONE": "us-east5-a",
    "TPU_NAME": "audio",
    "ACCELERATOR_TYPE": "v5p-128",
    # Should a mistake here ever lead to the real gcloud, it reaches nothing.
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": "http://127.0.0.1:9/",
}
TRAIN = ("--config=configs/pretrain.py", "--workdir=/mnt/shared/runs/a", "--mount=gs://my-bucket")


def pod(*words: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", str(POD), *words], env=SETTINGS | settings, capture_output=True, text=True
    )


def dry_run(*words: str, **settings: str) -> str:
    """The commands, without the project, the zone and the commit, which are in all of them."""
    done = pod(words[0], "--dry-run", *words[1:], **settings)
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace(" --project=my-project --zone=us-east5-a", "")
    text = text.replace("gcloud compute tpus queued-resources", "gcloud")
    return re.sub(r"\b[0-9a-f]{40}\b", "COMMIT", text).replace(str(REPOSITORY), "CHECKOUT")


ASK = "gcloud describe audio '--format=value(state.state)'\n"
ALL = "gcloud ssh audio --node=all --worker=all '--command="
WORKER = "bash qwen-audio-jax/launch/tpu_worker.sh"
CREATE = "gcloud create audio --accelerator-type=v5p-128 --runtime-version=v2-alpha-tpuv5"
INSTALL = (
    "git -C CHECKOUT archive --format=tar.gz --output=./qwen-audio-jax.tar.gz COMMIT\n"
    "gcloud scp ./qwen-audio-jax.tar.gz audio: --node=all --worker=all\n"
    f"{ALL}rm -rf qwen-audio-jax.new && mkdir qwen-audio-jax.new && "
    "tar -xzf qwen-audio-jax.tar.gz -C qwen-audio-jax.new && "
    "bash qwen-audio-jax.new/launch/tpu_worker.sh install "
    "--mount=gs://my-bucket --mount-at=/mnt/shared'\n"
)
START = (
    f"{ALL}{WORKER} start --mount=gs://my-bucket --mount-at=/mnt/shared -- "
    "--config=configs/pretrain.py --workdir=/mnt/shared/runs/a'\n"
)
RESTART = (
    f"{ASK}{ASK}gcloud delete audio --force --quiet\n{ASK}{ASK}"
    f"{CREATE} --node-id=audio --quiet\n{ASK}"
    f"{ALL}! [ -e qwen-audio-jax ] || {WORKER} stop --force'\n{INSTALL}{START}"
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("create",), f"{ASK}{CREATE} --node-id=audio --quiet\n{ASK}"),
        (
            ("create", "--spot", "--slices=2", "--create-flag=--valid-until-duration=6h"),
            f"{ASK}{CREATE} --node-count=2 --node-prefix=audio --spot --valid-until-duration=6h "
            f"--quiet\n{ASK}",
        ),
        (("install", "--mount=gs://my-bucket"), INSTALL),
        (
            ("install", "--git=https://example.org/a.git", "--commit=abc"),
            f"{ALL}rm -rf qwen-audio-jax.new && git clone --quiet https://example.org/a.git "
            "qwen-audio-jax.new && git -C qwen-audio-jax.new checkout --quiet abc && "
            "bash qwen-audio-jax.new/launch/tpu_worker.sh install'\n",
        ),
        (("start", *TRAIN), START),
        (("logs",), f"gcloud ssh audio --node=0 --worker=0 '--command={WORKER} logs'\n"),
        (
            ("logs", "--all", "--ssh-flag=--internal-ip"),
            f"gcloud ssh audio --node=all --worker=all --internal-ip "
            f"'--command={WORKER} logs --all'\n",
        ),
        (("status",), f"{ASK}{ALL}{WORKER} status'\n"),
        (("stop",), f"{ASK}{ALL}{WORKER} stop'\n"),
        (("restart", *TRAIN), RESTART),
        (("watch", *TRAIN), f"{RESTART}{ASK}{ALL}{WORKER} status'\n"),
        (("delete",), f"{ASK}gcloud delete audio --force --quiet\n{ASK}"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_dry_run(words, expected):
    assert dry_run(*words) == expected


def test_dry_run_needs_no_gcloud(tmp_path):
    for name in ("bash", "dirname", "sed", "git", "date"):
        (tmp_path / name).symlink_to(shutil.which(name))
    assert dry_run("watch", *TRAIN, PATH=str(tmp_path)).count("gcloud") > 5


@pytest.mark.parametrize(
    ("accelerator", "version"),
    [
        ("v3-32", "tpu-ubuntu2204-base"),
        ("v4-64", "tpu-ubuntu2204-base"),
        ("v5litepod-256", "v2-alpha-tpuv5-lite"),
        ("v5p-128", "v2-alpha-tpuv5"),
        ("v6e-256", "v2-alpha-tpuv6e"),
    ],
)
def test_the_runtime_version_is_the_accelerators(accelerator, version):
    create = dry_run("create", ACCELERATOR_TYPE=accelerator).splitlines()[1]
    assert f"--accelerator-type={accelerator} --runtime-version={version} " in create
    assert "--runtime-version=mine " in dry_run("create", "--runtime-version=mine")


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("create",), {"PROJECT_ID": ""}, "--project is missing (or set PROJECT_ID)"),
        (("create",), {"ZONE": ""}, "--zone is missing (or set ZONE)"),
        (("stop",), {"TPU_NAME": ""}, "--name is missing (or set TPU_NAME)"),
        (("create",), {"ACCELERATOR_TYPE": ""}, "--accelerator is missing"),
        (("create",), {"ACCELERATOR_TYPE": "v9-8"}, "--runtime-version is missing"),
        (("create",), {"ACCELERATOR_TYPE": "v5e-16"}, "--accelerator=v5litepod-16"),
        (("create",), {"ACCELERATOR_TYPE": "tpu7x-16"}, "has no TPU7x"),
        (("create", "--slices=0"), {}, "--slices takes a number of slices, not '0'"),
        (("creat",), {}, "'creat' is no command"),
        (("create", "--sport"), {}, "'--sport' is not understood"),
        (("start", "--config=a.py"), {}, "--workdir is missing"),
        (("start", "--workdir=runs/a"), {}, "must be a whole path"),
        (("start", "--workdir=gs://b/a"), {}, "--mount=gs://BUCKET"),
        (("start", "--workdir=/mnt/shared/a", "--config.data.root=gs://b"), {}, "--mount=gs://"),
        (("start", "--workdir=/home/a", "--mount=gs://b"), {}, "is not below the mount"),
        (("install", "--mount=/mnt"), {}, "--mount=/mnt is neither"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words, settings, message):
    done = pod(*words, "--dry-run", **settings)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_help_names_every_command():
    text = pod("--help", PROJECT_ID="").stdout
    commands = ["create", "install", "start", "logs", "status", "stop"]
    for name in [*commands, "restart", "watch", "delete"]:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)


def test_arguments_survive_both_shells(tmp_path):
    odd = "--config.data.mixture={\"it's\": 1.0,  '$HOME': `x`}"
    line = dry_run("start", *TRAIN, odd, "--", "a \\ b", "").splitlines()[-1]
    command = shlex.split(line)[-1].removeprefix("--command=")
    assert shlex.split(command)[-3:] == [odd, "a \\ b", ""]

    with FakeCloud(tmp_path, hosts=2) as cloud:
        assert cloud("create").returncode == 0
        assert cloud("install").returncode == 0
        done = cloud("start", *TRAIN, odd, "--", "a \\ b", "")
        assert done.returncode == 0, done.stderr
        for home in sorted(cloud.workers.iterdir()):
            cloud.wait_until((home / "arguments").exists)
            assert (home / "arguments").read_text().split("\n")[-4:-1] == [odd, "a \\ b", ""]


def test_from_nothing_to_a_run_and_away_again_with_everything_said_twice(tmp_path):
    with FakeCloud(tmp_path, hosts=2) as cloud:
        for expected in (["create"], []):
            done = cloud("create")
            assert done.returncode == 0, done.stderr
            assert cloud.verbs() == expected
        assert "audio is ACTIVE: 1 x v5p-16" in done.stderr
        for _ in range(2):
            assert cloud("install", "--mount=gs://my-bucket/audio").returncode == 0
        for home in cloud.workers.iterdir():
            assert (home / "qwen-audio-jax" / "launch" / "tpu_worker.sh").exists()
            assert not (home / "qwen-audio-jax.new").exists()
            assert (home / "mounted").read_text() == (
                "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "
                "--metadata-cache-negative-ttl-secs=0 --only-dir=audio my-bucket /mnt/shared\n"
            )
        assert "worker w-1: installed" in cloud("status").stdout
        for word in ("started", "running"):
            assert f"worker w-0: {word}\nworker w-1: {word}\n" in cloud("start", *TRAIN).stdout
        cloud.wait_until(lambda: cloud.starts() == 2)
        assert "worker w-1: running" in cloud("status").stdout

        other = cloud("start", *TRAIN, "--config.train.steps=5")
        assert other.returncode != 0
        assert "training runs here with other flags; stop it first" in other.stdout
        assert "stop it before installing" in cloud("install").stdout
        for _ in range(2):
            done = cloud("stop")
            assert done.returncode == 0
            assert "worker w-0: stopped\nworker w-1: stopped\n" in done.stdout
        cloud.verbs()
        for expected in (["delete"], []):
            assert cloud("delete").returncode == 0
            assert cloud.verbs() == expected
        assert "nothing runs" in cloud("stop").stderr
        assert "audio is NONE" in cloud("status").stderr


def test_nfs_is_mounted_too(tmp_path):
    with FakeCloud(tmp_path, hosts=1, accelerator="v6e-8") as cloud:
        cloud("create")
        assert cloud("install", "--mount=10.0.0.2:/share").returncode == 0
        mounted = (cloud.workers / "w-0" / "mounted").read_text()
        assert mounted == "mount -t nfs -o hard,noatime 10.0.0.2:/share /mnt/shared\n"


def test_a_worker_that_gcloud_passes_over_is_an_error(tmp_path):
    with FakeCloud(tmp_path, hosts=2) as cloud:
        cloud("create")
        (tmp_path / "unreachable").write_text("w-1")
        done = cloud("install")
        assert done.returncode == 1
        assert "1 of 2 workers answered" in done.stderr


def test_what_cannot_be_had_is_told(tmp_path):
    with FakeCloud(tmp_path, hosts=1) as cloud:
        cloud.after_create("WAITING_FOR_RESOURCES", "FAILED")
        done = cloud("create")
        assert done.returncode == 2
        assert "audio is FAILED instead of becoming ACTIVE" in done.stderr
        assert "'tpu_pod.sh restart' replaces it" in cloud("create").stderr
        (tmp_path / "network-is-down").touch()
        assert "gcloud cannot tell the state of audio" in cloud("create").stderr


def test_stop_waits_and_restart_does_not_wait_for_ever(tmp_path):
    with FakeCloud(tmp_path, hosts=2) as cloud:
        cloud.behave("hang")
        cloud("create"), cloud("install"), cloud("start", *TRAIN)
        cloud.wait_until(lambda: cloud.starts() == 2)
        done = cloud("stop", STOP_SECONDS="1")
        assert done.returncode != 0
        assert "has not ended 1 s after SIGTERM" in done.stdout
        cloud.behave("run")
        assert cloud("restart", *TRAIN, STOP_SECONDS="1").returncode == 0
        cloud.wait_until(lambda: cloud.starts() == 4)


def test_watch_replaces_what_was_preempted_and_ends_with_training(tmp_path):
    with FakeCloud(tmp_path, hosts=2) as cloud:
        watch = cloud.begin("watch", *TRAIN, "--spot")
        cloud.wait_until(lambda: cloud.starts() == 2)
        assert cloud.verbs()[0] == "create"
        cloud.states("SUSPENDING", "SUSPENDED")
        cloud.wait_until(lambda: "start" in (tmp_path / "calls.jsonl").read_text())
        cloud.wait_until(lambda: cloud.starts() == 2)
        assert cloud.verbs()[:3] == ["delete", "create", "ssh"]
        # The network may fail for a while.
        (tmp_path / "network-is-down").touch()
        cloud.wait_until(lambda: (tmp_path / "calls.jsonl").read_text().count("\n") > 2)
        (tmp_path / "network-is-down").unlink()
        cloud.behave("finish")
        cloud.states("SUSPENDED")
        output, _ = watch.communicate(timeout=60)
        assert watch.returncode == 0, output
        assert "training has come to its end" in output


def test_watch_sees_to_a_worker_that_google_has_replaced(tmp_path):
    with FakeCloud(tmp_path, hosts=2) as cloud:
        watch = cloud.begin("watch", *TRAIN)
        cloud.wait_until(lambda: cloud.starts() == 2)
        home = cloud.workers / "w-1"
        pid = home / "qwen-audio-run" / "pid"
        cloud.wait_until(lambda: pid.exists() and pid.read_text())
        os.kill(int(pid.read_text()), signal.SIGKILL)
        home.rename(tmp_path / "gone")
        home.mkdir()
        cloud.wait_until(lambda: cloud.starts() == 3)
        subprocess.run(["bash", str(POD), "stop"], env=cloud.environment, check=True)
        output, _ = watch.communicate(timeout=60)
        assert watch.returncode == 0, output
        assert "training was stopped; 'restart' goes on" in output


def test_watch_begun_again_leaves_a_run_alone(tmp_path):
    with FakeCloud(tmp_path, hosts=1, accelerator="v5litepod-8") as cloud:
        cloud("create"), cloud("install"), cloud("start", *TRAIN)
        cloud.wait_until(lambda: cloud.starts() == 1)
        cloud.verbs()
        watch = cloud.begin("watch", *TRAIN)
        cloud.wait_until(lambda: (tmp_path / "calls.jsonl").read_text().count("status") > 2)
        assert cloud("stop").returncode == 0
        output, _ = watch.communicate(timeout=60)
        assert watch.returncode == 0, output
        assert "audio: running" in output
        assert set(cloud.verbs()) == {"ssh"}
        assert cloud.starts() == 1


def test_watch_gives_up_on_training_that_fails(tmp_path):
    with FakeCloud(tmp_path, hosts=1, accelerator="v5p-8") as cloud:
        cloud.behave("fail")
        done = cloud("watch", *TRAIN, "--failures=2")
        assert done.returncode == 2
        assert "2 failures within an hour" in done.stderr
        assert "worker w-0: failed with status 3" in done.stderr
        assert cloud.starts() == 3


def test_a_worker_knows_a_stopped_run_by_what_training_says():
    # Its exit status does not tell.
    worker = (REPOSITORY / "launch" / "tpu_worker.sh").read_text()
    phrase = re.search(r'grep -q "(.*?)"', worker)[1]
    assert phrase in pathlib.Path(loop.__file__).read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="the Google Cloud CLI is not installed")
def test_the_real_gcloud_takes_every_command(tmp_path):
    # It reads the whole command line before it finds that nobody is logged in. Nobody is, in this
    # environment, and nothing could be reached.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_TPU": "http://127.0.0.1:9/",
    }
    commands = set()
    for words in (
        ("watch", *TRAIN, "--spot", "--slices=2"),
        ("create", "--reserved", "--create-flag=--valid-until-duration=6h"),
        ("logs", "--all", "--ssh-flag=--tunnel-through-iap"),
        ("delete",),
    ):
        lines = pod(*words, "--dry-run").stdout.splitlines()
        commands |= {line for line in lines if line.startswith("gcloud")}
    for command in sorted(commands):
        done = subprocess.run(
            shlex.split(command), env=environment, capture_output=True, text=True, check=False
        )
        assert "do not currently have an active account" in done.stderr, command + done.stderr
