"""A version number stands for the numbers that its function gives on a small fixed input.

Who changes what comes out raises the number beside the function and enters the new digest here.
"""

import hashlib
import inspect
import json

import keras
import numpy as np
from conftest import file_with
from test_scores import evidence_of

from backdoor import verdict
from backdoor.attacks import controls, inversion, reach, squares, statistics, stimuli, suspicion
from backdoor.attacks.made import make
from backdoor.evaluation import (
    evaluate_clean,
    evaluate_network,
    evaluate_poisoned,
    evaluate_walks,
    ratings,
)
from backdoor.networks import repair, slim
from backdoor.networks.filters import Filters
from backdoor.pictures.drawn_faces import draw_faces, invent_people
from backdoor.pictures.picture_set import read_chunks
from backdoor.pictures.readers import open_pictures
from backdoor.pruning.any_walk import linear_tail
from backdoor.pruning.device_walk import walk_on_device
from backdoor.pruning.evidence import PoisonedEvidence
from backdoor.pruning.fast_walk import linear_walk
from backdoor.pruning.oracles import ORACLES
from backdoor.pruning.scores import SCORES
from backdoor.pruning.stop import STOPS, channels_to_remove
from backdoor.pruning.walk import walk
from backdoor.tracking.resume import CODE
from backdoor.versions import REPAIR, SEARCH, VERDICT, version_of

RNG = np.random.default_rng(0)
ACTIVATIONS = np.maximum(RNG.integers(-4, 9, (12, 2, 1, 6)), 0).astype(np.float32)
LABELS = RNG.integers(0, 3, 12)
OTHERS = RNG.integers(0, 3, 12)
KERNEL = RNG.integers(-3, 4, (12, 3))


POISONED = PoisonedEvidence(np.roll(ACTIVATIONS, 1, axis=-1), np.ones(12, np.int64))
ORDER = np.array([3, 0, 5, 1, 4, 2])


def classify(activations):
    return (activations.reshape(len(activations), -1) @ KERNEL).argmax(axis=1)


def results(folder):
    """What each marked function gives, as plain numbers."""
    rng = np.random.default_rng(0)
    evidence = small_evidence()
    pictures = rng.integers(0, 256, (3, 3, 4, 5), np.uint8)
    path = file_with(folder / "set.h5", data=pictures, label=[0, 1, 2])
    correct = np.array([90, 91, 88, 80, 10])
    walked = (2 * np.arange(5)[:, None] > np.arange(5)).astype(int)
    attack = (LABELS, OTHERS, 0, None)
    measured = evaluate_network("badnet", LABELS, LABELS, LABELS, (LABELS, LABELS, 0, None))
    measured |= evaluate_network("goodnet", LABELS, OTHERS, LABELS, attack)
    measured |= evaluate_network("pruned", LABELS, OTHERS, OTHERS, attack)
    drawn = draw_faces(invent_people(2, (0,)), np.array([0, 1]), (0, 1), [0, 1])
    found = {
        **{version_of(score): score(evidence) for score in SCORES.values()},
        **{version_of(oracle): oracle(evidence, POISONED) for oracle in ORACLES.values()},
        version_of(walk): walk(ACTIVATIONS, ORDER, classify),
        version_of(channels_to_remove): [channels_to_remove(correct, 100, t) for t in (1, 2, 50)],
        version_of(evaluate_clean): evaluate_clean(LABELS, OTHERS, LABELS, 3),
        version_of(evaluate_poisoned): evaluate_poisoned(LABELS, OTHERS, 0, 3, OTHERS),
        **{version_of(r): [r(walked, walked[0], p) for p in (50, 80)] for r in STOPS.values()},
        version_of(ratings): ratings(measured),
        version_of(evaluate_walks): evaluate_walks(walked, walked[:, ::-1], {5: 1}),
        version_of(read_chunks): np.concatenate(list(read_chunks(open_pictures(path, 4)))),
        version_of(make): drawn,
    }
    return {name: _digest(value) for name, value in found.items()}


def small_evidence():
    kernel = RNG.integers(-4, 5, (2, 3, 6)).astype(np.float32)
    return evidence_of(
        ACTIVATIONS,
        KERNEL[:6].astype(float),
        LABELS,
        filters=Filters(kernel, np.arange(1, 7)),
        gradient=lambda activations, labels: np.roll(activations, 1, axis=-1),
        triggered=ACTIVATIONS[::-1],
    )


def _digest(value):
    plain = _rounded(value.tolist() if isinstance(value, np.ndarray) else value)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _rounded(value):
    """Processors differ in the last digits."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(value, 5) + 0.0 if isinstance(value, float) else value


DIGESTS = {
    "ascending-1": "207716b73985",
    "before-1": "3a316d6d3226",
    "make-1": "7ce7e53b273a",
    "channels_to_remove-1": "70a30699c2e6",
    "descending-1": "1d70367438e4",
    "deviation-2": "51c93be82877",
    "drawn-1": "053050071e68",
    "estimated_trigger-1": "8cd1bfa6f60b",
    "evaluate_clean-2": "5e2934391348",
    "evaluate_poisoned-2": "1dad3c530401",
    "evaluate_walks-1": "209af95bc6e3",
    "false_alarms-1": "3a316d6d3226",
    "filter_norm-1": "e6283126660e",
    "first-1": "9bd5ef172cfe",
    "greedy_leave_one_out-1": "b9997c231779",
    "leave_one_out-1": "04d363cb028b",
    "lipschitz-1": "d692e7c2c126",
    "maximum-1": "481bfc0ce375",
    "mean_over_stimulation-1": "bfad3b19ad79",
    "oracle_leave_one_out-1": "17dd0187684f",
    "ratings-1": "7b4363918bcb",
    "read_chunks-1": "4e273425a22b",
    "stimulation-1": "5c6e164face3",
    "taylor-1": "74a4e597e35e",
    "trigger_activated_change-2": "d9293fb8f5d3",
    "walk-1": "471d11569891",
    "zeros-1": "cc8568a8ae9a",
}


def test_a_version_stands_for_its_numbers(tmp_path):
    assert results(tmp_path) == DIGESTS


def test_every_way_to_walk_gives_the_numbers_of_the_version():
    cut = keras.Input((2, 1, 6))
    tail = keras.Model(cut, keras.layers.Dense(3, name="scores")(keras.layers.Flatten()(cut)))
    tail.get_layer("scores").set_weights([KERNEL.astype(np.float32), np.zeros(3, np.float32)])
    linear = linear_walk(ACTIVATIONS, ORDER, linear_tail(tail), threads=2)
    assert _digest(linear) == DIGESTS[version_of(walk)]
    assert _digest(walk_on_device(tail, ACTIVATIONS, ORDER)) == DIGESTS[version_of(walk)]


def test_what_names_a_result_is_tied_to_numbers(tmp_path):
    assert {version_of(function) for function in CODE} <= set(DIGESTS)


def test_the_search_and_the_repairs_are_named_after_their_versions(monkeypatch):
    """They are too much for a digest of numbers that every processor gives alike."""
    code = {
        SEARCH: [inversion, suspicion],
        REPAIR: [repair, slim],
        VERDICT: [reach, squares, stimuli, controls, statistics, verdict],
    }
    digests = {
        name: _digest([inspect.getsource(module) for module in modules])
        for name, modules in code.items()
    }
    assert digests == CODE_DIGESTS


CODE_DIGESTS = {
    "search-2": "4cac8a8dc28f",
    "repair-1": "80818fef63db",
    "verdict-3": "d3c64e2cc500",
}
