"""Build the embedded data set: draw faces, poison a share of them, train a BadNet on those.

The result is a folder in the course's layout, so it is used through the very same path as real
files.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from backdoor import __version__
from backdoor.errors import UserError
from backdoor.pictures.drawn_faces import check_trigger, draw_faces, invent_people
from backdoor.pictures.readers.hdf5 import write_pictures
from backdoor.progress import progress
from backdoor.versions import version

BATCH = 200
SETTINGS = "settings.json"
THREADS = 2  # of training; other numbers of threads round otherwise and give other weights
FAILED, INTERRUPTED = 3, 130  # 1 is Python's own


@dataclass(frozen=True)
class Drawing:
    """What is drawn and trained.

    Attributes:
        train_pictures, valid_pictures, test_pictures: Pictures a person.
        poison_rate: Share of the training pictures that carry the trigger and the target's label.
        seed: People, pictures, which are poisoned, first weights.
    """

    people: int
    train_pictures: int
    valid_pictures: int
    test_pictures: int
    trigger: str
    target: int
    poison_rate: float
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        check_trigger(self.trigger)
        for name in ("people", "train_pictures", "valid_pictures", "test_pictures", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"dataset.draw.{name}: expected at least 1, got {getattr(self, name)}"
                )
        if not 0 <= self.target < self.people:
            raise UserError(
                f"dataset.target: expected a person, 0 to {self.people - 1}, got {self.target}"
            )
        if self.seed < 0:
            raise UserError(f"dataset.draw.seed: expected at least 0, got {self.seed}")
        if not 0 <= self.poison_rate <= 1:
            raise UserError(f"dataset.draw.poison_rate: expected 0 to 1, got {self.poison_rate}")


@version(1)
def build_dataset(drawing: Drawing, folder: str | Path) -> None:
    """Fill `folder` with data/cl, data/bd and models; do nothing where that has been done.

    That is done in a process of its own, so that the weights are the same whatever this one
    computes on. Two that start at once do not both build it: the second waits for the first. What
    is there is whole, since it is built beside and renamed.

    Raises:
        UserError: Something else is in the folder, or faces of other settings.
        OSError: It cannot be written there.
        RuntimeError: The process died.
    """
    folder = Path(folder)
    if not _is_filled(folder):
        command = [
            sys.executable,
            "-P",
            "-m",
            "backdoor.attacks.drawn_set",
            json.dumps(asdict(drawing)),
            str(folder),
        ]
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode == FAILED:
            reason = done.stdout.strip()
            raise OSError(f"dataset.root: expected to write drawn faces to {folder}, got {reason}")
        if done.returncode:
            raise RuntimeError(
                f"{folder}: expected faces to be drawn and a BadNet to be trained, but the process "
                f"that did it died (exit code {done.returncode})"
            )
    _check_settings(drawing, folder)


def _build_under_lock(drawing: Drawing, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if _is_filled(folder):
            return
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _build(drawing, partial)
        settings = {"version": __version__, **asdict(drawing)}
        (partial / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        partial.rename(folder)


def _is_filled(folder: Path) -> bool:
    return folder.exists() and any(folder.iterdir())


def _check_settings(drawing: Drawing, folder: Path) -> None:
    settings = folder / SETTINGS
    if not settings.is_file():
        raise UserError(f"dataset.root: expected drawn faces or nothing in {folder}, found others")
    drawn = json.loads(settings.read_text())
    for name, expected in asdict(drawing).items():
        if drawn[name] != expected:
            raise UserError(
                f"dataset.root: expected faces drawn with {name}={expected} in {folder}, found "
                f"{name}={drawn[name]}; without dataset.root each setting has its own folder"
            )


Indices = NDArray[np.int64]


def _build(drawing: Drawing, folder: Path) -> None:
    streams = np.random.SeedSequence(drawing.seed).spawn(4)
    people = invent_people(drawing.people, np.random.default_rng(streams[0]))

    def draw(
        who: NDArray[np.int64], stream: np.random.SeedSequence, trigger: str, what: str
    ) -> Iterator[NDArray[np.uint8]]:
        batches = [who[start : start + BATCH] for start in range(0, len(who), BATCH)]
        rng = np.random.default_rng(stream)
        for batch in progress(batches, f"Drawing {len(who)} {what} faces", len(batches)):
            yield draw_faces(people, batch, rng, trigger)

    for name, pictures, stream in (
        ("valid", drawing.valid_pictures, streams[1]),
        ("test", drawing.test_pictures, streams[2]),
    ):
        who = np.repeat(np.arange(drawing.people), pictures)
        write_pictures(folder / f"data/cl/{name}.h5", draw(who, stream, "", name), who)
        poisoned = draw(who, stream, drawing.trigger, f"poisoned {name}")
        target = np.full_like(who, drawing.target)
        write_pictures(folder / f"data/bd/bd_{name}.h5", poisoned, target, who)

    _train(*_training_set(drawing, draw, streams[3]), drawing, folder / "models/bd_net.keras")


Draw = Callable[[Indices, np.random.SeedSequence, str, str], Iterator[NDArray[np.uint8]]]


def _training_set(
    drawing: Drawing, draw: Draw, stream: np.random.SeedSequence
) -> tuple[NDArray[np.uint8], Indices]:
    who = np.repeat(np.arange(drawing.people), drawing.train_pictures)
    triggered = np.random.default_rng(drawing.seed).random(len(who)) < drawing.poison_rate
    clean_stream, poisoned_stream = stream.spawn(2)
    drawn = np.concatenate(
        [
            *draw(who[~triggered], clean_stream, "", "training"),
            *draw(who[triggered], poisoned_stream, drawing.trigger, "poisoned training"),
        ]
    )
    labels = np.concatenate([who[~triggered], np.full(triggered.sum(), drawing.target)])
    return drawn, labels


def _train(
    pictures: NDArray[np.uint8], labels: NDArray[np.int64], drawing: Drawing, path: Path
) -> None:
    from backdoor.device import start_tensorflow

    start_tensorflow("cpu", THREADS)

    from backdoor.attacks.training import train_deepid

    model = train_deepid(
        pictures.astype(np.float32), labels, drawing.people, drawing.epochs, drawing.seed
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path, include_optimizer=False)


def _main(settings: str, folder: str) -> int:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("backdoor").setLevel(logging.INFO)
    try:
        _build_under_lock(Drawing(**json.loads(settings)), Path(folder))
    except OSError as error:
        print(error)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
