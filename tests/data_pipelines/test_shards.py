"""A build in several shards: the same for any workers, under Beam, and when it was broken off."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import tone_record

from data_pipelines import build, staging
from data_pipelines.beam_runner import beam_runner
from data_pipelines.build_workers import Work, shards_of
from data_pipelines.records import Corpus, CorpusError, RejectedRecord
from data_pipelines.shards import ShardFiles

COUNT, PER_SHARD = 25, 4
HERE = pathlib.Path(__file__).parent
BUILD = f"""
import pathlib, sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parent)!r}]
import test_shards
test_shards.built(pathlib.Path(sys.argv[1]))
"""


def make(job: int):
    """A job's record; the second shard has none, and one file breaks in an unforeseen way."""
    slow = os.environ.get("SLOW_FROM")
    if slow and job >= int(slow):
        time.sleep(60)
    if PER_SHARD <= job < 2 * PER_SHARD:
        raise RejectedRecord("it is gone")
    record = tone_record(job)
    return dataclasses.replace(record, audio=(Breaking(),)) if job == 13 else record


class Breaking(bytes):
    """Audio that no decoder expects."""

    def __new__(cls):
        return super().__new__(cls, b"fLaC")

    def rfind(self, *_):
        raise ZeroDivisionError


def failing(job: int):
    """Breaks at its tenth job, as FAIL says."""
    kind = os.environ.get("FAIL")
    if job == 9 and kind == "dies":
        os._exit(1)
    if job == 9 and kind:
        raise {"import": ImportError, "stopped": KeyboardInterrupt, "odd": KeyError}[kind]("it")
    return make(job)


def twice(job: int):
    """Records that all have one id."""
    return dataclasses.replace(make(job), id="same")


def row_of(job: int) -> int:
    return job + 1


def size_of(job: int) -> int:
    return 1000


def work(count: int = COUNT) -> dict[str, Work]:
    return {"train": Work(make, range(count), row_of, size_of)}


def built(out: pathlib.Path, **options) -> dict[str, bytes]:
    build.build_corpus(out, work(), per_shard=PER_SHARD, **{"workers": 1, **options})
    return contents(out)


def contents(out: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return built(tmp_path_factory.mktemp("whole") / "corpus")


def test_shards_are_ranges_of_rows(tmp_path, whole):
    built(tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    jobs = [i for i in range(COUNT) if not PER_SHARD <= i < 2 * PER_SHARD and i != 13]
    assert [row.id for row in corpus.index("train")] == [tone_record(i).id for i in jobs]
    # The shard without a record is left out.
    assert len(list(corpus.path.glob("*.array_record-*-of-00006"))) == 6
    assert whole["rejected.jsonl"].count(b"it is gone") == PER_SHARD
    assert b'"row": 14' in whole["rejected.jsonl"]
    assert not [name for name in whole if "done" in name or "part" in name]


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers(tmp_path, whole, workers):
    assert built(tmp_path / "corpus", workers=workers) == whole


def test_beam_makes_the_same_bytes(tmp_path, whole):
    pytest.importorskip("apache_beam", reason="needs the extra [beam]")
    assert built(tmp_path / "corpus", runner=beam_runner("direct")) == whole


def test_the_size_of_shards_follows_the_source():
    assert Work(make, range(10), row_of, lambda _: 50_000_000).per_shard() == 4
    assert Work(make, range(10**9), row_of, lambda _: 100_000).per_shard() == 2000
    assert Work(make, range(10), row_of, lambda _: 0).per_shard() == 8192
    assert Work(make, range(10), row_of, lambda _: 10**12).per_shard() == 1


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_was_broken_off_goes_on(tmp_path, whole, stop, capsys):
    out = tmp_path / "corpus"
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(out)],
        env=os.environ | {"SLOW_FROM": "18"},
        stderr=subprocess.PIPE,
    )
    while not (folders := staging.unfinished(out)) or not (
        ShardFiles(folders[0], "train", 3).is_done()
    ):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(stop)
    said = process.communicate()[1].decode()
    assert (stop == signal.SIGINT) == ("the same command goes on with it" in said)
    (folder,) = staging.unfinished(out)
    assert not out.exists()
    before = ShardFiles(folder, "train", 3).shard.stat().st_mtime_ns
    assert built(out) == whole
    assert "going on: 4 of 7 shards are there" in capsys.readouterr().err
    kept = out / "corpus-train.array_record-00002-of-00006"
    assert kept.stat().st_mtime_ns == before
    assert staging.unfinished(out) == []


def test_workers_end_with_a_build_that_was_killed(tmp_path):
    code = BUILD.replace("(pathlib.Path(sys.argv[1]))", "(pathlib.Path(sys.argv[1]), workers=2)")
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "corpus")],
        env=os.environ | {"SLOW_FROM": "0"},
        stderr=subprocess.PIPE,
    )
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(workers := children.read_text().split()) < 2:  # one that tracks resources, and one
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(2)  # until they are at work
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(is_running(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: str) -> bool:
    try:
        return (
            pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("kind", "workers", "error", "said"),
    [
        ("dies", 2, staging.BuildInterrupted, "a worker process died"),
        ("import", 1, ImportError, "it"),
        ("import", 2, ImportError, "it"),
        ("import", "beam", staging.BuildInterrupted, "--runner=direct failed: .*it"),
    ],
)
def test_what_is_no_fault_of_the_source_keeps_what_was_made(
    tmp_path, whole, monkeypatch, capsys, kind, workers, error, said
):
    options = {"workers": workers}
    if workers == "beam":
        pytest.importorskip("apache_beam", reason="needs the extra [beam]")
        options = {"runner": beam_runner("direct", ["--direct_num_workers=1"])}
    out = tmp_path / "corpus"
    part = {"train": Work(failing, range(COUNT), row_of, size_of)}
    monkeypatch.setenv("FAIL", kind)
    with pytest.raises(error, match=said):
        build.build_corpus(out, part, per_shard=PER_SHARD, **options)
    (folder,) = staging.unfinished(out)
    assert not list(folder.glob("*.pickle"))
    monkeypatch.delenv("FAIL")
    capsys.readouterr()
    build.build_corpus(out, part, per_shard=PER_SHARD, **options)
    if workers != "beam":  # which has shards made in any order
        assert "going on: 2 of 7 shards are there" in capsys.readouterr().err
    assert contents(out) == whole


def test_a_row_that_breaks_its_source_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", "odd")
    part = {"train": Work(failing, range(8, 12), row_of, size_of)}
    made = build.build_corpus(tmp_path / "corpus", part, workers=1)
    assert made["train"].rejected == [{"row": 10, "reason": "cannot be read ('it' is missing)"}]
    assert len(Corpus(tmp_path / "corpus").index("train")) == 3


def test_a_split_that_is_joined_is_not_made_again(tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    both = {
        "train": Work(make, range(COUNT), row_of, size_of),
        "validation": Work(failing, range(8, 12), row_of, size_of),
    }
    monkeypatch.setenv("FAIL", "stopped")
    with pytest.raises(KeyboardInterrupt):
        build.build_corpus(out, both, workers=1, per_shard=PER_SHARD)
    (folder,) = staging.unfinished(out)
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("corpus-train*-of-00006")}
    assert len(before) == 6
    # As if it had been killed while it gave the shards their names.
    (folder / "corpus-train.array_record-00005-of-00006").rename(
        ShardFiles(folder, "train", 6).shard
    )
    monkeypatch.delenv("FAIL")
    made = build.build_corpus(out, both, workers=1, per_shard=PER_SHARD)
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("corpus-train*")} == before
    assert [done.records.total() for done in made.values()] == [20, 4]
    assert Corpus(out).splits == ("train", "validation")
    assert not list(out.glob("*joined*"))


def test_a_shard_that_is_done_stays(tmp_path):
    (part,) = work(3).values()
    (shard,) = shards_of(tmp_path, "train", part, 4)
    shard()
    files = ShardFiles(tmp_path, "train", 0)
    before = [files.shard.stat().st_mtime_ns, files.index.read_bytes()]
    dataclasses.replace(shard, work=dataclasses.replace(part, jobs=range(1)))()
    assert [files.shard.stat().st_mtime_ns, files.index.read_bytes()] == before


def test_another_build_does_not_go_on_with_it(tmp_path, capsys):
    out = tmp_path / "corpus"
    folder = tmp_path / "corpus.unfinished-0123456789abcdef"
    folder.mkdir()
    (folder / "train-00000.done.json").write_text("nonsense")
    built(out)
    assert f"note: {folder} is of an unfinished build" in capsys.readouterr().err
    assert folder.is_dir()


def test_an_error_leaves_nothing_and_a_full_disk_no_corpus(tmp_path):
    out = tmp_path / "corpus"

    with pytest.raises(CorpusError, match="the source gave the id 'same' twice"):
        build.build_corpus(
            out,
            {"train": Work(twice, range(9, 12), row_of, size_of)},
            workers=1,
            per_shard=2,
        )
    assert list(tmp_path.iterdir()) == []
    script = (
        "import resource, signal, sys\n"
        "from data_pipelines import build\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(build.main(['--source=synthetic', '--tasks=instrument_classification',\n"
        "    '--train_examples=40', '--validation_examples=1', '--workers=1', '--out=corpus']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "the same command goes on with it" in done.stderr
    assert not out.exists()


def test_two_builds_of_the_same_at_once(tmp_path, whole):
    """The second waits, and finds it built."""
    out = tmp_path / "corpus"
    command = [sys.executable, "-c", BUILD, str(out)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) in ([0, 1], [0, 0]), said
    if any(process.returncode for process in both):
        loser = next(s for s, process in zip(said, both, strict=True) if process.returncode)
        assert "another process built" in loser or "choose another --out" in loser
    assert contents(out) == whole


def test_beam_that_is_not_there_is_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    arguments = ["--source=synthetic", f"--out={tmp_path / 'c'}", "--runner=direct"]
    assert build.main(arguments) == 1
    assert "pip install 'qwen-audio-jax[beam]'" in capsys.readouterr().err
