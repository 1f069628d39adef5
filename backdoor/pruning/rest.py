"""What follows the first units behind the cut, as Keras layers: for devices that run those."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from backdoor.networks.graph import Call
from backdoor.networks.logits import logits_of


@dataclass(frozen=True)
class Root:
    """A tensor that the first units hold.

    Attributes:
        tensor: Which it is, as calls name it, or the values before an activation.
        columns: Where its numbers are among the units.
        shape: Of one picture's.
    """

    tensor: int
    columns: slice
    shape: tuple[int, ...]


class Columns(keras.layers.Layer):  # type: ignore[misc]
    """Takes a root from the units."""

    def __init__(self, root: Root, name: str) -> None:
        super().__init__(name=name)
        self.root = root

    def call(self, units: Any) -> Any:
        return keras.ops.reshape(units[:, self.root.columns], (-1, *self.root.shape))


def rest_of(
    calls: Sequence[Call],
    scores: keras.KerasTensor,
    roots: Sequence[Root],
    before: Mapping[int, int],
    units: int,
) -> keras.Model:
    """Return the layers from the first units, (n, U), to one logit a class, (n, N).

    Args:
        calls: All uses of layers behind the cut, in their order.
        before: Of outputs, the root that holds the values before their layer's activation.
        units: How many, U.
    """
    given = keras.Input((units,))
    known = {
        root.tensor: Columns(root, name=f"first_units_{number}")(given)
        for number, root in enumerate(roots)
    }
    for call in calls:
        output, inputs = id(call.output), [id(item) for item in call.inputs]
        if before.get(output) in known:
            # Keras numbers names, as it has the network's own, and none may stand twice.
            activation = keras.layers.Activation(call.layer.activation, name=f"activation_{output}")
            known[output] = activation(known[before[output]])
        elif output not in known and all(item in known for item in inputs):
            tensors = [known[item] for item in inputs]
            known[output] = call.layer(tensors if len(tensors) > 1 else tensors[0])
    return logits_of(keras.Model(given, known[id(scores)]))
