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
    """Refuse pictures that go beyond the scale, or have no number as dark or bright as clean ones.

    Raises:
        MlflowException: They do; the message says both ranges.
    """
    margin = MARGIN * (scale["high"] - scale["low"])
    within = tuple(range(1, pictures.ndim))
    least, most = pictures.min(axis=within), pictures.max(axis=within)
    fits = (
        (least >= scale["low"] - margin)
        & (most <= scale["high"] + margin)
        & (least <= scale["darkest"] + margin)
        & (most >= scale["brightest"] - margin)
    )
    if not fits.all():
        number = int((~fits).argmax())
        raise mlflow.MlflowException.invalid_parameter_value(
            f"expected pictures in a scale of {scale['low']:g} to {scale['high']:g}, with numbers "
            f"as low as {scale['darkest']:g} and as high as {scale['brightest']:g} in each, as in "
            f"the clean ones that the GoodNet was made with, got numbers of {least[number]:g} to "
            f"{most[number]:g} in picture {number}"
        )


mlflow.models.set_model(ServedGoodNet())
