"""Two real processes, connected by JAX and exchanging over gloo, against one."""

import json
import pathlib
import shutil
import signal
import socket
import time

import pytest
from conftest import write_corpus
from processes import STEPS, assert_same, finish, main, rows, run, said, start

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder / "tones", train=40, validation=6)
    write_corpus(folder / "elsewhere" / "tones", train=41, validation=6)
    return folder


@pytest.fixture(scope="module")
def one(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "one"
    run(1, root, workdir)
    return workdir


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "two"
    return workdir, run(2, root, workdir)


def test_two_processes_train_to_the_same_parameters_as_one(one, two):
    assert_same(one, two[0])


def test_an_evaluation_on_two_processes_gives_the_same_table(one, two):
    table, wanted = (
        json.loads((workdir / "evaluation.json").read_text()) for workdir in (two[0], one)
    )
    scores = [row for row in table if row["metric"] != "loss"]
    assert scores == [row for row in wanted if row["metric"] != "loss"]
    assert scores[0]["n"] == 6
    # Losses to float32's rounding, as in training.
    assert len(table) == len(wanted) == len(scores) + 2
    for row, other in zip(table, wanted, strict=True):
        assert row == other | {
            "value": pytest.approx(other["value"], abs=1e-5),
            "baseline": pytest.approx(other["baseline"], abs=1e-5),
        }


def test_each_process_answers_its_share_and_all_are_the_answers_of_one(one, two):
    def answers(workdir, name):
        return {row["key"]: row for row in rows(workdir, f"evaluation/answers-{name}.jsonl")}

    first, second = (answers(two[0], f"0000{n}-of-00002") for n in (0, 1))
    assert (len(first), len(second)) == (3, 3)
    # Their keys have the weights, which differ in their last digits.
    texts = [sorted(row["text"] for row in some.values()) for some in
             (first | second, answers(one, "00000-of-00001"))]  # fmt: skip
    assert texts[0] == texts[1]
    items = [rows(workdir, "evaluation/items.jsonl") for workdir in (two[0], one)]
    assert [item["id"] for item in items[0]] == [item["id"] for item in items[1]]
    assert {item["key"] for item in items[0]} == first.keys() | second.keys()


def test_process_0_alone_writes_and_speaks(one, two):
    workdir, folder = two
    assert {path.name for path in one.iterdir()} == {
        path.name for path in workdir.iterdir() if path.name != "compilation_cache"
    }
    assert len(rows(workdir)) == STEPS
    assert [event["event"] for event in rows(workdir, "events.jsonl")].count("start") == 1
    assert len(list((workdir / "tensorboard").glob("events*"))) == 1
    assert "instrument_classification" in said(folder, 0)
    lines = [line for line in said(folder, 1).splitlines() if "Gloo" not in line]
    assert [line for line in lines if not line.startswith("waiting at")] == []


@pytest.mark.slow
def test_a_signal_to_one_ends_both_and_one_process_goes_on(root, one, tmp_path):
    workdir, folder = tmp_path / "run", tmp_path / "said"
    processes = start(2, main(root, workdir), folder)
    log = workdir / "metrics.jsonl"
    while processes[0].poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    finish(processes, folder)
    assert "stopped by SIGTERM; the same command goes on from here" in said(folder, 1)
    assert "stopped by a signal to another process; the same command" in said(folder, 0)
    (step,) = (workdir / "checkpoints").glob("[0-9]*")
    assert rows(workdir)[-1]["step"] == int(step.name) < STEPS
    run(1, root, workdir)
    assert_same(one, workdir)
    starts = [event for event in rows(workdir, "events.jsonl") if event["event"] == "start"]
    assert [event["step"] for event in starts] == [0, int(step.name)]


@pytest.mark.slow
def test_two_processes_go_on_from_one(root, one, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(one, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    run(2, root, workdir)
    assert_same(one, workdir)


READS = """
import importlib.util, json, sys
from data_pipelines.pipeline import PackedBatches
from data_pipelines.records import Corpus
from qwen_audio_jax import run_config
from qwen_audio_jax.parallel import distributed
from qwen_audio_jax.parallel.sharding import make_mesh
from qwen_audio_jax.training.start import open_data


spec = importlib.util.spec_from_file_location("pretrain", "configs/pretrain.py")
pretrain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pretrain)
values = pretrain.get_config().to_dict()
values["data"] |= {"root": sys.argv[1], "mixture": {"tones": 1.0}, "shapes": ((4, 64, 128),)}
config = run_config.from_mapping(values)
group = distributed.initialize(config.wait)
data, _ = open_data(config, make_mesh(config.mesh))
read, record = [], Corpus.record
def counted(corpus, split, number):
    read.append(corpus.index(split)[number].id)
    return record(corpus, split, number)
Corpus.record = counted
batch = PackedBatches(data.corpora, data.preprocessor, data.plan, data.local_rows)[0]
print(json.dumps({"read": read, "all": data.batch_ids(0), "rows": len(batch["tokens"])}))
distributed.shutdown(group)
"""


def test_each_process_reads_only_its_rows(root, tmp_path):
    finish(start(2, ["-c", READS, str(root)], tmp_path), tmp_path)
    first, second = (json.loads(said(tmp_path, n).splitlines()[-1]) for n in (0, 1))
    assert first["rows"] == second["rows"] == 2
    assert first["read"]
    assert second["read"]
    assert first["all"] == second["all"] == first["read"] + second["read"]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("train.steps=11", "config.train.steps is 11 there and 12 on process 0; start all"),
        ("data.root={root}/elsewhere", "the digest of corpus 'tones' is "),
        pytest.param(
            "data.root={root}/nowhere",
            "nowhere/tones: no corpus there; build one with",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_differs_is_named_on_every_process(root, tmp_path, other, sentence):
    own = {1: [f"--config.{other.format(root=root)}"]}
    processes = start(2, main(root, tmp_path / "run"), tmp_path, own)
    assert [process.wait(timeout=120) for process in processes] == [1, 1]
    for number in (0, 1):
        errors = [line for line in said(tmp_path, number).splitlines() if "error: " in line]
        assert len(errors) == 1
        assert sentence in errors[0]
        assert "Traceback" not in said(tmp_path, number)
        if number == 0 or "digest" in sentence:
            assert f"process 1 ({HOST}) of 2" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_death_ends_the_other_with_a_sentence(root, tmp_path, number):
    workdir = tmp_path / "run"
    processes = start(2, main(root, workdir, **{"train.steps": 1000}), tmp_path)
    log = workdir / "metrics.jsonl"
    while processes[0].poll() is None and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.01)
    processes[number].kill()
    other = 1 - number
    # JAX aborts when its coordinator, in process 0, is gone; the sentence comes first.
    assert processes[other].wait(timeout=60) in ((1,) if number else (1, -signal.SIGABRT))
    assert f"error: process {number} " in said(tmp_path, other)
    assert "has ended without a word; its own log says why" in said(tmp_path, other)
    processes[number].wait()


@pytest.mark.slow
def test_one_process_builds_the_synthetic_corpus(tmp_path):
    options = {
        "data.mixture": json.dumps({"synthetic": 1.0}),
        "data.shapes": "((16, 144, 352), (8, 448, 1024), (8, 1280, 3264))",
        "train.steps": 1,
        "evaluate.limit": 1,
        "wait.meeting": 600,
    }
    workdir = tmp_path / "run"
    folder = run(2, tmp_path / "data", workdir, **options)
    assert said(folder, 0).count("building the synthetic corpus") == 1
    assert "building" not in said(folder, 1)
    assert f"waiting at 'the synthetic corpus' for process 0 ({HOST}) of 2" in said(folder, 1)
    assert pathlib.Path(tmp_path / "data" / "synthetic" / "train.index.jsonl").is_file()
