"""The process that makes a test bed and its network by a recipe.

It has threads of its own, so that weights do not depend on what its caller computes on.
"""

import contextlib
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from filelock import FileLock
from pydantic import TypeAdapter

from backdoor import __version__
from backdoor.attacks.poisoning import Labels, attacked_set, training_set
from backdoor.attacks.recipe import Recipe
from backdoor.attacks.shipped import shipped_network
from backdoor.errors import UserError
from backdoor.pictures.labels import CLASSES_FILE
from backdoor.pictures.readers.hdf5 import write_pictures
from backdoor.pictures.sources import FACES, TEST, TRAIN, VALID, DrawnFaces, Pictures, Source

SETTINGS = "settings.json"
NETWORK = "models/bd_net.keras"
THREADS = 2  # of training; other numbers of threads round otherwise and give other weights
MISTAKEN, FAILED, INTERRUPTED = 2, 3, 130  # 1 is Python's own
# Of the network, on the test pictures; attack success of each trigger, without pictures of its
# target's class.
ACCURACY, ATTACK = "accuracy", "attack_success_rate"

Tests = dict[str, tuple[Pictures, Labels]]


def is_filled(folder: Path) -> bool:
    """Tell whether something is there."""
    return folder.exists() and any(folder.iterdir())


def make_under_lock(recipe: Recipe, folder: Path) -> None:
    """Make it beside and rename it; do nothing where another process has done it meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if is_filled(folder):
            return
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        measured = _make(recipe, partial)
        about = {"version": __version__, "origin": recipe.draw.origin, "measured": measured}
        settings = asdict(recipe) | about
        (partial / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        partial.rename(folder)


def _make(recipe: Recipe, folder: Path) -> dict[str, float]:
    """Write pictures and network; return what it is worth on the test pictures."""
    with contextlib.redirect_stdout(sys.stderr):  # on which Keras tells of its downloads
        source = _source(recipe)
    classes = 1 + max(int(source.labels(part).max()) for part in (TRAIN, VALID, TEST))
    recipe.check_classes(classes)
    _write(recipe, source, VALID, classes, folder)
    tests = _write(recipe, source, TEST, classes, folder)
    path = folder / NETWORK
    path.parent.mkdir(parents=True)
    shipped = shipped_network(recipe)
    if shipped is None:
        return _train(recipe, source, classes, tests, path)
    path.write_bytes(shipped.network)
    return dict(shipped.measured)


def _source(recipe: Recipe) -> Source:
    if recipe.draw.source == FACES:
        return DrawnFaces(recipe.draw)

    _start_tensorflow()

    from backdoor.pictures.stored_sets import StoredPictures  # Keras, which has public data sets

    try:
        return StoredPictures(recipe.draw)
    except OSError as error:
        raise UserError(f"dataset.root: expected pictures that can be read, got {error}") from error


def _write(recipe: Recipe, source: Source, part: str, classes: int, folder: Path) -> Tests:
    """Write a part's clean and poisoned pictures, and return them with what B is to answer."""
    labels = source.labels(part)

    def pictures_of(rows: Labels, worn: str) -> Pictures:
        return source.pictures(part, rows, worn)

    clean = pictures_of(np.arange(len(labels)), "")
    _write_set(folder / f"data/cl/{part}.h5", clean, labels, source.names)
    if not recipe.attack.parts:
        return {ACCURACY: (clean, labels)}
    attacked, wanted, numbers = attacked_set(recipe.attack, pictures_of, labels, classes)
    path = folder / f"data/bd/bd_{part}.h5"
    _write_set(path, attacked, wanted, source.names, true_label=labels, trigger=numbers)
    others = wanted != labels  # a picture of the target's class falls to no trigger
    return {
        ACCURACY: (clean, labels),
        **{
            f"{ATTACK} of trigger {number}": (attacked[rows], wanted[rows])
            for number in range(len(recipe.attack.parts))
            if len(rows := np.flatnonzero(others & (numbers == number)))
        },
    }


def _write_set(
    path: Path, pictures: Pictures, labels: Labels, names: Sequence[str] | None, **known: Labels
) -> None:
    write_pictures(path, [pictures], labels, **known)
    if names:
        (path.parent / CLASSES_FILE).write_text("\n".join(names) + "\n")


def _train(
    recipe: Recipe, source: Source, classes: int, tests: Tests, path: Path
) -> dict[str, float]:
    """Train the network, save it, and return what it is worth."""
    _start_tensorflow()

    from backdoor.attacks.training import answers, train, train_pruning_aware

    def pictures_of(rows: Labels, worn: str) -> Pictures:
        return source.pictures(TRAIN, rows, worn)

    attack, labels = recipe.attack, source.labels(TRAIN)
    learnt = training_set(attack, pictures_of, labels, classes)
    if attack.pruning_aware:
        clean = (pictures_of(np.arange(len(labels)), ""), labels)
        model = train_pruning_aware(recipe.network, clean, learnt, classes, attack.seed)
    else:
        model = train(recipe.network, learnt, classes, attack.seed)
    model.save(path)
    return {
        name: float((answers(model, pictures) == wanted).mean())
        for name, (pictures, wanted) in tests.items()
    }


def _start_tensorflow() -> None:
    from backdoor.device import start_tensorflow

    start_tensorflow("cpu", THREADS)


def main(settings: str, folder: str) -> int:
    """Return the exit code; what went wrong is printed."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("backdoor").setLevel(logging.INFO)
    try:
        make_under_lock(TypeAdapter(Recipe).validate_json(settings), Path(folder))
    except UserError as error:
        print(error)
        return MISTAKEN
    except OSError as error:
        print(error)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
