"""Attack success by target and by trigger, of a network that has several."""

import re
from collections.abc import Iterable

from backdoor.reporting.combinations import Cell
from backdoor.reporting.row import percent
from backdoor.reporting.tables import Line, Table
from backdoor.tracking.record import Record

PART = re.compile(r"badnet_attack_success_rate/((?:target|trigger) \d+)")
NETWORKS = {"badnet": "B", "pruned": "B'", "goodnet": "G"}


def parts_table(records: Iterable[tuple[Cell, Record]]) -> Table | None:
    """Return a line for each part and run; None where no run tells parts apart."""
    lines = []
    for (order, threshold), record in records:
        metrics = record.metrics
        parts = [match[1] for name in sorted(metrics) if (match := PART.fullmatch(name))]
        for part in parts:
            line: Line = {
                "order": order,
                "threshold": f"{threshold:g} %",
                "poisoned pictures of": part,
                **{
                    f"ASR % of {shown}": percent(
                        metrics.get(f"{network}_attack_success_rate/{part}"), 1
                    )
                    for network, shown in NETWORKS.items()
                },
            }
            lines.append(line)
    return Table("parts", "Attack success by target and by trigger", lines) if lines else None
