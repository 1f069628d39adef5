"""A screening: unlabelled pictures read, what a GoodNet says of them written down and counted."""

import csv
import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from backdoor.errors import UserError
from backdoor.evaluation import Labels
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.picture_set import PictureSet, evenly, read_pictures, read_stored
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.readers.wanted import Wanted
from backdoor.pictures.scale import STORED, Scale, as_bytes, divided_by, scale_named
from backdoor.reporting.figures import draw_samples
from backdoor.samples import UNKNOWN, Samples
from backdoor.screening import Alarm, Screened, joined, screen, taken_apart
from backdoor.text import plain
from backdoor.tracking.goodnets import Known, fetch_goodnet
from backdoor.tracking.served_goodnet import fitting
from experiments.launch.screen_settings import RUNS, ScreenSettings

TABLE, SHEET = "screen.csv", "flagged.png"
SHOWN = 8  # flagged pictures on the sheet
LOOKED_AT = 64  # pictures whose range is looked at
LONGEST_PATH = 4096  # letters
MOST = 0.5  # of these, that have to be in the network's scale
DIVIDED = "divide_by="


def run_screening(settings: ScreenSettings) -> bool:
    """Screen pictures, write the table and the sheet, print counts; return whether it is an alarm.

    Raises:
        UserError: There is no such GoodNet, or there are no such pictures.
    """
    goodnet, known = _opened(settings)
    parts = taken_apart(goodnet)
    pictures = _pictures(settings, known, parts.network.picture_shape)
    told = settings.flip_depth and known.order is not None
    found = joined(screen(parts, pictures, np.asarray(known.order) if told else None))
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    classes = parts.network.classes
    names = [*(known.names or ())]  # of the pictures' classes, of which the network may know more
    names += map(str, range(len(names), classes))
    _write_table(folder / TABLE, pictures, found, names, parts.network.channels)
    flagged = np.flatnonzero(found.flagged)
    (folder / SHEET).unlink(missing_ok=True)
    if len(flagged):
        _draw_sheet(folder / SHEET, pictures, found, flagged, names)
    given = settings.false_alarm_rate
    usual = (known.false_alarm_rate, known.measured_on) if given is None else (given, None)
    alarm = Alarm(len(flagged), len(pictures), *usual)
    print(alarm.sentence)
    print(f"written: {folder / TABLE}{f', {folder / SHEET}' if len(flagged) else ''}")
    return alarm.raised


def _opened(settings: ScreenSettings) -> tuple[keras.Model, Known]:
    """Return the GoodNet and what is known of it; its file is opened as a stranger's."""
    if not settings.goodnet.startswith(RUNS):
        return load_badnet(settings.goodnet), Known()
    with tempfile.TemporaryDirectory() as folder:
        file, known = fetch_goodnet(
            settings.tracking, settings.goodnet.removeprefix(RUNS), Path(folder)
        )
        return load_badnet(file), known


def _pictures(settings: ScreenSettings, known: Known, shape: tuple[int, ...]) -> PictureSet:
    wanted = Wanted(divided_by(1), shape, settings.keys.data, labelled=False)
    pictures = open_pictures(settings.pictures, wanted=wanted)
    if pictures.shape != shape:
        raise UserError(
            f"pictures: expected {_size(shape)}, as the GoodNet takes them, found "
            f"{_size(pictures.shape)} in {pictures.path}"
        )
    if not len(pictures):
        raise UserError(f"pictures: expected at least one, found none in {pictures.path}")
    pictures = pictures.scaled(_scale(settings.preprocess or known.scale, pictures))
    some = read_pictures(pictures, evenly(pictures, LOOKED_AT))
    if known.brightness is not None:
        scale = dataclasses.asdict(known.brightness)
        if fitting(some, scale).mean() < MOST:
            raise UserError(
                f"pictures: expected a scale of {scale['low']:g} to {scale['high']:g}, as the "
                f"clean ones were that the GoodNet was made with, got numbers of {some.min():g} to "
                f"{some.max():g} from {pictures.path}; preprocess=NAME says another scale"
            )
    return pictures


def _scale(name: str, pictures: PictureSet) -> Scale:
    """Return the scale of that name, as settings or runs call it, for pictures as these are."""
    if name.startswith(DIVIDED):
        return divided_by(float(name.removeprefix(DIVIDED)))
    if name == STORED:
        return pictures.scale
    return scale_named(name.split()[0], read_stored(pictures, evenly(pictures, LOOKED_AT)))


def _write_table(
    path: Path, pictures: PictureSet, found: Screened, names: Sequence[str], channels: int
) -> None:
    """Write a line a picture: its file or number, what B and B' say, whether that differs.

    And the flip depth, where it is known; nothing of a picture whose label never changes.
    """
    columns: dict[str, Iterable[object]] = {
        "picture": [plain(name, LONGEST_PATH) for name in pictures.files or range(len(pictures))],
        "badnet": [names[label] for label in found.badnet],
        "pruned": [names[label] for label in found.pruned],
        "backdoored": np.where(found.flagged, "yes", "no"),
    }
    if found.depth is not None:
        columns["flip_depth"] = [depth if depth <= channels else "" for depth in found.depth]
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))


def _draw_sheet(
    path: Path,
    pictures: PictureSet,
    found: Screened,
    flagged: Labels,
    names: Sequence[str],
) -> None:
    """Draw some of the flagged pictures, spread over them, with what B, B' and G say."""
    rows = flagged[np.unique(np.linspace(0, len(flagged) - 1, SHOWN).astype(int))]
    shown = Samples(
        as_bytes(read_stored(pictures, rows)),
        np.full(len(rows), UNKNOWN),
        found.badnet[rows],
        found.pruned[rows],
        np.full(len(rows), len(names)),
        np.zeros(len(rows), bool),
    )
    draw_samples(shown, len(names), names, ("flagged", "")).savefig(path, dpi=100)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
