"""Sources of clean pictures to train and to measure on, part by part."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from backdoor.errors import UserError
from backdoor.pictures.drawn_faces import SHAPE, draw_faces, invent_people
from backdoor.progress import progress

FACES, PICTURES = "faces", "pictures"
TRAIN, VALID, TEST = "train", "valid", "test"
PARTS = (TRAIN, VALID, TEST)
BATCH = 32  # faces, whose pixels then stay in a processor's cache
SMALLEST = 8  # pixels a side

Labels = NDArray[np.int64]
Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Known:
    """What is known of a public data set before it is read."""

    shape: tuple[int, int, int]
    names: Sequence[str]


DIGITS = tuple("0123456789")
PUBLIC = {
    "fashion_mnist": Known(
        (28, 28, 1),
        (
            "T-shirt or top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
            "bag", "ankle boot",
        ),
    ),
    "mnist": Known((28, 28, 1), tuple(f"digit {digit}" for digit in DIGITS)),
    "cifar10": Known(
        (32, 32, 3),
        (
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
            "truck",
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """Which pictures: the key `dataset.draw`.

    Attributes:
        source: `faces`, a public data set, or `pictures`, a folder or file of one's own.
        root: Where they are; None looks in the usual places.
        size: Height and width that one's own pictures are brought to; of these alone.
        classes: How many people; of other sources the first so many classes, None for all.
        train_pictures, valid_pictures, test_pictures: Of each class; None for all there are.
        seed: People and pictures, or which pictures are taken.
        train: Train a network even where trained weights come with the program.
    """

    source: Literal["faces", "fashion_mnist", "mnist", "cifar10", "pictures"]
    root: str | None
    size: int | None
    classes: int | None
    train_pictures: int | None
    valid_pictures: int | None
    test_pictures: int | None
    seed: int
    train: bool

    def __post_init__(self) -> None:
        for name in ("classes", *(f"{part}_pictures" for part in PARTS)):
            value = getattr(self, name)
            if value is None and self.source == FACES:
                raise UserError(f"dataset.draw.{name}: expected a number for drawn faces, got none")
            if value is not None and value < 1:
                raise UserError(f"dataset.draw.{name}: expected at least 1, got {value}")
        most = self.known and len(self.known.names)
        if self.classes is not None and most and self.classes > most:
            raise UserError(
                f"dataset.draw.classes: expected at most the {most} of {self.source}, got "
                f"{self.classes}"
            )
        if self.seed < 0:
            raise UserError(f"dataset.draw.seed: expected at least 0, got {self.seed}")
        if self.source == PICTURES and self.root is None:
            raise UserError("dataset.root: expected a folder or file of pictures, got none")
        if self.source == FACES and self.root is not None:
            raise UserError(
                f"dataset.root: expected none for drawn faces, which dataset.made says where to "
                f"keep, got {self.root}"
            )
        if (self.size is None) == (self.source == PICTURES) or (self.size or SMALLEST) < SMALLEST:
            raise UserError(
                f"dataset.draw.size: expected at least {SMALLEST} for one's own pictures, null for "
                f"others, got {self.size}"
            )

    @property
    def origin(self) -> str:
        """A digest of names and sizes of the files that are given; empty where none are."""
        return origin_of(self.root)

    @property
    def known(self) -> Known | None:
        return PUBLIC.get(self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of a picture."""
        if self.source == FACES:
            return SHAPE
        return self.known.shape if self.known else (self.size or 0, self.size or 0, 3)

    @property
    def known_classes(self) -> int | None:
        """How many classes there are, None where the pictures have to be read to tell."""
        return self.classes or (len(self.known.names) if self.known else None)


@functools.lru_cache
def origin_of(root: str | None) -> str:
    """Return a digest of names and sizes of the files at a path, as this process first saw them."""
    path = Path(root) if root else None
    if path is None or not path.exists():
        return ""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    listed = "".join(f"{file.relative_to(path)}:{file.stat().st_size}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


class Source(Protocol):
    """Pictures by part and row.

    Attributes:
        names: Of the classes, where they have any.
    """

    names: Sequence[str] | None

    def labels(self, part: str) -> Labels:
        """Return the classes of a part's pictures, (n,)."""

    def pictures(self, part: str, rows: NDArray[np.int64], worn: str) -> Pictures:
        """Return pictures of a part (m, height, width, channels) of 0..255, new ones.

        Args:
            worn: What faces wear on them; nothing where it is empty.
        """


class DrawnFaces:
    """Faces of invented people, a class each."""

    names: Sequence[str] | None = None

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.people = invent_people(drawing.known_classes or 0, (drawing.seed, 0))

    def labels(self, part: str) -> Labels:
        count = getattr(self.drawing, f"{part}_pictures")
        return np.repeat(np.arange(self.drawing.known_classes or 0), count)

    def pictures(self, part: str, rows: NDArray[np.int64], worn: str) -> Pictures:
        seed, who = (self.drawing.seed, 1 + PARTS.index(part)), self.labels(part)[rows]
        drawn = np.empty((len(rows), *SHAPE), np.uint8)
        starts = range(0, len(rows), BATCH)
        what = f"Drawing {len(rows)} {part} faces{' with ' if worn else ''}{worn}"
        for start in progress(starts, what, len(starts)):
            some = slice(start, start + BATCH)
            drawn[some] = draw_faces(self.people, who[some], seed, rows[some], worn)
        return drawn
