"""Damaged manifests are built or refused, and the script that says so would notice otherwise."""

import importlib

import pytest

from data_pipelines import build

fuzz_manifests = importlib.import_module("benchmarks.fuzz_manifests")


def test_no_damaged_manifest_breaks_a_build():
    counts, defects = fuzz_manifests.fuzz(25, seed=7)
    assert defects == []
    assert counts["built"] + counts["refused whole"] == 25
    assert min(counts["built"], counts["refused whole"], counts["rows rejected"]) > 0


@pytest.mark.parametrize(
    "main",
    [
        lambda argv: 1 / 0,
        lambda argv: 2,
        lambda argv: 1,
        lambda argv: print("error: (KeyError('x'))", file=fuzz_manifests.sys.stderr) or 1,
        lambda argv: (_ for _ in ()).throw(SystemExit(2)),
    ],
)
def test_a_defect_is_counted(main, monkeypatch):
    monkeypatch.setattr(build, "main", main)
    assert len(fuzz_manifests.fuzz(1, seed=0)[1]) == 1
