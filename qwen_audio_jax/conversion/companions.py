"""Small files that lie beside an original's weights and are kept through a conversion."""

import pathlib
import shutil

KEPT = (
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
FOLDER = "companions"


def take(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies them from an original's folder into an imported one."""
    for name in KEPT:
        if (source / name).is_file():
            (folder / FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / FOLDER / name)


def give(folder: pathlib.Path, out: pathlib.Path) -> None:
    """Copies them from a run or imported folder, where there are any, into an exported one."""
    for name in KEPT:
        if (folder / FOLDER / name).is_file():
            shutil.copyfile(folder / FOLDER / name, out / name)
