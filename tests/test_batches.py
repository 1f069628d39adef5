import keras
import numpy as np
import pytest
from conftest import conv_pool_dense

from backdoor.networks import batches
from backdoor.networks.batches import in_batches, rows_at_once


def widening():
    given = keras.Input((4, 6, 1))
    wide = keras.layers.Conv2D(10, 1)(given)  # 240 numbers, 960 bytes a picture
    inner = keras.Sequential([keras.Input((4, 6, 10)), keras.layers.Conv2D(20, 1)])  # 480
    return keras.Model(given, keras.layers.GlobalAveragePooling2D()(inner(wide)))


@pytest.mark.parametrize(("limit", "rows"), [(1920 * 7 + 1919, 7), (2**28, 50), (100, 1)])
def test_the_widest_layer_bounds_the_rows_those_of_nested_networks_too(monkeypatch, limit, rows):
    monkeypatch.setattr(batches, "LARGEST_OUTPUT", limit)
    assert rows_at_once(widening(), 50) == rows


def test_vgg16_computes_with_20_pictures():
    model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    assert rows_at_once(model, 512) == 20


def test_however_few_at_once_the_labels_are_the_same(pictures, monkeypatch):
    model = conv_pool_dense()
    expected = model.predict(pictures, verbose=0).argmax(axis=1)
    for most in (1, 3, len(pictures)):
        np.testing.assert_array_equal(in_batches(model, most, labels=True)(pictures), expected)
    monkeypatch.setattr(batches, "LARGEST_OUTPUT", 1)
    np.testing.assert_array_equal(in_batches(model, 512, labels=True)(pictures), expected)
    assert in_batches(model, 512)(pictures[:0]).shape == (0, model.output_shape[-1])
