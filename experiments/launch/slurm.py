"""Sweeps whose jobs run on Slurm: shown as they end, cancelled when the sweep is interrupted."""

import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backdoor.reporting.terminal import run_line
from backdoor.tracking.connect import read_only
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import positions_in, runs_of

SECONDS_BETWEEN_LOOKS = 1
SECONDS_TO_END = 30  # for a job that is cancelled

log = logging.getLogger(__name__)


@contextmanager
def showing_ends(store: Store, sweep: str, runs: int) -> Iterator[None]:
    """Show a line as each run of the sweep ends, while the body runs: its jobs write into files."""
    over, shown = threading.Event(), set()
    client = read_only(store)

    def look() -> None:
        for run in runs_of(client, store, sweep):
            if run.info.run_id not in shown and run.info.status != "RUNNING":
                shown.add(run.info.run_id)
                for number in positions_in(sweep, run):
                    log.info("[%d/%d] %s", number, runs, run_line(client, run))

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        look()


def cancel(submitted: Path) -> None:
    """Take an interrupted sweep's jobs out of Slurm's queue and wait until none runs.

    Args:
        submitted: Where each job has a folder, named after its id.
    """
    jobs = ",".join(sorted({folder.name.split("_")[0] for folder in submitted.glob("[0-9]*")}))
    if not jobs:
        return
    for signal in (["--signal=KILL", "--full"], []):
        subprocess.run(["scancel", *signal, *jobs.split(",")], capture_output=True)
    deadline = time.monotonic() + SECONDS_TO_END
    queue = ["squeue", "--noheader", "--jobs", jobs]
    while subprocess.run(queue, capture_output=True).stdout and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)
