"""The network under test, cut in two at a layer's output, mostly a pooling layer's.

What lies before the cut (the head) runs once per picture; what lies behind it (the tail) says what
the network answers with channels removed. Neither is ever changed.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed
from numpy.typing import NDArray

from backdoor.cache import joined
from backdoor.errors import UserError
from backdoor.evaluation import Labels
from backdoor.networks.batches import in_batches
from backdoor.networks.ends import check_ends, one_score_a_class
from backdoor.networks.filters import Filters, chain_to, filters_of
from backdoor.networks.graph import calls_of
from backdoor.networks.logits import logits_of
from backdoor.networks.where import POOLING, choose_cut, cut_by_name
from backdoor.pictures.picture_set import CHUNK, PictureSet, read_chunks
from backdoor.progress import progress

IN_FLIGHT = 3  # chunks of pictures
SMALL_CHUNK = 128  # pictures whose first layers' outputs stay in a processor's cache


@dataclass(frozen=True, eq=False)
class CutNetwork:
    """B as tail(head(pictures)).

    Attributes:
        model: B, pictures (n, height, width, channels) to one score a class, (n, N).
        layer: Name of the layer at whose output B is cut, mostly a pooling layer.
        why: Why there.
        head: Pictures (n, height, width, channels) to activations (n, ..., C).
        tail: Activations to one score a class, (n, N).
        fingerprint: SHA-256 of B's architecture and weights.
    """

    model: keras.Model
    layer: str
    why: str
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
    def activation_shape(self) -> tuple[int, ...]:
        """Of one picture, channels last."""
        return tuple(self.head.output_shape[1:])

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.model.input_shape[1:]
        return height, width, channels

    @cached_property
    def logit_tail(self) -> keras.Model:
        """The tail without the softmax that it ends in, activations to one logit a class."""
        return logits_of(self.tail)

    @property
    def filters(self) -> Filters:
        """What makes the channels at the cut; a UserError where that is no convolution."""
        return filters_of(chain_to(self.head, "order=l1 or clp"))

    @cached_property
    def unpooled(self) -> "CutNetwork":
        """The same network with the activations that go into the pooling layer as its head's.

        Raises:
            UserError: The network is not cut at a pooling layer.
        """
        pictures = keras.Input(self.picture_shape)
        calls, _ = calls_of(self.head, pictures)
        if not isinstance(calls[-1].layer, POOLING):
            raise UserError(
                f"rank_at: expected pool for a network that is cut at {self.layer!r}, which is no "
                f"pooling layer, got conv"
            )
        head = keras.Model(pictures, calls[-1].inputs[0], name="head")
        return dataclasses.replace(self, head=head)

    @cached_property
    def gradient(
        self,
    ) -> Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]:
        """How the loss of each picture changes with its activations.

        Activations (n, ..., C) and classes (n,) to gradients (n, ..., C) of the cross-entropy.
        """
        tail = self.logit_tail

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def run(activations: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(activations)
                logits = tail(activations, training=False)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            return tape.gradient(losses, activations)

        def gradient(
            activations: NDArray[np.float32], labels: NDArray[np.int64]
        ) -> NDArray[np.float32]:
            starts = range(0, len(labels), CHUNK)
            parts = [
                run(tf.constant(activations[s : s + CHUNK]), tf.constant(labels[s : s + CHUNK]))
                for s in starts
            ]
            return np.concatenate([part.numpy() for part in parts])

        return gradient

    @cached_property
    def classify_activations(self) -> Callable[[NDArray[np.float32]], Labels]:
        """The tail as a function of arrays: activations (n, ..., C) to labels (n,)."""
        return in_batches(self.tail, CHUNK, labels=True)

    @cached_property
    def score_activations(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """The tail as a function of arrays: activations (n, ..., C) to logits (n, N)."""
        return in_batches(self.logit_tail, CHUNK)

    @cached_property
    def classify_pictures(self) -> Callable[[NDArray[np.float32]], Labels]:
        """B as a function of arrays: pictures to labels (n,)."""
        return in_batches(self.model, CHUNK, labels=True)

    def activate(
        self, chunks: Iterable[NDArray[np.float32]], count: int, what: str = "Head"
    ) -> NDArray[np.float32]:
        """Return the head's output for the `count` pictures of all chunks, (count, ..., C)."""
        parts = self.activation_parts(chunks, count, what)
        return joined((count, *self.activation_shape), parts)

    def activation_parts(
        self, chunks: Iterable[NDArray[np.float32]], count: int, what: str = "Head"
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the head's output for each chunk of `count` pictures in all.

        A few chunks are on their way at once: one is read while others are computed.
        """
        threads = Parallel(IN_FLIGHT, "threading", "generator", batch_size=1)
        parts = threads(delayed(self.activate_pictures)(chunk) for chunk in chunks)
        return progress(parts, what, -(-count // CHUNK))

    @cached_property
    def activate_pictures(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """The head as a function of arrays: pictures to activations (n, ..., C)."""
        size = CHUNK if tf.config.list_logical_devices("GPU") else SMALL_CHUNK
        return in_batches(self.head, size)


def cut_network(model: keras.Model, layer: str = "auto") -> CutNetwork:
    """Cut `model` at the output of the layer of that name, `base/pool` in a nested network.

    `auto` takes the last pooling layer whose channels are features; `where.choose_cut` says more.

    Raises:
        UserError: The network does not have one input of pictures and one output of classes, or
            cannot be cut at that layer; the message lists where it can.
    """
    shape = check_ends(model)
    if layer == "auto":
        path, cut, why = choose_cut(model, shape)
    else:
        path, cut, why = layer, cut_by_name(model, layer, shape), "as asked for"
    scores = one_score_a_class(model, cut.scores)
    whole = keras.Model(cut.pictures, scores, name=model.name)
    head = keras.Model(cut.pictures, cut.at, name="head")
    tail = keras.Model(cut.at, scores, name="tail")
    return CutNetwork(whole, path, why, head, tail, fingerprint(model))


def compute_activations(network: CutNetwork, pictures: PictureSet) -> NDArray[np.float32]:
    """Return the head's output for all pictures, shape (n, ..., C)."""
    return joined((len(pictures), *network.activation_shape), activations_of(network, pictures))


def activations_of(network: CutNetwork, pictures: PictureSet) -> Iterator[NDArray[np.float32]]:
    """Yield the head's output for all pictures, chunk by chunk."""
    chunks = read_chunks(pictures)
    return network.activation_parts(chunks, len(pictures), f"Head on {pictures.name}")


def fingerprint(model: keras.Model) -> str:
    """Return the SHA-256 of the architecture and all weights, in hex."""
    digest = hashlib.sha256(model.to_json().encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
