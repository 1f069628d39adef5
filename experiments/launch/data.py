"""The files of a run: drawn where they are drawn, verified where that is asked for, opened."""

from pathlib import Path

from backdoor.attacks.drawn_set import build_dataset
from backdoor.cache import sha256
from backdoor.errors import UserError
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.test_bed import (
    CLEAN_TEST,
    CLEAN_VALID,
    POISONED_TEST,
    POISONED_VALID,
    Poisoned,
    TestBed,
)
from experiments.launch.settings import Settings


def badnet_path(settings: Settings) -> Path:
    """Return the network's file: `badnet.path`, or with `auto` the data set's own.

    Raises:
        UserError: The data set has no network of its own.
    """
    path, data = settings.badnet.path, settings.dataset
    if path != "auto":
        return Path(path)
    if not data.badnet:
        raise UserError(
            f"badnet.path: expected a .keras or .h5 file, got auto, and dataset={data.name} "
            f"has no network of its own"
        )
    candidates = [Path(candidate) for candidate in data.badnet]
    return next((path for path in candidates if path.exists()), candidates[0])


def files_of(settings: Settings) -> list[Path | None]:
    """Return all files that a result depends on, always in the same order; None where none is."""
    return [badnet_path(settings), *settings.dataset.files.values()]


def open_bed(settings: Settings) -> TestBed:
    """Draw or verify the files where that is asked for, then open them."""
    data, files = settings.dataset, settings.dataset.files
    if data.draw and data.root:
        root = Path(data.root)
        if any(path and root in path.parents for path in files_of(settings)):
            build_dataset(data.draw, root)
    if data.verify:
        _verify(settings)
    sets = {
        name: open_pictures(path, data.divide_by)
        for name, path in files.items()
        if path is not None
    }
    poisoned = None
    if POISONED_TEST in sets:
        poisoned = Poisoned(sets[POISONED_VALID], sets[POISONED_TEST], data.target)
    return TestBed(sets[CLEAN_VALID], sets[CLEAN_TEST], poisoned)


def _verify(settings: Settings) -> None:
    """Compare the files' SHA-256 with the published ones.

    Raises:
        UserError: One differs, or none are known of this data set.
    """
    data = settings.dataset
    if not data.sha256:
        raise UserError(f"dataset.verify: expected a data set with known SHA-256, got {data.name}")
    for name, expected in data.sha256.items():
        path = badnet_path(settings) if name == "badnet" else data.files[name]
        if path is None:
            continue
        if not path.is_file():
            raise UserError(f"{path}: expected the published {name}, found no such file")
        digest = sha256(path)
        if digest != expected:
            raise UserError(f"{path}: expected SHA-256 {expected}, got {digest}")
