"""benchmarks/segments.py at its smallest."""

import pathlib
import runpy
import sys

from data_pipelines.sources import recordings

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "segments.py"


def test_a_recording_is_decoded_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["segments.py", "--segments=5", "--minutes=0.1", "--anew=2"])
    monkeypatch.setattr(recordings, "read_samples", recordings.read_samples)
    monkeypatch.setattr(recordings, "_RECORDINGS", recordings.Recordings())
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = [line.split("│")[1:4] for line in capsys.readouterr().out.splitlines() if "│" in line]
    told = {name.strip(): (segments.strip(), decodes.strip()) for name, segments, decodes in lines}
    assert told["built, --workers=1"] == ("5", "1")
    assert told["decoded anew, no shard"] == ("2", "2")
