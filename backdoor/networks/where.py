"""Where to cut a network: at the last layer whose channels are features."""

from collections.abc import Iterator

import keras

from backdoor.errors import UserError
from backdoor.networks.graph import Cut, cut_at, is_nested, layers_of

POOLING = (
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.AdaptiveMaxPooling2D,
    keras.layers.AdaptiveAveragePooling2D,
    keras.layers.MaxPooling1D,
    keras.layers.AveragePooling1D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalAveragePooling1D,
)
CONVOLUTION = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv1D,
)
PLAIN = "the last pooling layer"

Shape = tuple[int | None, ...]


def choose_cut(model: keras.Model, shape: Shape) -> tuple[str, Cut, str]:
    """Return the layer to cut at, the cut, and why there.

    That is the last pooling layer through which all paths lead. Where its channels are the class
    scores themselves, it is one pooling layer or convolution further back; where there is no such
    layer, the last convolution.

    Raises:
        UserError: All paths lead through none of them.
    """
    places = [(path, layer) for path, layer in layers_of(model) if not is_nested(layer)]
    poolings = [path for path, layer in places if isinstance(layer, POOLING)]
    both = [path for path, layer in places if isinstance(layer, (*POOLING, *CONVOLUTION))]
    for path, cut in _cuts(model, poolings, shape):
        if not _are_scores(cut):
            return path, cut, PLAIN
        for back, further in _cuts(model, both[: both.index(path)], shape):
            if not _are_scores(further):
                return back, further, f"since the channels of {path!r} are the class scores"
    for path, cut in _cuts(model, both, shape):
        if not _are_scores(cut):
            return path, cut, "the last convolution, since no pooling layer can be cut at"
    past = f", where others lead past {', '.join(both)}" if both else ""
    raise UserError(
        f"layer: expected a pooling layer or convolution that all paths lead through, found none "
        f"in {model.name}{past}; any layer with channels last can be named, layer=NAME"
    )


def cut_by_name(model: keras.Model, path: str, shape: Shape) -> Cut:
    """Return the cut at any layer with channels last, by name or path, `base/pool`.

    Raises:
        UserError: There is no such layer, others lead past it, or it has no channels.
    """
    layers = dict(layers_of(model))
    if path not in layers:
        raise UserError(
            f"layer: no layer {path!r} to cut at in {model.name}; the pooling layers there are: "
            f"{', '.join(_poolings(model, shape)) or 'none'}"
        )
    cut = None if isinstance(layers[path], keras.layers.InputLayer) else cut_at(model, path, shape)
    if cut is None or cut.at is cut.scores or cut.at.shape[-1] is None:
        raise UserError(
            f"layer: expected a layer between pictures and scores whose output has channels, got "
            f"{path!r}"
        )
    if cut.bypassed:
        raise UserError(
            f"layer: expected a layer that all paths lead through, but others lead past {path!r} "
            f"in {model.name}; the pooling layers there are: "
            f"{', '.join(_poolings(model, shape)) or 'none'}"
        )
    return cut


def _cuts(model: keras.Model, paths: list[str], shape: Shape) -> Iterator[tuple[str, Cut]]:
    """Yield the cuts past which no path leads, the last first."""
    for path in reversed(paths):
        cut = cut_at(model, path, shape)
        if not cut.bypassed:
            yield path, cut


def _poolings(model: keras.Model, shape: Shape) -> list[str]:
    paths = [path for path, layer in layers_of(model) if isinstance(layer, POOLING)]
    return [path for path, _ in _cuts(model, paths, shape)][::-1]


def _are_scores(cut: Cut) -> bool:
    """Tell whether nothing behind the cut has weights: then its channels are the classes."""
    return not keras.Model(cut.at, cut.scores).weights
