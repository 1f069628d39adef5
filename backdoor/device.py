"""Start TensorFlow: quietly, on the device that was asked for, with a fixed number of threads."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from backdoor.errors import UserError
from backdoor.lean import lean_imports

CHOICES = ("auto", "cpu", "gpu")
ENDING = (  # what ends all first
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGALRM,
)

_started: list[tuple[str, int | None]] = []


def check_device(device: str, threads: int | None) -> None:
    """Refuse what no machine has.

    Raises:
        UserError: No such choice, or less than one thread.
    """
    if device not in CHOICES:
        raise UserError(f"device: expected one of {', '.join(CHOICES)}, got {device!r}")
    if threads is not None and threads < 1:
        raise UserError(f"threads: expected at least 1, or null for all cores, got {threads}")


def start_tensorflow(
    device: str = "auto", threads: int | None = None, verbose: bool = False
) -> str:
    """Import TensorFlow and return the name of the device that it computes on.

    Args:
        device: `auto` takes a GPU where there is one.
        threads: Cores that one operation may use; None is all. Other numbers round otherwise, so
            results to the last digit need the same number.

    Raises:
        UserError: No such choice, no GPU is visible (the message lists what is), or the process
            has started TensorFlow otherwise, which cannot be changed.
    """
    check_device(device, threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    with _native_messages(shown=verbose):
        with _signals_held(), lean_imports():
            import tensorflow as tf

        tf.get_logger().setLevel("INFO" if verbose else "ERROR")
        gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        visible = ", ".join(device.name for device in tf.config.list_physical_devices())
        raise UserError(f"device: expected a GPU that TensorFlow sees, got only {visible}")
    if _started and _started != [(device, threads)]:
        raise UserError(
            f"device, threads: expected {_started[0][0]} and {_started[0][1]}, with which this "
            f"process has started TensorFlow, got {device} and {threads}; start another process"
        )
    if not _started:
        tf.config.set_visible_devices([] if device == "cpu" else gpus, "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(threads or os.cpu_count() or 1)
        # Full float32 on a GPU, too: TF32 would decide near-ties otherwise than a CPU.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        for gpu in gpus if device != "cpu" else []:
            tf.config.experimental.set_memory_growth(gpu, True)
        _started.append((device, threads))
    return device_name()


def device_name() -> str:
    """Return the name of the device that TensorFlow computes on; on a CPU, with its threads."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return f"CPU, {tf.config.threading.get_intra_op_parallelism_threads()} threads"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))


@contextmanager
def _signals_held() -> Iterator[None]:
    """Have signals wait whose handlers raise: in the middle of a module in C++ that is an abort."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which handles none
        return
    held: list[signal.Signals] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    raising = {number: handler for number, handler in before.items() if callable(handler)}
    for number in raising:
        signal.signal(number, lambda number, _: held.append(signal.Signals(number)))
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
        for first in sorted(set(held), key=ENDING.index):
            signal.raise_signal(first)


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
