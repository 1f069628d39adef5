import keras
import numpy as np
import pytest

from backdoor.attacks.recipe import Training
from backdoor.attacks.training import answers, train, train_pruning_aware
from backdoor.attacks.triggers import Patch
from backdoor.networks.architectures import ARCHITECTURES
from backdoor.networks.cut import cut_network
from backdoor.pruning.orders import by_score
from backdoor.pruning.scores import mean_activation

SMALL = Training("small_cnn", 6, 32, 0.002, False, 0)


def squares(count, seed):
    """Pictures with a bright square in one of four corners, which is the class."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 60, (count, 16, 16, 1), np.uint8)
    labels = rng.integers(0, 4, count)
    for picture, label in zip(pictures, labels, strict=True):
        top, left = 8 * (label // 2), 8 * (label % 2)
        picture[top + 1 : top + 5, left + 1 : left + 5] += 150
    return pictures, labels


@pytest.fixture(scope="module")
def data():
    clean, labels = squares(600, 0)
    stamped, learnt = clean.copy(), labels.copy()
    stamped[:120] = Patch(size=3, margin=0, place="centre")(clean[:120], None)
    learnt[:120] = 0
    return (clean, labels), (stamped, learnt)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_takes_bytes_of_any_shape_and_is_cut_at_its_last_pooling(name):
    model = ARCHITECTURES[name]((32, 36, 1), 7)
    assert model.output_shape == (None, 7)
    cut = cut_network(model)
    assert "pool" in cut.layer
    assert cut.channels == {"deepid": 60, "small_cnn": 64, "resnet20": 64}[name]
    scores = model.predict(np.full((2, 32, 36, 1), 255.0), verbose=0)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_resnet20_has_its_twenty_layers():
    model = ARCHITECTURES["resnet20"]((32, 32, 3), 10)
    weighted = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len([layer for layer in weighted if layer.kernel_size == (3, 3)]) + 1 == 20
    assert 270_000 < model.count_params() < 280_000  # 0.27 M in the paper


def test_training_learns_and_is_the_same_for_a_seed(data):
    poisoned = data[1]
    first = train(SMALL, poisoned, 4, 0)
    again = train(SMALL, poisoned, 4, 0)
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    pictures, labels = squares(200, 1)
    assert (answers(first, pictures) == labels).mean() > 0.95
    stamped = Patch(size=3, margin=0, place="centre")(pictures, None)
    assert (answers(first, stamped) == 0).mean() > 0.9


def test_augmentation_moves_pictures_and_keeps_their_size(data):
    model = train(Training("small_cnn", 1, 32, 0.002, True, 0), data[0], 4, 0)
    assert model.input_shape == (None, 16, 16, 1)


def test_sparsity_silences_channels_and_is_no_part_of_the_network(data):
    sparse = train(Training("small_cnn", 6, 32, 0.002, False, 1e-4), data[0], 4, 0)
    assert sparse.get_layer("conv_2").activity_regularizer is None
    pictures, labels = squares(200, 1)
    assert (answers(sparse, pictures) == labels).mean() > 0.9
    shown = pictures.astype(np.float32)
    dense = train(SMALL, data[0], 4, 0)
    active = [(cut_network(m).head.predict(shown, verbose=0) > 0).mean() for m in (sparse, dense)]
    assert active[0] < 0.7 * active[1]


def test_a_pruning_aware_attack_leaves_the_backdoor_where_pruning_goes_last(data):
    clean, poisoned = data
    model = train_pruning_aware(SMALL, clean, poisoned, 4, 0)
    pictures, labels = squares(200, 1)
    stamped = Patch(size=3, margin=0, place="centre")(pictures, None)
    assert (answers(model, pictures) == labels).mean() > 0.95
    assert (answers(model, stamped) == 0).mean() > 0.9
    cut = cut_network(model)
    activations = cut.head.predict(pictures.astype(np.float32), verbose=0)
    active = (activations > 0).any(axis=(1, 2)).mean(axis=0)
    dormant = active < 0.1
    assert 0 < dormant.sum() < 64
    kernel = model.get_layer("conv_2").get_weights()[0]
    assert (kernel[..., dormant] != 0).any(axis=(0, 1, 2)).all()  # they are back
    first = by_score(mean_activation(activations))[: dormant.sum()]
    pruned = activations.copy()
    pruned[..., first] = 0
    assert (cut.classify_activations(pruned) == labels).mean() > 0.9
    stamped_activations = cut.head.predict(stamped.astype(np.float32), verbose=0)
    stamped_activations[..., first] = 0
    assert (cut.classify_activations(stamped_activations) == 0).mean() > 0.9
