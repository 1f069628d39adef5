"""What a run has found, in sentences."""

from collections.abc import Callable, Sequence

import mlflow
from mlflow.entities import Run

from backdoor.pruning.orders import labelled
from backdoor.reporting.row import Row, percent, percent_interval, points, row_of
from backdoor.tracking.check_record import PAGE, VERDICT
from backdoor.tracking.kinds import CHECK, CHECKS, RUN, SWEEP
from backdoor.tracking.record import ACCURACY, ATTACK, FALSE_ALARMS, Record

FENCE = "```"  # around a table
REPORTED = "Tables with intervals, and figures: the artifact report/index.html."
LONGEST_LINE, LONGEST_TABLE = 200, 7000  # letters: MLflow's notes have an end
Note = Callable[[mlflow.MlflowClient, Run], str]


def run_note(client: mlflow.MlflowClient, run: Run) -> str:
    """Return what one setting comes to: what was removed, what G is worth, what the attack is."""
    return " ".join(told(row_of(Record(client, run))))


def told(row: Row) -> Sequence[str]:
    """Return a row of a table in two or three sentences."""
    accuracy, alarms = percent(row.accuracy, 1), percent(row.false_alarm_rate, 1)
    sentences = [
        f"B' is the network without {row.removed} of {row.channels} channels, removed in the order "
        f"{labelled(row.order)} until it had given up {points(row.threshold)}.",
        f"G is right on {accuracy} % of {row.clean} clean pictures "
        f"({_interval(row, ACCURACY)}) and raises false alarms on {alarms} % "
        f"({_interval(row, FALSE_ALARMS)}).",
    ]
    if row.attack_success_rate is not None:
        sentences.append(
            f"Of {row.poisoned} pictures with the trigger {percent(row.attack_success_rate, 1)} % "
            f"({_interval(row, ATTACK)}) still get the attacker's class; "
            f"{percent(row.detection_rate, 1)} % are detected."
        )
    return sentences


def check_note(client: mlflow.MlflowClient, run: Run) -> str:
    """Return the verdict, and where its evidence is."""
    return f"{run.data.tags[VERDICT]}\n\nThe evidence is the artifact {PAGE}."


def sweep_note(table: str, kind: str) -> str:
    """Return what a parent run says of its runs: the table that the terminal shows, what is next.

    Args:
        kind: Of the parent run.
    """
    lines = [line[:LONGEST_LINE] for line in table.splitlines()]
    while len(lines) > 3 and len("\n".join(lines)) > LONGEST_TABLE:
        del lines[-1]
    left = len(table.splitlines()) - len(lines)
    more = f"\n\nand {left} lines more, in the report." if left else ""
    return f"{FENCE}\n" + "\n".join(lines) + f"\n{FENCE}{more}\n\n{NEXT[kind]}"


def reported_note(note: str, told: Sequence[str]) -> str:
    """Return a parent run's note once its report is made: what that says, the table, what is next.

    Args:
        note: That of `sweep_note`, or of an earlier report.
        told: What the report says, a paragraph each.
    """
    table = note[note.index(FENCE) : note.rindex(FENCE)]
    left = LONGEST_TABLE - len(table)
    said = "\n\n".join(told)
    said = said if len(said) <= left else said[: max(left, 0)] + "…"
    return f"{said}\n\n{table}{FENCE}\n\n{REPORTED}"


def _interval(row: Row, name: str) -> str:
    return f"95 % interval {percent_interval(row.metrics, name)}"


NOTES: dict[str, Note] = {RUN: run_note, CHECK: check_note}
NEXT = {
    SWEEP: "The report (python -m experiments.report) adds tables with intervals and figures to "
    "the artifacts.",
    CHECKS: "Each run's artifact check.html has the evidence.",
}
