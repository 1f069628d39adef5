"""A network taken apart: which layer feeds which, whatever Keras built or loaded it as.

A loaded layer may stand in several graphs (a Sequential's, its file's, another model's), and
`layer.output` is of the first of them. So the network is run once more, on a symbolic picture, and
what each layer then gives is noted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True, eq=False)
class Cut:
    """A network as head and tail.

    Attributes:
        pictures, at, scores: What goes in, what the layer gives, what comes out.
        bypassed: Whether scores depend on pictures by a path that leads past the layer.
    """

    pictures: keras.KerasTensor
    at: keras.KerasTensor
    scores: keras.KerasTensor
    bypassed: bool


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer."""

    layer: keras.Layer
    inputs: Sequence[keras.KerasTensor]
    output: keras.KerasTensor


def is_nested(layer: keras.Layer) -> bool:
    """Tell whether a layer is a network itself."""
    return isinstance(layer, keras.Sequential | keras.Function)


def layers_of(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yield all layers by path (`base/pool`), those of nested networks in their network's place."""
    for layer in model.layers:
        yield prefix + layer.name, layer
        if is_nested(layer):
            yield from layers_of(layer, f"{prefix}{layer.name}/")


def cut_at(model: keras.Model, path: str, shape: tuple[int | None, ...]) -> Cut:
    """Cut at the output of a layer, where it is used last.

    Networks around the layer are opened; all others stay one layer.

    Args:
        shape: Height, width, channels of a picture.
    """
    pictures = keras.Input(shape, dtype=model.inputs[0].dtype, name="pictures")
    calls: list[tuple[list[keras.KerasTensor], list[keras.KerasTensor]]] = []
    named: dict[str, Any] = {}
    outputs: dict[str, keras.KerasTensor] = {}

    def run_inside(network: keras.Model, tensor: keras.KerasTensor, prefix: str) -> Any:
        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            name = prefix + layer.name
            if path.startswith(f"{name}/"):
                output = run_inside(layer, args[0], f"{name}/")
            else:
                if named.setdefault(layer.name, layer) is not layer:
                    # A graph has no two layers of a name: one is wrapped.
                    unique = f"{name.replace('/', '_')}_{len(calls)}"
                    layer = keras.Sequential([layer], name=unique)
                output = layer(*args, **kwargs)
                calls.append((tensors_in((args, kwargs)), tensors_in(output)))
            outputs[name] = output
            return output

        return retrace(network, tensor, call)

    scores = run_inside(model, pictures, "")
    at = outputs[path]
    free = {pictures}
    for given, made in calls:
        if at not in made and free.intersection(given):
            free.update(made)
    return Cut(pictures, at, scores, bypassed=scores in free)


def calls_of(
    model: keras.Model,
    start: keras.KerasTensor,
    instead: Callable[[int, Any], Any] = lambda number, layer: layer,
) -> tuple[list[Call], keras.KerasTensor]:
    """Return all uses of layers on the way from a symbolic input to the output, and the output.

    Nested networks with one input and one output are opened.

    Args:
        instead: Gives the layer to use in place of the one that is used as that number, from 0.
    """
    calls: list[Call] = []

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if is_nested(layer) and len(layer.inputs) == len(layer.outputs) == 1:
            return retrace(layer, args[0], call)
        chosen = instead(len(calls), layer)
        # What is said to a layer by name (a mask), another has no name for.
        output = layer(*args, **kwargs) if chosen is layer else chosen(*args)
        calls.append(Call(layer, tensors_in((args, kwargs)), output))
        return output

    return calls, retrace(model, start, call)


def retrace(model: keras.Model, tensor: keras.KerasTensor, call: Callable[..., Any]) -> Any:
    """Return what the network makes of a symbolic tensor, each layer run by `call(layer, ...)`."""
    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            tensor = call(layer, tensor)
        return tensor
    recorded: list[tuple[Any, Any, Any, Any]] = []

    def record(layer: Any, *args: Any, **kwargs: Any) -> Any:
        output = layer(*args, **kwargs)
        recorded.append((layer, args, kwargs, output))
        return output

    # Cloning is how Keras says which layer feeds which; the layers stay the same.
    copy = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=record)
    known = {id(copy.inputs[0]): tensor}

    def here(item: Any) -> Any:
        return known.get(id(item), item)

    for layer, args, kwargs, output in recorded:
        given, named = keras.tree.map_structure(here, (args, kwargs))
        made = call(layer, *given, **named)
        pairs = zip(keras.tree.flatten(output), keras.tree.flatten(made), strict=True)
        known.update((id(old), new) for old, new in pairs)
    return known[id(copy.outputs[0])]


def tensors_in(nested: Any) -> list[keras.KerasTensor]:
    """Return the symbolic tensors among a layer's arguments, or among what it gives."""
    return [item for item in keras.tree.flatten(nested) if isinstance(item, keras.KerasTensor)]
