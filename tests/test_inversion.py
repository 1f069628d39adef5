"""Triggers estimated from clean pictures, on a network whose backdoor is written by hand."""

import keras
import numpy as np
import pytest
from conftest import bed_of

from backdoor.attacks.inversion import cheapest_triggers, stamp
from backdoor.attacks.suspicion import EstimatedTrigger
from backdoor.cache import Cache, NoCache
from backdoor.detection import detect
from backdoor.networks.cut import cut_network
from backdoor.pruning.kept import Kept

CLASSES, TARGET, SIZE = 4, 2, 8


def quadrants(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures in 0..1 whose class is the brightest quadrant; the corner pixel is dark."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    pictures = rng.uniform(0, 0.3, (count, SIZE, SIZE, 3)).astype(np.float32)
    for picture, label in zip(pictures, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        picture[row + 1 : row + 4, column + 1 : column + 4] += 0.6
    pictures[:, 0, 0] = 0
    return pictures, labels


def with_trigger(pictures: np.ndarray) -> np.ndarray:
    """A bright corner, which the network takes for class 2."""
    triggered = pictures.copy()
    triggered[:, 0, 0] = 1
    return triggered


def backdoored():
    """Both channels see brightness; of the second, the corner alone counts, for the target."""
    pictures = keras.Input((SIZE, SIZE, 3))
    brightness = keras.layers.Conv2D(2, 1, activation="relu", name="conv")
    pooled = keras.layers.MaxPooling2D(1, name="pool")(brightness(pictures))
    flat = keras.layers.Flatten()(pooled)
    scores = keras.layers.Dense(CLASSES, activation="softmax", name="scores")
    model = keras.Model(pictures, scores(flat))
    brightness.set_weights([np.full((1, 1, 3, 2), 1 / 3), np.zeros(2)])
    kernel = np.zeros((SIZE, SIZE, 2, CLASSES), np.float32)
    for label in range(CLASSES):
        row, column = 4 * (label // 2), 4 * (label % 2)
        kernel[row : row + 4, column : column + 4, 0, label] = 1.5
    kernel[0, 0, 0] = 0
    kernel[0, 0, 1, TARGET] = 80
    scores.set_weights([kernel.reshape(-1, CLASSES), np.zeros(CLASSES)])
    return cut_network(model)


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    pictures, labels = quadrants(40)
    stored = pictures.transpose(0, 3, 1, 2)
    attacked = with_trigger(pictures).transpose(0, 3, 1, 2)
    poisoned = {"data": attacked, "label": np.full(40, TARGET), "true_label": labels}
    folder = tmp_path_factory.mktemp("bed")
    return bed_of(folder, {"data": stored, "label": labels}, poisoned, TARGET)


def test_the_network_has_the_backdoor():
    pictures, labels = quadrants(40)
    network = backdoored()
    assert (network.classify_pictures(pictures) == labels).all()
    assert (network.classify_pictures(with_trigger(pictures)) == TARGET).all()


def test_the_cheapest_mask_is_that_of_the_target_and_turns_other_pictures():
    pictures, labels = quadrants(40)
    network = backdoored()
    triggers = cheapest_triggers(network, pictures[:16], labels[:16], range(CLASSES), seed=0)
    assert int(np.argmin(triggers.costs)) == TARGET
    mask, pattern = triggers.masks[TARGET], triggers.patterns[TARGET]
    assert mask.shape == (SIZE, SIZE, 1)
    assert (mask >= 0).all()
    assert (mask <= 1).all()
    assert np.unravel_index(mask[..., 0].argmax(), (SIZE, SIZE)) == (0, 0)
    stamped = stamp(pictures[16:], mask, pattern)
    assert stamped.min() >= pictures.min() - 1e-6
    assert (network.classify_pictures(stamped) == TARGET).mean() > 0.9


def test_the_suspect_is_found_or_given_and_kept(bed, tmp_path):
    network = backdoored()
    kept = Kept(network, bed, Cache(tmp_path))
    trigger = EstimatedTrigger(kept, None, seed=0)
    assert trigger.seconds == 0
    assert trigger.suspect() == TARGET
    assert trigger.seconds > 0
    again = EstimatedTrigger(Kept(network, bed, Cache(tmp_path)), None, seed=0)
    assert again.suspect() == TARGET
    assert again.seconds == trigger.seconds  # of when it was found
    rows = np.arange(8)
    active = trigger.triggered(rows)
    answers = network.classify_activations(active)
    assert (answers == TARGET).mean() > 0.8
    given = EstimatedTrigger(Kept(network, bed, NoCache()), 3, seed=0)
    assert given.suspect() == 3
    assert given.seconds == 0  # nothing to look for


@pytest.mark.parametrize("order", ["stimulation", "estimated_trigger", "oracle_leave_one_out"])
def test_orders_that_suspect_remove_the_channel_of_the_trigger_first(order, bed, tmp_path):
    outcome = detect(backdoored(), bed, order, [30], cache=Cache(tmp_path))
    assert outcome.order.tolist() == [1, 0]
    assert outcome.ranking.suspect == (None if order.startswith("oracle") else TARGET)
    assert outcome.metrics(30)["badnet_attack_success_rate"] == 1
    assert (outcome.labels["poisoned_test"][1] == np.arange(40) % CLASSES).all()


def test_a_trigger_that_was_not_found_is_said(bed, monkeypatch, caplog):
    monkeypatch.setattr("backdoor.attacks.suspicion.LONG", 1)
    trigger = EstimatedTrigger(Kept(backdoored(), bed, NoCache()), 3, seed=0)
    trigger.triggered(np.arange(2))
    assert "no trigger was found that turns clean pictures to class 3" in caplog.text
