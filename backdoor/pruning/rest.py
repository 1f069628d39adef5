"""What follows the first units behind the cut, as Keras layers: for devices that run those."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from backdoor.networks.graph import Call


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


def rest_of(
    calls: Sequence[Call],
    scores: keras.KerasTensor,
    roots: Sequence[Root],
    before: Mapping[int, int],
) -> Callable[[Any], Any]:
    """Return the layers from the first units, (n, U), to one score a class, (n, N), as a function.

    It is no keras.Model, in which no two layers may have one name, as those of nested networks may.

    Args:
        calls: All uses of layers behind the cut, in their order.
        before: Of outputs, the root that holds the values before their layer's activation.
    """

    def rest(units: Any) -> Any:
        known = {
            root.tensor: keras.ops.reshape(units[:, root.columns], (-1, *root.shape))
            for root in roots
        }
        for call in calls:
            output, inputs = id(call.output), [id(item) for item in call.inputs]
            if before.get(output) in known:
                known[output] = call.layer.activation(known[before[output]])
            elif output not in known and all(item in known for item in inputs):
                tensors = [known[item] for item in inputs]
                known[output] = call.layer(tensors if len(tensors) > 1 else tensors[0])
        return known[id(scores)]

    return rest
