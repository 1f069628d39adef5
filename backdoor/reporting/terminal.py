"""What a terminal shows of runs."""

from collections.abc import Callable, Sequence

import mlflow
from mlflow.entities import Run
from tabulate import tabulate

from backdoor.reporting.combinations import varied
from backdoor.reporting.known import as_known
from backdoor.reporting.row import percent, row_of
from backdoor.text import plain
from backdoor.tracking.check_record import ANSWER, KNOWN_ATTACK, SCORE, SQUARE
from backdoor.tracking.kinds import CHECK, RUN
from backdoor.tracking.record import (
    BADNET,
    ERROR,
    LAYER,
    PARENT,
    SUSPECTED,
    WHOLE,
    Record,
    is_complete,
)
from backdoor.tracking.sweeps import positions_in, untracked

UNTRACKED = "NOT TRACKED"  # it could not, or was never begun; its log, if there is one, says why
LONGEST_REASON = 2000  # letters

Line = Callable[[mlflow.MlflowClient, Run], str]
Table = Callable[[mlflow.MlflowClient, Run, Sequence[Run]], str]


def run_line(client: mlflow.MlflowClient, run: Run) -> str:
    """Return how a run ended, in one line."""
    if not is_complete(run):
        return f"{run.info.run_name} failed: {reason(run)}"
    record = Record(client, run)
    row = row_of(record)
    attack = row.attack_success_rate
    parts = [
        run.info.run_name,
        f"accuracy {row.accuracy:.2%}",
        f"ASR {attack:.2%}" if attack is not None else f"false alarms {row.false_alarm_rate:.2%}",
        f"{row.removed}/{row.channels} channels",
        f"{record.metrics[WHOLE]:.1f} s",
        f"cut at {run.data.tags[LAYER]}",
    ]
    return "  ".join(parts)


def runs_table(client: mlflow.MlflowClient, sweep: Run, runs: Sequence[Run]) -> str:
    """Return a table of all runs of a sweep, failed ones with their message."""
    parent = sweep.info.run_id
    ordered = sorted(runs, key=lambda run: (positions_in(parent, run), run.info.start_time))
    lines = [_line(client, sweep, run) for run in ordered]
    for title in untracked(sweep, runs):
        lines.append(dict.fromkeys(lines[0], "") | {"run": title, "status": UNTRACKED})
    poisoned = any(line["ASR %"] for line in lines) or not any(line["channels"] for line in lines)
    for line in lines if not poisoned else ():
        del line["ASR %"], line["detected %"]
    return str(tabulate(lines, headers="keys", tablefmt="simple", disable_numparse=True))


def check_line(client: mlflow.MlflowClient, run: Run) -> str:
    """Return what a check has found, in one line."""
    if not is_complete(run):
        return f"{run.info.run_name} failed: {reason(run)}"
    suspect = run.data.tags.get(SUSPECTED)
    towards = "" if suspect is None else f", class {suspect}"
    seconds = Record(client, run).metrics[WHOLE]
    return f"{run.info.run_name}  {run.data.tags[ANSWER]}{towards}  {seconds:.1f} s"


def checks_table(client: mlflow.MlflowClient, sweep: Run, runs: Sequence[Run]) -> str:
    """Return a table of the networks that were checked, failed ones with their message."""
    parent = sweep.info.run_id
    ordered = sorted(runs, key=lambda run: (positions_in(parent, run), run.info.start_time))
    lines = [
        {
            "network": run.info.run_name.removeprefix("check "),
            **{
                key: value
                for key, value in varied(sweep, Record(client, run)).items()
                if key != BADNET
            },
            "ASR %": percent(run.data.metrics.get(KNOWN_ATTACK), 1),
            "answer": run.data.tags.get(ANSWER, run.info.status),
            "class": run.data.tags.get(SUSPECTED, ""),
            "square %": percent(run.data.metrics.get(SQUARE), 1),
            "score": f"{run.data.metrics[SCORE]:.1f}" if SCORE in run.data.metrics else "",
            "id or reason": run.info.run_id if is_complete(run) else reason(run),
        }
        for run in ordered
    ]
    for column in ("ASR %", "square %"):
        for line in lines if not any(line[column] for line in lines) else ():
            del line[column]
    table = str(tabulate(lines, headers="keys", tablefmt="simple", disable_numparse=True))
    known = as_known([Record(client, run) for run in ordered if is_complete(run)])
    return "\n".join([table, *(["", *known] if known else [])])


LINES: dict[str, Line] = {RUN: run_line, CHECK: check_line}
TABLES: dict[str, Table] = {RUN: runs_table, CHECK: checks_table}


def reason(run: Run) -> str:
    """Return why a run failed, on one line."""
    return plain(run.data.tags.get(ERROR, ""), LONGEST_REASON)


def _line(client: mlflow.MlflowClient, sweep: Run, run: Run) -> dict[str, str]:
    done = is_complete(run)
    record = Record(client, run)
    row = row_of(record) if done else None
    status = run.info.status if done or run.info.status != "FINISHED" else "INCOMPLETE"
    earlier = done and run.data.tags.get(PARENT) != sweep.info.run_id
    return {
        "run": run.info.run_name,
        **varied(sweep, record),
        "status": "EARLIER" if earlier else status,
        "accuracy %": percent(row.accuracy, 2) if row else "",
        "ASR %": percent(row.attack_success_rate, 2) if row else "",
        "detected %": percent(row.detection_rate, 2) if row else "",
        "false alarms %": percent(row.false_alarm_rate, 2) if row else "",
        "channels": f"{row.removed}/{row.channels}" if row else "",
        "id or reason": run.info.run_id if done else reason(run),
    }
