"""The files of a run: drawn where they are drawn, verified where that is asked for, opened."""

from pathlib import Path

from backdoor.attacks.made import make
from backdoor.cache import sha256
from backdoor.errors import UserError
from backdoor.pictures.readers import files_behind, open_pictures
from backdoor.pictures.readers.wanted import Wanted
from backdoor.pictures.scale import divided_by
from backdoor.pictures.split import some_of, split_by_class
from backdoor.pictures.test_bed import (
    CLEAN_TEST,
    CLEAN_VALID,
    POISONED_TEST,
    POISONED_VALID,
    Poisoned,
    TestBed,
)
from experiments.launch.settings import Settings


def made_here(path: Path, settings: Settings) -> bool:
    """Tell whether a network is one that this program makes by itself, and no stranger's."""
    data = settings.dataset
    return bool(data.draw and data.made) and Path(str(data.made)) in path.parents


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
            f"badnet.path: expected a .keras or .h5 file, got auto, and the data set {data.name} "
            f"has no network of its own"
        )
    candidates = [Path(candidate) for candidate in data.badnet]
    return next((path for path in candidates if path.exists()), candidates[0])


def files_of(settings: Settings) -> list[list[Path]]:
    """Return all files that a result depends on, set by set in the same order, none where none."""
    sets = settings.dataset.files.values()
    return [[badnet_path(settings)], *(files_behind(path) if path else [] for path in sets)]


def make_or_verify(settings: Settings) -> None:
    """Have the files in place: make those that are made, compare those that are published."""
    data, recipe = settings.dataset, settings.recipe
    if recipe and data.made:
        made = Path(data.made)
        if any(made in path.parents for paths in files_of(settings) for path in paths):
            make(recipe, made)
    if data.verify:
        _verify(settings)


def open_bed(settings: Settings, shape: tuple[int | None, ...] | None = None) -> TestBed:
    """Open the pictures; those of a scale that is not known yet are as stored.

    Args:
        shape: Height, width, channels that the network takes.
    """
    data = settings.dataset
    scale = divided_by(1 if data.divide_by is None else data.divide_by)
    wanted = Wanted(scale, shape, data.keys.data, data.keys.label)
    given = {path for path in data.files.values() if path is not None}
    opened = {path: open_pictures(path, wanted=wanted) for path in sorted(given)}
    sets = {name: opened[path] for name, path in data.files.items() if path is not None}
    if data.clean:
        halves = split_by_class(sets[CLEAN_VALID], data.test_share, settings.seed)
        sets |= dict(zip((CLEAN_VALID, CLEAN_TEST), halves, strict=True))
    if settings.valid_pictures is not None:
        sets[CLEAN_VALID] = some_of(sets[CLEAN_VALID], settings.valid_pictures, settings.seed)
    poisoned = None
    if POISONED_TEST in sets:
        poisoned = Poisoned(sets[POISONED_VALID], sets[POISONED_TEST], settings.target)
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
