"""Many networks in one table: a line an attack, with what each order makes of it."""

import statistics
from collections.abc import Sequence

from backdoor.reporting.combinations import Cell, Combination
from backdoor.reporting.seeds import without_seeds
from backdoor.reporting.tables import Line, Table
from backdoor.tracking.record import ACCURACY, ATTACK, DETECTION, FALSE_ALARMS, NETWORK, Record

WITHOUT_TARGET = "_without_target"  # a picture of the target's class falls to no trigger
BEFORE = ("badnet_accuracy", f"badnet_attack_success_rate{WITHOUT_TARGET}")
AFTER = (ACCURACY, f"{ATTACK}{WITHOUT_TARGET}", DETECTION, FALSE_ALARMS)
NOTHING = "-"

Records = Sequence[Record]


def zoo_table(combinations: Sequence[Combination]) -> Table | None:
    """Return a line for each kind of network that a sweep varies; None where it is one.

    Networks that differ by seeds alone share a line, which holds their means.
    """
    kinds: dict[str, list[Combination]] = {}
    for combination in combinations:
        kinds.setdefault(without_seeds(combination.title), []).append(combination)
    if len(kinds) < 2:
        return None
    cells = sorted({cell for some in kinds.values() for one in some for cell in one.records})
    lines = [_line(title, some, cells) for title, some in kinds.items()]
    title = (
        "All networks: each order's GoodNet on the test sets, accuracy / ASR / detected / false "
        "alarms in %, means where there are several; ASR without pictures of the target's class"
    )
    return Table("zoo", title, lines)


def _line(title: str, combinations: Sequence[Combination], cells: Sequence[Cell]) -> Line:
    first = [next(iter(one.records.values())) for one in combinations if one.records]
    networks = {record.run.data.tags[NETWORK] for record in first}
    line = {"runs of": title, "networks": str(len(networks))}
    line |= {"accuracy %": _mean(first, BEFORE[0]), "ASR %": _mean(first, BEFORE[1])}
    for cell in cells:
        records = [one.records[cell] for one in combinations if cell in one.records]
        rates = [_mean(records, name) for name in AFTER]
        line[f"{cell[0]} {cell[1]:g} %"] = " / ".join(rates)
    return line


def _mean(records: Records, name: str) -> str:
    told = [name, name.removesuffix(WITHOUT_TARGET)]  # where true classes are not known
    values = [next((v for n in told if (v := r.metric(n)) is not None), None) for r in records]
    known = [100 * value for value in values if value is not None]
    return f"{statistics.mean(known):.1f}" if known else NOTHING
