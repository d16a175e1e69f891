"""Shards made by Apache Beam: on this machine, or on a cluster that sees the same folders.

Every worker makes whole shards, by the same code as a build without Beam, and writes them into
the folder that the launching process then moves into place. So the folder, and the source's files,
must be on a file system that all workers mount; an object store does as far as it is mounted.
"""

import functools
import pathlib
import pickle
from collections.abc import Callable, Sequence

from data_pipelines.build_workers import ShardWork
from data_pipelines.records import CorpusError
from data_pipelines.staging import BuildInterrupted

RUNNERS = {
    "direct": "DirectRunner",
    "dataflow": "DataflowRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
}


def beam_runner(name: str, arguments: Sequence[str] = ()) -> Callable[[Sequence[ShardWork]], None]:
    """A runner for `build.build_corpus`.

    Args:
        name: a key of RUNNERS.
        arguments: Beam's pipeline options, as on its command line.

    Raises:
        CorpusError: Beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise CorpusError(
            f"--runner={name} needs Apache Beam: pip install 'qwen-audio-jax[beam]'"
        ) from error

    def run(shards: Sequence[ShardWork]) -> None:
        if not shards:
            return
        options = PipelineOptions([f"--runner={RUNNERS[name]}", *arguments])
        # A runner's job may not be large, and a list of a source's files may be.
        listed = shards[0].folder / f"{shards[0].split}.work.pickle"
        listed.write_bytes(pickle.dumps({shard.number: shard for shard in shards}))
        try:
            with beam.Pipeline(options=options) as pipeline:
                _ = (
                    pipeline
                    | beam.Create([shard.number for shard in shards])
                    | beam.Reshuffle()  # or a runner may take all of them for one bundle
                    | beam.Map(functools.partial(_make, str(listed)))
                )
        except Exception as error:  # each runner has its own
            last = str(error).strip().splitlines() or [repr(error)]
            raise BuildInterrupted(f"--runner={name} failed: {last[-1].strip()}") from error
        finally:
            listed.unlink(missing_ok=True)

    return run


def _make(listed: str, number: int) -> None:
    _shards(listed)[number]()


@functools.lru_cache(maxsize=1)
def _shards(listed: str) -> dict[int, ShardWork]:
    return pickle.loads(pathlib.Path(listed).read_bytes())
