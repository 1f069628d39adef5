"""Many processes that track runs in one store at once: is anything lost or doubled, how long?

python tests/load.py sqlite:////tmp/load/mlflow.db
python tests/load.py http://127.0.0.1:5000 --processes 8 --runs 200
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = 61


def write(address: str, folder: Path, sweep: str, first: int, count: int) -> None:
    """Track runs as experiments.run does, the computing left out."""
    import mlflow
    import numpy as np

    from backdoor.tracking.connect import connect
    from backdoor.tracking.record import (
        DETECTION_CURVES,
        TEST_CURVES,
        log_curves,
        log_data_set,
    )
    from backdoor.tracking.runs import tracked_run
    from backdoor.tracking.store import Store

    connect(Store(address, str(folder), "load"))
    names = (*TEST_CURVES, *DETECTION_CURVES)
    for position in range(first, first + count):
        curves = {name: np.arange(STEPS) * position for name in names}
        params = {f"key_{n}": position for n in range(40)}
        with tracked_run(f"run-{position}", params, folder / "running", sweep, position) as run_id:
            log_curves(run_id, curves)
            log_data_set(run_id, "clean_valid", Path(f"{position // 50}.h5"), "0" * 64, 1)
            mlflow.log_metrics({f"metric_{n}": position for n in range(15)})


def load(address: str, processes: int, runs: int) -> dict[str, Any]:
    """Write `runs` runs from `processes` processes and return what the store then holds.

    Raises:
        RuntimeError: A process failed, or a run is missing, doubled or not whole.
    """
    from backdoor.tracking.connect import connect
    from backdoor.tracking.record import TEST_CURVES, Record
    from backdoor.tracking.store import Store
    from backdoor.tracking.sweeps import positions_in, runs_of, start_sweep

    if runs % processes:
        raise ValueError(f"--runs: expected a multiple of {processes} processes, got {runs}")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(address, folder, "load")
        sweep = start_sweep(store, "load", {}, runs)
        share = runs // processes
        command = [sys.executable, __file__, address, "--write"]
        began = time.perf_counter()
        writers = [
            subprocess.Popen(
                [*command, folder, sweep, str(number * share + 1), str(share)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        errors = [each.communicate()[1] for each in writers]
        seconds = time.perf_counter() - began
        if any(each.returncode for each in writers):
            raise RuntimeError("\n".join(filter(None, errors)))
        client = connect(store)
        found = runs_of(client, store, sweep)
        positions = sorted(each for run in found for each in positions_in(sweep, run))
        if positions != list(range(1, processes * share + 1)):
            raise RuntimeError(f"expected runs 1 to {processes * share}, found {positions}")
        for run in found:
            (position,) = positions_in(sweep, run)
            curve = [position * step for step in range(STEPS)]
            if run.info.status != "FINISHED" or Record(client, run).params["key_0"] != str(
                position
            ):
                raise RuntimeError(f"run {position}: expected it whole, found {run}")
            if position % 20 == 0 and Record(client, run).curve(TEST_CURVES[1]) != curve:
                raise RuntimeError(f"run {position}: expected its curve, found another")
    return {"processes": processes, "runs": len(found), "seconds_a_run": seconds / len(found)}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        folder, sweep, first, count = given.write
        write(given.address, Path(folder), sweep, int(first), int(count))
    else:
        print(json.dumps(load(given.address, given.processes, given.runs)))


if __name__ == "__main__":
    main()
