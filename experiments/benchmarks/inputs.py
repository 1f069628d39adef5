"""What the benchmark runs on: drawn faces, and a network of given or drawn weights."""

import dataclasses

import keras
import numpy as np
from numpy.typing import NDArray

from backdoor.networks.deepid import build_deepid
from backdoor.networks.model_files import load_badnet
from backdoor.pictures.drawn_faces import SUNGLASSES, draw_faces, invent_people
from backdoor.pictures.picture_set import CHUNK
from backdoor.pictures.sources import BATCH
from backdoor.pictures.test_bed import SETS
from backdoor.progress import progress
from experiments.benchmarks.networks import DEEPID, PUBLIC
from experiments.benchmarks.settings import Benchmark

SPREAD = 3  # standard deviation of a class's scores
SIDE = 224  # pixels of a public network's picture


def badnet_of(settings: Benchmark, pictures: NDArray[np.float32]) -> keras.Model:
    """Return the network of the given weights, else one of drawn weights."""
    if settings.weights:
        return load_badnet(settings.weights)
    return drawn_badnet(settings, pictures)


def drawn_badnet(settings: Benchmark, pictures: NDArray[np.float32]) -> keras.Model:
    """Return a network of drawn weights, more of whose channels are active on a picture.

    An untrained network gives all pictures the same few labels; here the mean features score
    nothing, so that labels are as varied as a trained network's, and scores lie so far apart that
    a softmax in single precision tells them apart.
    """
    keras.utils.set_random_seed(0)
    if settings.network == DEEPID:
        model = build_deepid(settings.people)
    else:
        model = getattr(keras.applications, PUBLIC[settings.network])(weights=None)
    output = model.layers[-1]
    before = keras.Model(model.inputs[0], output.input)
    features = before.predict(pictures[:CHUNK], verbose=0, batch_size=32)
    kernel = output.get_weights()[0]
    kernel *= SPREAD / (features @ kernel).std(axis=0).mean()
    output.set_weights([kernel, -features.mean(axis=0) @ kernel])
    return model


def pictures_of(settings: Benchmark) -> dict[str, NDArray[np.float32]]:
    """Return the four sets, 0..255, drawn on first use; enlarged where a network takes more."""
    if settings.network == DEEPID:
        return _faces(settings)
    one_each = dataclasses.replace(settings, people=settings.pictures, valid=1, test=1)
    return {name: _enlarged(faces) for name, faces in _faces(one_each).items()}


def _enlarged(faces: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, columns = (np.arange(SIDE) * size // SIDE for size in faces.shape[1:3])
    return faces[:, rows[:, None], columns]


def _faces(settings: Benchmark) -> dict[str, NDArray[np.float32]]:
    path = settings.work_folder / f"{settings.people}-{settings.valid}-{settings.test}.npz"
    if not path.exists():
        people = invent_people(settings.people, (0,))
        sets = {}
        for name in SETS:
            count = settings.valid if name.endswith("valid") else settings.test
            who = np.tile(np.arange(settings.people), count)
            rows = np.arange(len(who))
            batches = [rows[start : start + BATCH] for start in range(0, len(who), BATCH)]
            worn = SUNGLASSES if name.startswith("poisoned") else ""
            shown = progress(batches, f"Drawing {len(who)} faces, {name}", len(batches))
            drawn = [draw_faces(people, who[batch], (count,), batch, worn) for batch in shown]
            sets[name] = np.concatenate(drawn)
        np.savez(path, allow_pickle=False, **sets)
    with np.load(path) as stored:
        return {name: stored[name].astype(np.float32) for name in SETS}
