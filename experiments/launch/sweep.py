"""A sweep: what is to run is said, its parent run opened, lost runs found, its end printed."""

import logging
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from omegaconf import DictConfig

from backdoor.cache import Cache
from backdoor.reporting.sentences import sweep_note
from backdoor.reporting.terminal import TABLES
from backdoor.tracking.check_record import code_of
from backdoor.tracking.connect import connect, hurry, read_only
from backdoor.tracking.liveness import alive
from backdoor.tracking.pages import is_server, pages_of, summarise, table_of
from backdoor.tracking.record import LOG, is_complete
from backdoor.tracking.runs import DIED, complete_results, mark_dead
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import (
    complete_positions,
    finish_sweep,
    positions_in,
    runs_of,
    start_sweep,
)
from experiments.launch import cli, slurm
from experiments.launch.arguments import command_line, repeated, store_words
from experiments.launch.ending import REASONS
from experiments.launch.job import result_of
from experiments.launch.plan import Plan, task_of
from experiments.launch.settings import alive_folder, settings_of, store_of
from experiments.launch.work import CHECK, RUN, Work

log = logging.getLogger(__name__)


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
    work: Work
    runs: int
    alive: Path
    submitted: Path | None
    closing: ExitStack

    def lost_runs(self) -> list[int]:
        """Return the numbers of runs that neither are complete nor have failed by themselves.

        None where no run was started at all: it was not a worker that died.
        """
        client = connect(self.store)
        mark_dead(client, self.store, self.alive)
        runs = runs_of(client, self.store, self.id)
        settled = {
            number
            for run in runs
            if run.info.status in ("FINISHED", "FAILED")
            for number in positions_in(self.id, run)
        }
        return sorted(set(range(1, self.runs + 1)) - settled) if runs else []

    def finish(self, code: int, worker_died: bool) -> int:
        """Close the parent run, print what became of all runs, return the sweep's exit code."""
        interrupted = code in REASONS
        if self.submitted and interrupted:
            slurm.cancel(self.submitted)
        self.closing.close()
        if interrupted:
            hurry()
        client = connect(self.store)
        with _as_far_as_it_goes():
            mark_dead(client, self.store, self.alive, REASONS.get(code, DIED))
            finish_sweep(self.store, self.id, killed=interrupted)
        parent, runs = client.get_run(self.id), runs_of(client, self.store, self.id)
        if not runs:
            return code
        table = TABLES[self.work.kind](client, parent, runs)
        print(f"\n{table}\n")
        with _as_far_as_it_goes():
            summarise(client, parent, runs, sweep_note(table, self.work.kind_of_many))
        self._print_what_next(parent, runs)
        incomplete = self.runs - len(complete_positions(self.id, runs))
        if self.work is CHECK and not (code or incomplete or worker_died):
            return code_of(runs)
        if code or not (incomplete or worker_died):
            return code
        if incomplete:
            print(
                f"error: {incomplete} of {self.runs} runs failed; the same command runs those "
                f"again",
                file=sys.stderr,
            )
        else:
            print("error: a worker died; what it had not finished was run again", file=sys.stderr)
        return 1

    def _print_what_next(self, parent: Run, runs: Sequence[Run]) -> None:
        for run in runs:
            if not is_complete(run):
                print(f"log of {run.info.run_name}: {run.data.tags.get(LOG) or 'none'}")
        print(f"compare: {_ui(self.store, parent)}")
        if self.work is not RUN:
            return
        report = f"{command_line('report')} sweep={self.id}{store_words(self.store)}"
        print(f"tables and figures: {report}")


@contextmanager
def _as_far_as_it_goes() -> Iterator[None]:
    """Go on where the store takes no more, as on a full disk: what is finished is to be shown."""
    try:
        yield
    except MlflowException as error:
        print(f"error: {cli.one_sentence(error)}", file=sys.stderr)


def announce(plan: Plan, config: DictConfig, work: Work) -> None:
    """Show what is going to run, what is complete already, and where; list it in a dry run."""
    store = store_of(config)
    complete = _complete_already(plan, config, store, work)
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    log.info(
        "%s: %d complete already%s; launcher %s; tracked in %s; cache %s",
        f"{len(plan.jobs)} runs over {plan.name}" if plan.axes else plan.name,
        sum(run is not None for run in complete),
        ", run again" if config.force and any(complete) else "",
        launcher,
        store.shown,
        Cache(config.cache, config.cache_limit),
    )
    if config.dry_run:
        for number, (job, run) in enumerate(zip(plan.jobs, complete, strict=True), start=1):
            print(f"[{number}/{len(plan.jobs)}] {plan.title(job)}", end="")
            print(f"  complete already: {run}" if run else "")


def start(plan: Plan, config: DictConfig, work: Work) -> OpenSweep:
    """Open the parent run, after marking what died without saying so."""
    store, folder = store_of(config), alive_folder(config.cache)
    for name in mark_dead(connect(store), store, folder):
        log.info("marked KILLED, its process is dead: %s", name)
    closing, token = ExitStack(), uuid.uuid4().hex
    closing.enter_context(alive(folder, token))
    runs = len(plan.jobs)
    command = repeated(work.command, ["-m", *config.hydra.overrides.task])
    sweep = start_sweep(store, plan.name, plan.axes, runs, token, work.kind_of_many, command)
    submitit = "submitit" in config.hydra.launcher._target_
    submitted = Path(config.hydra.sweep.dir) / ".submitit" if submitit else None
    if submitted:
        closing.enter_context(slurm.showing_ends(store, sweep, runs))
    return OpenSweep(store, sweep, work, runs, folder, submitted, closing)


def _complete_already(plan: Plan, config: DictConfig, store: Store, work: Work) -> list[str | None]:
    """Return the complete run of each planned one, None where there is none; write nothing."""
    if store.database is not None and not store.database.exists():
        return [None] * len(plan.jobs)
    known = complete_results(read_only(store), store)
    complete: list[str | None] = []
    with tempfile.TemporaryDirectory() as nowhere:
        for job in plan.jobs if known else []:
            try:
                task = task_of(config, job)
                settings = settings_of(task, work.settings)
                cache = Cache(nowhere) if config.dry_run else settings.kept
                result = result_of(settings, cli.params_of(task), cache)
                complete.append(known.get(result or ""))
            except cli.USER_MISTAKES:
                complete.append(None)  # the run itself will say what is wrong
    return complete or [None] * len(plan.jobs)


def _ui(store: Store, parent: Run) -> str:
    """Return where the table of the runs is to be seen, and what has to be typed before that."""
    address = f"{pages_of(store)}{table_of(parent)}"
    if is_server(store):
        return address
    ours = store.uri is None and not store_words(store) and Path("Makefile").is_file()
    command = "make ui" if ours else f"{command_line('ui')}{store_words(store)}"
    return f"{command}, then {address}"
