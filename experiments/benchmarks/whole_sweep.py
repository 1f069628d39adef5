"""The whole command on files, from nothing: seconds beyond the numerics, memory, first output."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from backdoor.networks.cut import CutNetwork
from backdoor.reporting.published import PUBLISHED
from backdoor.tracking.connect import connect
from backdoor.tracking.record import SECONDS, Record
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import newest_sweep, runs_of
from experiments.benchmarks.measure import Pictures
from experiments.benchmarks.settings import Benchmark

EXTRA = 6  # the seventh threshold, which finds all walks kept
MEASURE_PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit, file=sys.stderr)
sys.exit(done.returncode)
"""


def whole_sweep(network: CutNetwork, pictures: Pictures, settings: Benchmark) -> dict[str, Any]:
    """Run the command on files, valid sets in float64, in a process of its own, from nothing.

    The network's own labels are taken for the truth, so that drawn faces can be swept with any
    weights. Thresholds 2, 4, 10, then another.
    """
    with tempfile.TemporaryDirectory(dir=settings.work_folder) as folder:
        for name, values in pictures.items():
            clean = name.startswith("clean")
            truth = network.classify_pictures(values) if clean else np.zeros(len(values))
            stored = np.float64 if name.endswith("valid") else np.float32
            _write(Path(folder) / f"{name}.h5", values, truth, stored)
        network.model.save(f"{folder}/badnet.keras")
        lines, whole = _timed_command(folder, list(pictures))
        seconds = _seconds_of_runs(Path(folder))
    extra = [run["total"] for name, run in seconds.items() if name.endswith(f"-{EXTRA}")]
    six = [run for name, run in seconds.items() if not name.endswith(f"-{EXTRA}")]
    numeric = sum(run.get(stage, 0) for run in six for stage in ("head", "rank", "walk"))
    return {
        "peak_rss_bytes": int(lines[-1][1].split()[-1]),
        "extra_threshold_seconds": statistics.mean(extra),
        "six_runs_overhead_seconds": sum(run["total"] for run in six) - numeric,
        "sweep_overhead_seconds": whole - numeric - sum(extra),
        "first_output_seconds": lines[0][0],
        "first_progress_seconds": next(at for at, line in lines if line.endswith("...\n")),
        "first_head_seconds": next(at for at, line in lines if line.startswith("Head ")),
        "sweep_seconds_of_runs": seconds,
    }


def _write(path: Path, values: NDArray[np.float32], labels: NDArray[Any], stored: type) -> None:
    with h5py.File(path, "w") as file:
        file["label"] = labels
        data = file.create_dataset("data", (len(values), 3, *values.shape[1:3]), stored)
        for start in range(0, len(values), 512):
            data[start : start + 512] = np.moveaxis(values[start : start + 512], -1, 1)


def _timed_command(folder: str, sets: list[str]) -> tuple[list[tuple[float, str]], float]:
    """Return each line of the sweep's progress with its second, and the seconds of the whole."""
    command = [sys.executable, "-m", "experiments.run", "-m", "dataset=files"]
    command += [f"order={','.join(PUBLISHED)}", f"threshold=2,4,10,{EXTRA}"]
    command += [
        "badnet.path=badnet.keras",
        "dataset.divide_by=1",
        *(f"dataset.{name}={name}.h5" for name in sets),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    # A process takes its parent's peak for its own when it starts, so a small one starts it.
    measuring = [sys.executable, "-c", MEASURE_PEAK, *command]
    began = time.perf_counter()
    child = subprocess.Popen(
        measuring, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None, "it was asked for"
    lines = [(time.perf_counter() - began, line) for line in child.stderr]
    if child.wait():
        raise RuntimeError(f"the sweep failed: {''.join(line for _, line in lines)[-2000:]}")
    return lines, time.perf_counter() - began


def _seconds_of_runs(folder: Path) -> dict[str, dict[str, float]]:
    store = Store(None, str(folder / "mlruns"), "backdoor")
    client = connect(store)
    return {
        run.info.run_name: {
            name.removeprefix(SECONDS): value
            for name, value in Record(client, run).metrics.items()
            if name.startswith(SECONDS)
        }
        for run in runs_of(client, store, newest_sweep(client, store) or "")
    }
