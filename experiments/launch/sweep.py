"""A multirun as one MLflow run with its runs nested under it, on any of Hydra's launchers."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from backdoor.tracking.store import Store
from experiments.launch import cli
from experiments.launch.settings import alive_folder, setting_of

SWEEP, RUNS, ONLY = "BACKDOOR_SWEEP", "BACKDOOR_RUNS", "BACKDOOR_ONLY"
FOLDER = "BACKDOOR_FOLDER"
SECONDS_BETWEEN_LOOKS = 1
SECONDS_TO_END = 30  # for a job that is cancelled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a multirun is asked for.

    Attributes:
        axes: What is swept over which values.
        jobs: The overrides of each run.
    """

    axes: Mapping[str, Sequence[str]]
    jobs: Sequence[Sequence[str]]

    @property
    def name(self) -> str:
        """The sweep, named after what it varies: `order=asc,desc threshold=2,4,10`."""
        varied = (f"{key}={','.join(values)}" for key, values in self.axes.items())
        return " ".join(varied) or "one run"


@dataclass(frozen=True)
class OpenSweep:
    """A sweep that this process has started.

    Attributes:
        alive: Where its runs show that they are alive.
        submitted: Where Slurm's jobs have a folder each, named after their ids.
        closing: Releases what it holds.
    """

    store: Store
    id: str
    runs: int
    alive: Path
    submitted: Path | None
    closing: ExitStack


@dataclass(frozen=True)
class Place:
    """Where a run stands: in which sweep, None for a run alone; its position there, from 1."""

    sweep: str | None
    position: int
    log: str

    @property
    def prefix(self) -> str:
        return f"[{self.position}/{os.environ[RUNS]}] " if self.sweep else ""

    @property
    def wanted(self) -> bool:
        """Whether it is to run; when a sweep's lost runs are started again, only those are."""
        only = os.environ.get(ONLY)
        return not only or str(self.position) in only.split(",")


def place(hydra_config: DictConfig) -> Place:
    """Return the place of the job that runs."""
    sweep = os.environ.get(SWEEP)
    file = Path(hydra_config.runtime.output_dir) / f"{hydra_config.job.name}.log"
    return Place(sweep, hydra_config.job.num + 1 if sweep else 1, str(file.resolve()))


_open: list[OpenSweep] = []
_lost: list[int] = []


class SweepCallback(Callback):  # type: ignore[misc]
    """Create the parent run before the first job starts and hand its id to all jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            plan = planned(config)
            store = Store(**OmegaConf.to_container(config.tracking, resolve=True))  # type: ignore[arg-type]
            _say(plan, config, store)
            if config.dry_run:
                raise SystemExit(0)
            if not _open:
                _open.append(_start(plan, config, store))
        except Exception as error:
            # Hydra turns an exception here into a warning and would run all jobs without a parent.
            print(f"error: {cli.one_sentence(error)}", file=sys.stderr)
            raise SystemExit(cli.exit_code(error)) from error
        only = ",".join(map(str, _lost))
        handed = {SWEEP: _open[0].id, RUNS: _open[0].runs, ONLY: only, FOLDER: Path.cwd()}
        for name, value in handed.items():
            config.hydra.overrides.hydra.append(f"+hydra.job.env_set.{name}='{value}'")
        outputs = Path(config.hydra.sweep.dir).resolve()
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{outputs}'")


def planned(config: DictConfig) -> Plan:
    """Return what a multirun sweeps over and the runs that makes.

    As in Hydra's sweeper: its own parameters, then the command line; the last of a key counts.
    """
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    overrides: list[Override] = OverridesParser.create().parse_overrides(
        [*given, *config.hydra.overrides.task]
    )
    last = {each.get_key_element(): each for each in overrides}
    axes = {
        key: [str(value) for value in each.sweep_string_iterator()]
        for key, each in last.items()
        if each.is_sweep_override()
    }
    return Plan(axes, BasicSweeper.split_arguments(overrides, max_batch_size=None)[0])


def _say(plan: Plan, config: DictConfig, store: Store) -> None:
    """Show what is going to run, what is complete already, and where."""
    if _lost:
        return
    complete = _complete_already(plan, config, store)
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    log.info(
        "%s: %d complete already%s; launcher %s; tracked in %s",
        f"{len(plan.jobs)} runs over {plan.name}" if plan.axes else plan.name,
        sum(run is not None for run in complete),
        ", run again" if config.force and any(complete) else "",
        launcher,
        store.shown,
    )
    if config.dry_run:
        for number, (job, run) in enumerate(zip(plan.jobs, complete, strict=True), start=1):
            varied = [each for each in job if each.partition("=")[0] in plan.axes]
            print(f"[{number}/{len(plan.jobs)}] {' '.join(varied)}", end="")
            print(f"  complete already: {run}" if run else "")


def _complete_already(plan: Plan, config: DictConfig, store: Store) -> list[str | None]:
    """Return the complete run of each planned one, None where there is none; write nothing."""
    if store.database is not None and not store.database.exists():
        return [None] * len(plan.jobs)
    from backdoor.cache import Cache
    from backdoor.tracking.resume import result_id
    from backdoor.tracking.runs import complete_results, read_only

    known = complete_results(read_only(store), store)
    loader = GlobalHydra.instance().config_loader()
    found = []
    with tempfile.TemporaryDirectory() as nowhere:
        for job in plan.jobs if known else []:
            try:
                composed = loader.load_sweep_config(config, list(job))
                task = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
                setting = setting_of(task)
                cache = Cache(nowhere if config.dry_run else setting.cache)
                found.append(known.get(result_id(setting, cli.params_of(task), cache) or ""))
            except cli.USER_MISTAKES:
                found.append(None)  # the run itself will say what is wrong
    return found or [None] * len(plan.jobs)


def _start(plan: Plan, config: DictConfig, store: Store) -> OpenSweep:
    from backdoor.tracking.liveness import alive
    from backdoor.tracking.runs import connect, mark_dead, start_sweep

    folder = alive_folder(config.cache)
    for name in mark_dead(connect(store), store, folder):
        log.info("marked KILLED, its process is dead: %s", name)
    closing, token = ExitStack(), uuid.uuid4().hex
    closing.enter_context(alive(folder, token))
    sweep = start_sweep(store, plan.name, plan.axes, len(plan.jobs), token)
    submitit = "submitit" in config.hydra.launcher._target_
    submitted = Path(config.hydra.sweep.dir) / ".submitit" if submitit else None
    started = OpenSweep(store, sweep, len(plan.jobs), folder, submitted, closing)
    if submitted:  # its jobs write into files
        closing.enter_context(_showing_ends(started))
    return started


@contextmanager
def _showing_ends(sweep: OpenSweep) -> Iterator[None]:
    """Show a line as each run of the sweep ends, while the body runs."""
    from backdoor.reporting.combinations import run_line
    from backdoor.tracking.runs import positions_in, read_only, runs_of

    over, shown = threading.Event(), set()

    def look() -> None:
        for run in runs_of(read_only(sweep.store), sweep.store, sweep.id):
            if run.info.run_id not in shown and run.info.status != "RUNNING":
                shown.add(run.info.run_id)
                for position in positions_in(sweep.id, run):
                    log.info("[%d/%d] %s", position, sweep.runs, run_line(run))

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


def closing_sweep(call: Callable[[], int]) -> int:
    """Call, close the sweep that this has opened, if any, print its runs, and return the exit code.

    Runs that a dead worker has taken with it are started once more. Hydra's own `on_multirun_end`
    is not called when a job has failed.
    """
    code = cli.KILLED_BY_SIGINT
    _lost.clear()
    try:
        code = call()
        if code == 1 and _open:
            _lost.extend(_lost_runs(_open[0]))
            if _lost:
                log.info("a worker died: %d runs are started once more", len(_lost))
                code = call()
    finally:
        while _open:
            code = _finish(_open.pop(), code)
    return code


def _cancel(submitted: Path) -> None:
    """Take an interrupted sweep's jobs out of Slurm's queue and wait until none runs."""
    jobs = ",".join(sorted({folder.name.split("_")[0] for folder in submitted.glob("[0-9]*")}))
    if not jobs:
        return
    for signal in (["--signal=KILL", "--full"], []):
        subprocess.run(["scancel", *signal, *jobs.split(",")], capture_output=True)
    deadline = time.monotonic() + SECONDS_TO_END
    queue = ["squeue", "--noheader", "--jobs", jobs]
    while subprocess.run(queue, capture_output=True).stdout and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _lost_runs(sweep: OpenSweep) -> list[int]:
    """Return the positions of runs that neither are complete nor have failed by themselves.

    None where no run was started at all: it was not a worker that died.
    """
    from backdoor.tracking.runs import connect, mark_dead, positions_in, runs_of

    client = connect(sweep.store)
    mark_dead(client, sweep.store, sweep.alive)
    runs = runs_of(client, sweep.store, sweep.id)
    settled = {
        position
        for run in runs
        if run.info.status in ("FINISHED", "FAILED")
        for position in positions_in(sweep.id, run)
    }
    return sorted(set(range(1, sweep.runs + 1)) - settled) if runs else []


def _finish(sweep: OpenSweep, code: int) -> int:
    from backdoor.reporting.combinations import runs_table
    from backdoor.tracking.runs import (
        DIED,
        INTERRUPTED,
        LOG,
        complete_positions,
        connect,
        finish_sweep,
        in_sweep,
        is_complete,
        mark_dead,
    )

    if sweep.submitted and code == cli.KILLED_BY_SIGINT:
        _cancel(sweep.submitted)
    sweep.closing.close()
    interrupted = code == cli.KILLED_BY_SIGINT
    mark_dead(connect(sweep.store), sweep.store, sweep.alive, INTERRUPTED if interrupted else DIED)
    parent, runs = finish_sweep(sweep.store, sweep.id, killed=interrupted)
    if not runs:
        return code
    print(f"\n{runs_table(parent, runs)}\n")
    unsuccessful = [run for run in runs if not is_complete(run)]
    for run in unsuccessful:
        print(f"log of {run.info.run_name}: {run.data.tags.get(LOG) or 'none'}")
    show = f"tags.`{in_sweep(sweep.id)}` LIKE '%'"
    print(f"compare: {_ui(sweep.store)}, tick Expand rows, filter by   {show}")
    print(f"tables and figures: python -m experiments.report sweep={sweep.id}")
    incomplete = sweep.runs - len(complete_positions(sweep.id, runs))
    if code or not (incomplete or _lost):
        return code
    if incomplete:
        print(
            f"error: {incomplete} of {sweep.runs} runs failed; the same command runs those again",
            file=sys.stderr,
        )
    else:
        print("error: a worker died; what it had not finished was run again", file=sys.stderr)
    return 1


def _ui(store: Store) -> str:
    if store.uri is None:
        return "make ui"
    return f"mlflow ui --backend-store-uri {store.shown}" if store.database else store.shown
