r"""Converts checkpoints from and to PyTorch folders.

    python -m qwen_audio_jax.convert import --source=Qwen2-Audio-7B --out=checkpoints/qwen2_audio
    python -m qwen_audio_jax.convert import --source=whisper-large-v3 --source=Qwen2.5-7B \
        --languages=cs,nl --out=checkpoints/start
    python -m qwen_audio_jax.convert export --checkpoint=runs/mine --out=exported

    python -m qwen_audio_jax.convert import --source=Qwen2-Audio-7B-Instruct --source=my_adapter \
        --out=checkpoints/adapted
    python -m qwen_audio_jax.convert export --checkpoint=runs/lora --out=adapter --adapter

`import` recognises Qwen2-Audio, Qwen-Audio and Qwen-Audio-Chat, a Whisper encoder of any size
(names of transformers or of openai/whisper), and a Qwen, Qwen2, Qwen3 or Llama decoder, in
safetensors files. An encoder and a decoder together, or one of them alone, start a new model:
train it with --config.init_from=OUT. Tokenizer files are taken along. A text model's vocabulary
gets control tokens, tags of eight languages among them, and those of --languages. A PEFT adapter
(LoRA) stands beside the model that it was trained on, and stays an adapter: train on from it.

`export` writes the folder that the originals' code opens: transformers for Qwen2-Audio, the names
of the released files for Qwen-Audio. --adapter writes the adapters alone, as a folder that PEFT
opens: onto transformers 5, or with --spelling=4 onto transformers 4, as ms-swift has it.

Tensors keep their dtype unless --dtype says otherwise, and their bits: what is imported and
exported again is the same. A conversion that is broken off leaves nothing that looks finished.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after one sentence on what is wrong."""
    options = _parser().parse_args(arguments)
    # Imported late: --help should not wait for JAX.
    from qwen_audio_jax.conversion import adapter_exporting, exporting, importing, vocabulary

    try:
        if options.command == "import":
            languages = options.languages
            codes = () if languages is None else vocabulary.read_languages(languages)
            importing.run(options.source, options.out, codes)
        elif options.adapter:
            adapter_exporting.run(
                options.checkpoint,
                options.out,
                options.dtype,
                options.spelling or "5",
                options.init_from,
            )
        elif options.spelling:
            raise ValueError("--spelling: is of the names in an adapter; add --adapter")
        else:
            exporting.run(
                options.checkpoint,
                options.out,
                options.dtype,
                options.shard_gb,
                options.init_from,
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qwen_audio_jax.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="import|export")
    importer = commands.add_parser("import", help="PyTorch folder to checkpoint")
    importer.add_argument(
        "--source",
        type=pathlib.Path,
        action="append",
        required=True,
        metavar="DIR",
        help="folder with config.json and *.safetensors; twice for an encoder and a decoder, or a "
        "model and its PEFT adapter",
    )
    importer.add_argument(
        "--out", type=pathlib.Path, required=True, metavar="DIR", help="new checkpoint folder"
    )
    importer.add_argument(
        "--languages",
        metavar="CODE,...",
        help="languages whose tags a text model's vocabulary gets as well, as cs,nl",
    )
    exporter = commands.add_parser("export", help="checkpoint to PyTorch folder")
    exporter.add_argument(
        "--checkpoint",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="a run folder (its last step), one of its checkpoints/STEP, or an imported folder",
    )
    exporter.add_argument(
        "--out", type=pathlib.Path, required=True, metavar="DIR", help="new PyTorch folder"
    )
    exporter.add_argument(
        "--init-from",
        default="",
        metavar="DIR",
        help="where the weights lie by now that the run started from and kept frozen",
    )
    exporter.add_argument(
        "--adapter", action="store_true", help="write the adapters alone, as a PEFT folder"
    )
    exporter.add_argument(
        "--spelling",
        choices=("5", "4"),
        help="of a Qwen2-Audio adapter: names of transformers 5 (the default) or 4 (ms-swift)",
    )
    exporter.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        help="of the tensors written; by default as in the checkpoint",
    )
    exporter.add_argument(
        "--shard-gb",
        type=float,
        default=5.0,
        metavar="GB",
        help="largest safetensors file (default: 5); an adapter is always one",
    )
    return parser


if __name__ == "__main__":
    # The name of a folder may be no text.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
