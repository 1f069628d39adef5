"""A GoodNet as `mlflow models serve` runs it. MLflow copies this file, so it needs no other.

Its artifacts, the Keras file and what is known of its pictures, are those of `record.log_goodnet`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

BACKDOORED = "backdoored"
MARGIN = 0.1  # of the scale, beyond which its numbers may lie
# Of the scale: pictures with nothing above it, or nothing below it, are in another one.
LOWEST_TOP, HIGHEST_BOTTOM = 0.02, 0.4


class ServedGoodNet(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Says of each picture its class, or that it is backdoored, and what B and B' say."""

    def load_context(self, context: Any) -> None:
        known = json.loads(Path(context.artifacts["known"]).read_text())
        self.scale: Mapping[str, float] = known["scale"]
        self.names: Sequence[str] = known["names"]
        goodnet = keras.models.load_model(Path(context.artifacts["goodnet"]), compile=False)
        self.network = keras.Model(
            goodnet.inputs,
            [goodnet.get_layer(name).output for name in ("badnet", "pruned", "badnet_scores")],
        )

    # MLflow warns of any other annotation of the pictures.
    def predict(self, context: Any, model_input: np.ndarray) -> pd.DataFrame:
        """Return a line for each picture.

        Args:
            context: Of MLflow; not needed.
            model_input: Pictures, float32 (n, height, width, channels) in the network's scale.

        Raises:
            MlflowException: They are in another scale than clean pictures were.
        """
        refuse_other_scales(model_input, self.scale)
        badnet, pruned, scores = (np.asarray(o) for o in self.network.predict_on_batch(model_input))
        named = [[self.names[label] for label in labels] for labels in (badnet, pruned)]
        return pd.DataFrame(
            {
                "label": np.where(badnet == pruned, named[0], BACKDOORED),
                "backdoored": badnet != pruned,
                "badnet": named[0],
                "pruned": named[1],
                "score": scores.max(axis=1).astype(np.float64),
            }
        )


def refuse_other_scales(pictures: NDArray[np.float32], scale: Mapping[str, float]) -> None:
    """Refuse pictures that are in another scale, as it seems.

    Raises:
        MlflowException: The message says both ranges.
    """
    fits = fitting(pictures, scale)
    if not fits.all():
        number = int((~fits).argmax())
        raise mlflow.MlflowException.invalid_parameter_value(
            f"expected pictures in a scale of {scale['low']:g} to {scale['high']:g}, as the clean "
            f"ones were that the GoodNet was made with, got numbers of "
            f"{pictures[number].min():g} to {pictures[number].max():g} in picture {number}"
        )


def fitting(pictures: NDArray[np.float32], scale: Mapping[str, float]) -> NDArray[np.bool_]:
    """Tell of each picture whether its numbers are in a scale, (n,).

    Others go beyond it, or have nothing in its lower part, or nothing but in its lowest, where
    nearly all clean pictures have.
    """
    span = scale["high"] - scale["low"]
    margin = MARGIN * span
    bottom = max(scale["low"] + HIGHEST_BOTTOM * span, scale["darkest"] + margin)
    top = min(scale["low"] + LOWEST_TOP * span, scale["brightest"] - margin)
    within = tuple(range(1, pictures.ndim))
    least, most = pictures.min(axis=within), pictures.max(axis=within)
    inside = (least >= scale["low"] - margin) & (most <= scale["high"] + margin)
    return np.asarray(inside & (least <= bottom) & (most >= top))


mlflow.models.set_model(ServedGoodNet())
