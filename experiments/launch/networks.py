"""Several networks by a folder or a pattern: `badnet.path=models/` is each that is in there."""

from collections.abc import Sequence
from pathlib import Path

KEY = "badnet.path="
ENDINGS = (".keras", ".h5", ".hdf5")


def with_networks(typed: Sequence[str]) -> list[str]:
    """Return the arguments with the files in the place of a folder or a pattern of networks."""
    words: list[str] = []
    several = False
    for word in typed:
        files = networks_in(word.removeprefix(KEY)) if word.startswith(KEY) else []
        several |= len(files) > 1
        words.append(KEY + ",".join(map(_quoted, files)) if files else word)
    return [*(["-m"] if several and not {"-m", "--multirun"} & set(words) else []), *words]


def networks_in(path: str) -> list[str]:
    """Return the networks that a folder or a pattern stands for, none of what is neither."""
    place = Path(path)
    if place.is_dir():
        return sorted(str(file) for file in place.rglob("*") if file.suffix in ENDINGS)
    if not set("*?[") & set(path):
        return []
    anchor = Path(place.anchor)
    found = anchor.glob(str(place.relative_to(anchor)))
    return sorted(str(file) for file in found if file.suffix in ENDINGS)


def _quoted(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
