"""The network under test, cut in two at a pooling layer's output.

What lies before the cut (the head) runs once per picture; what lies behind it (the tail) says what
the network answers with channels removed. Neither is ever changed.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed
from numpy.typing import NDArray

from backdoor.pictures.picture_set import CHUNK, PictureSet, read_chunks, read_pictures
from backdoor.progress import progress
from backdoor.pruning.linear_layers import linear_tail
from backdoor.pruning.walk import LinearTail, linear_walk, walk

IN_FLIGHT = 3  # chunks of pictures
SAMPLE = 512  # pictures on which the scale is tried
SMALL_CHUNK = 128  # pictures whose first layers' outputs stay in a processor's cache
LARGE_CHUNK = 4096  # pictures a step on a GPU
POOLING = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalAveragePooling2D,
)


@dataclass(frozen=True, eq=False)
class CutNetwork:
    """B as tail(head(pictures)).

    Attributes:
        layer: Name of the pooling layer at whose output B is cut.
        head: Pictures (n, height, width, channels) to activations (n, ..., C).
        tail: Activations to one score a class, (n, N).
        fingerprint: SHA-256 of B's architecture and weights.
    """

    model: keras.Model
    layer: str
    head: keras.Model
    tail: keras.Model
    fingerprint: str

    @property
    def classes(self) -> int:
        return int(self.model.output_shape[-1])

    @property
    def channels(self) -> int:
        return int(self.head.output_shape[-1])

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.model.input_shape[1:]
        return height, width, channels

    @cached_property
    def classify_activations(self) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
        """The tail as a function of arrays: activations (n, ..., C) to labels (n,)."""
        return _in_batches(_compiled(self.tail, labels=True), CHUNK)

    def walk(
        self, activations: NDArray[np.float32], order: NDArray[np.int64], what: str = "Walk"
    ) -> NDArray[np.int64]:
        """Walk along the order the fastest way that this network and this machine allow.

        Whichever that is, the labels are the same, but where two scores are equal but for rounding.
        """
        if tf.config.list_logical_devices("GPU"):
            return walk_on_device(self.tail, activations, order, what)
        # In a sum of products, infinity times zero is NaN.
        finite = np.isfinite([activations.min(), activations.max()]).all()
        if self.linear_tail is None or not finite:
            return walk(activations, order, self.classify_activations, what)
        threads = tf.config.threading.get_intra_op_parallelism_threads() or 1
        return linear_walk(activations, order, self.linear_tail, threads, what)

    @cached_property
    def linear_tail(self) -> LinearTail | None:
        """The tail in NumPy, None where it has a layer of no known kind."""
        return linear_tail(self.model, self.model.get_layer(self.layer).output, self.tail)

    @cached_property
    def classify_pictures(self) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
        """B as a function of arrays: pictures to labels (n,)."""
        return _in_batches(_compiled(self.model, labels=True), CHUNK)

    def activate(
        self, chunks: Iterable[NDArray[np.float32]], count: int, what: str = "Head"
    ) -> NDArray[np.float32]:
        """Return the head's output for the `count` pictures of all chunks, (count, ..., C).

        A few chunks are on their way at once: one is read while others are computed.
        """
        threads = Parallel(IN_FLIGHT, "threading", "generator", batch_size=1)
        parts = threads(delayed(self._head)(chunk) for chunk in chunks)
        found = np.empty((count, *self.head.output_shape[1:]), np.float32)
        start = 0
        for part in progress(parts, what, -(-count // CHUNK)):
            found[start : start + len(part)] = part
            start += len(part)
        return found

    @cached_property
    def _head(self) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
        size = CHUNK if tf.config.list_logical_devices("GPU") else SMALL_CHUNK
        return _in_batches(_compiled(self.head, labels=False), size)


def cut_network(model: keras.Model, layer: str = "auto") -> CutNetwork:
    """Cut `model` at the output of the pooling layer of that name; `auto` is the last one.

    Raises:
        ValueError: The network does not have one input of pictures and one output of classes, or
            cannot be cut at that layer; the message lists where it can.
    """
    _check_ends(model)
    tails = {each.name: _tail(model, each) for each in model.layers if isinstance(each, POOLING)}
    eligible = [name for name, tail in tails.items() if tail is not None]
    if not eligible:
        raise ValueError(
            f"layer: expected a network with a pooling layer to cut at, found none in {model.name}"
        )
    name = eligible[-1] if layer == "auto" else layer
    if name not in eligible:
        raise ValueError(
            f"layer: no pooling layer {layer!r} to cut at in {model.name}; there are: "
            f"{', '.join(eligible)}"
        )
    head = keras.Model(model.inputs[0], model.get_layer(name).output, name="head")
    return CutNetwork(model, name, head, tails[name], fingerprint(model))


def compute_activations(network: CutNetwork, pictures: PictureSet) -> NDArray[np.float32]:
    """Return the head's output for all pictures, shape (n, ..., C)."""
    return network.activate(read_chunks(pictures), len(pictures), f"Head on {pictures.path.name}")


def walk_on_device(
    tail: keras.Model,
    activations: NDArray[np.float32],
    order: NDArray[np.int64],
    what: str = "Walk",
) -> NDArray[np.int64]:
    """Walk where TensorFlow computes: activations are copied there once a walk.

    Every picture is scored at every step, which a GPU does faster than it finds out which to leave.
    """
    kept = np.ones((len(order) + 1, len(order)), np.float32)
    for k, channel in enumerate(order, start=1):
        kept[k:, channel] = 0

    shapes = [tf.TensorSpec((None, *tail.input_shape[1:])), tf.TensorSpec((len(order),))]

    @tf.function(input_signature=shapes)  # type: ignore[untyped-decorator]
    def label(chunk: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
        return tf.argmax(tail(chunk * keep, training=False), axis=-1)

    starts = range(0, len(activations), LARGE_CHUNK)
    found = []
    for start in progress(starts, what, len(starts)):
        chunk = tf.constant(activations[start : start + LARGE_CHUNK])
        found.append(tf.stack([label(chunk, keep) for keep in tf.constant(kept)]).numpy())
    return np.concatenate(found, axis=1)


def check_pictures(network: CutNetwork, pictures: PictureSet) -> None:
    """Refuse pictures or labels that the network cannot have been made for.

    Raises:
        ValueError: The size of the pictures or a label does not fit the network.
    """
    expected = network.picture_shape
    fits = all(want in (None, got) for want, got in zip(expected, pictures.shape, strict=True))
    if not fits:
        raise ValueError(
            f"{pictures.path}: expected pictures of {expected} (height, width, channels), which "
            f"the network takes, got {pictures.shape}"
        )
    for labels in (pictures.labels, pictures.true_labels):
        if labels is not None and labels.max() >= network.classes:
            raise ValueError(
                f"{pictures.path}: expected labels of the network's {network.classes} classes, 0 "
                f"to {network.classes - 1}, got {labels.max()}"
            )


def check_target(network: CutNetwork, poisoned: PictureSet, target: int) -> None:
    """Refuse a target that is no class, or not the label of the poisoned pictures.

    Raises:
        ValueError: The message says which it is.
    """
    if not 0 <= target < network.classes:
        raise ValueError(
            f"dataset.target: expected a class of the network, 0 to {network.classes - 1}, got "
            f"{target}"
        )
    others = poisoned.labels[poisoned.labels != target]
    if len(others):
        raise ValueError(
            f"{poisoned.path}: expected dataset.target={target} as label of every poisoned "
            f"picture, got {others[0]}"
        )


def check_scale(network: CutNetwork, pictures: PictureSet) -> None:
    """Refuse pictures on which the network does as if their numbers had the wrong scale.

    A wrong scale gives no error, only nonsense: 0 %, or 42 % where 98 % is right. A sample of the
    clean pictures is tried at the other scale, too.

    Raises:
        ValueError: Accuracy is near chance, or much better at the other scale; or all pictures are
            of one class, which tells nothing.
    """
    if (pictures.labels == pictures.labels[0]).all():
        raise ValueError(
            f"{pictures.path}: expected pictures of two classes or more, got only "
            f"{pictures.labels[0]}"
        )
    sample = np.unique(np.linspace(0, len(pictures) - 1, SAMPLE).astype(int))
    truth = pictures.labels[sample]
    values = read_pictures(pictures, sample)
    factor = 1 / 255 if pictures.divide_by == 1 else pictures.divide_by
    found, other = (
        float((network.classify_pictures(each) == truth).mean())
        for each in (values, values * np.float32(factor))
    )
    chance = max(1 / network.classes, np.bincount(truth).max() / len(truth))
    advice = f"expected dataset.divide_by={255 if pictures.divide_by == 1 else 1}"
    if other > found + 0.1:
        raise ValueError(
            f"{pictures.path}: {advice}, which gives an accuracy of {other:.1%} on {len(sample)} "
            f"pictures, got divide_by={pictures.divide_by:g}, which gives {found:.1%}"
        )
    if found <= chance + 0.1 * (1 - chance):
        raise ValueError(
            f"{pictures.path}: expected pictures and labels that the network was trained for, got "
            f"an accuracy of {found:.1%} on {len(sample)} pictures, near chance ({chance:.1%}); "
            f"likely causes: a wrong dataset.divide_by (got {pictures.divide_by:g}), labels or "
            f"network of another data set"
        )


def fingerprint(model: keras.Model) -> str:
    """Return the SHA-256 of the architecture and all weights, in hex."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _check_ends(model: keras.Model) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"network {model.name}: expected one input and one output, got "
            f"{len(model.inputs)} and {len(model.outputs)}"
        )
    for end, rank, shape in (("input", 4, model.input_shape), ("output", 2, model.output_shape)):
        if len(shape) != rank:
            raise ValueError(f"network {model.name}: expected an {end} of {rank} axes, got {shape}")


def _tail(model: keras.Model, layer: keras.Layer) -> keras.Model | None:
    """Return what lies behind the layer, or None where another path leads past it."""
    try:
        return keras.Model(layer.output, model.outputs[0], name="tail")
    except (ValueError, AttributeError):
        return None


def _compiled(
    model: keras.Model, labels: bool
) -> Callable[[NDArray[np.float32]], NDArray[np.generic]]:
    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
    )
    def run(batch: tf.Tensor) -> tf.Tensor:
        output = model(batch, training=False)
        return tf.argmax(output, axis=-1) if labels else output

    return lambda batch: run(batch).numpy()


def _in_batches(
    run: Callable[[NDArray[np.float32]], NDArray[Any]], size: int
) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    def in_batches(values: NDArray[np.float32]) -> NDArray[Any]:
        starts = range(0, len(values), size) or (0,)
        return np.concatenate([run(values[s : s + size]) for s in starts])

    return in_batches
