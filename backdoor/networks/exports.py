"""A network as a file for other runtimes, tried by running it there."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from backdoor.errors import UserError

Array = NDArray[np.float32]
NEAR_TIE = 1e-3  # of the scores' range: what another runtime may decide otherwise


@dataclass(frozen=True)
class Export:
    """A kind of file.

    Attributes:
        write: Writes a network to a path.
        run: Returns the scores (n, N) that the file gives to pictures.
    """

    write: Callable[[keras.Model, Path], None]
    run: Callable[[Path, Array], Array]


def export(model: keras.Model, kind: str, path: Path, pictures: Array) -> None:
    """Write a network and run what was written on some pictures.

    Raises:
        UserError: The network cannot be written so.
        RuntimeError: What was written answers otherwise.
    """
    chosen = EXPORTS[kind]
    expected = np.asarray(model.predict(pictures, verbose=0))  # Keras wants a network once called
    with _quiet():
        try:
            chosen.write(model, path)
        except Exception as error:
            first = str(error).strip().splitlines()[:1]
            raise UserError(
                f"export: expected a network that can be written as {kind}, got "
                f"{type(error).__name__}: {''.join(first)}"
            ) from error
        answered = chosen.run(path, pictures)
    rows = np.arange(len(pictures))
    lost = expected.max(axis=1) - expected[rows, answered.argmax(axis=1)]
    differing = int((lost > NEAR_TIE * np.ptp(expected)).sum())
    if differing:
        raise RuntimeError(
            f"{path.name}: expected the labels of the network on {len(pictures)} pictures, got "
            f"others on {differing}"
        )


def _write_tflite(model: keras.Model, path: Path) -> None:
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def _run_tflite(path: Path, pictures: Array) -> Array:
    interpreter = tf.lite.Interpreter(str(path))
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], pictures.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], pictures)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(made["index"]))


def _write_onnx(model: keras.Model, path: Path) -> None:
    model.export(path, format="onnx", verbose=False)


def _run_onnx(path: Path, pictures: Array) -> Array:
    import onnxruntime  # an extra

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pictures})[0])


EXPORTS = {
    "tflite": Export(_write_tflite, _run_tflite),
    "onnx": Export(_write_onnx, _run_onnx),
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep converters from talking about themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
