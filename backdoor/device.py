"""Start TensorFlow: quietly, on the device that was asked for, with a fixed number of threads."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CHOICES = ("auto", "cpu", "gpu")


def start_tensorflow(
    device: str = "auto", threads: int | None = None, verbose: bool = False
) -> str:
    """Import TensorFlow and return the name of the device that it computes on.

    Args:
        device: `auto` takes a GPU where there is one.
        threads: Cores that one operation may use; None is all. Other numbers round otherwise, so
            results to the last digit need the same number.

    Raises:
        ValueError: No such choice, or no GPU is visible; the message lists what is.
    """
    if device not in CHOICES:
        raise ValueError(f"device: expected one of {', '.join(CHOICES)}, got {device!r}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    with _native_messages(shown=verbose):
        import tensorflow as tf

        tf.get_logger().setLevel("INFO" if verbose else "ERROR")
        gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        visible = ", ".join(each.name for each in tf.config.list_physical_devices())
        raise ValueError(f"device: expected a GPU that TensorFlow sees, got only {visible}")
    try:
        tf.config.set_visible_devices([] if device == "cpu" else gpus, "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(threads or os.cpu_count() or 1)
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:  # an earlier run of this process has started it with the same settings
        pass
    if device == "cpu" or not gpus:
        return f"CPU, {tf.config.threading.get_intra_op_parallelism_threads()} threads"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


@contextmanager
def _native_messages(shown: bool) -> Iterator[None]:
    """Hold back what C++ writes to standard error before its logging is set up, unless it fails."""
    if shown:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
