"""What a table comes to, in sentences that follow from its figures."""

from collections.abc import Sequence

from backdoor.evaluation import HIGH, LOW
from backdoor.pruning.orders import is_oracle, labelled
from backdoor.reporting.row import Row, percent, percent_interval, points
from backdoor.tracking.record import ACCURACY, ATTACK, DER, DETECTION, FALSE_ALARMS

BEFORE = ("badnet_accuracy", "badnet_attack_success_rate")
NOTHING_DONE = 0.5  # defence effectiveness rating of a network that is left as it is
CHOSEN = "Of each order the threshold is told that does best on these same pictures, by {}."
MOST_TOLD = 3  # orders that work, each in a sentence of its own


def summary(rows: Sequence[Row]) -> list[str]:
    """Return what the network does, which orders work and which do not.

    Told of each order is its best threshold, of many that work the best orders. It works where G
    flags more of the poisoned pictures than of the clean ones and halves the attack's success, both
    beyond what 95 % intervals allow for, and gains more than it costs (DER). Oracles, which are no
    defence, have a sentence of their own.
    """
    done = [row for row in rows if row.run]
    if not done:
        return []
    attacked = any(ATTACK in row.metrics for row in done)
    by, tell = (DER, _with_attacks) if attacked else (ACCURACY, _without_attacks)
    best = _best_of_each([row for row in done if by in row.metrics], by)
    defences = [row for row in best if not is_oracle(row.order)]
    good = [row for row in defences if _works(row)] if attacked else defences
    told = [_network(done[0]), *map(tell, good[:MOST_TOLD])]
    if len(good) > MOST_TOLD:
        told.append(f"Next come {_names(good[MOST_TOLD:])}.")
    if attacked:
        told += _failures([row for row in defences if not _works(row)])
    told += [f"The best oracle: {tell(row)}" for row in best if is_oracle(row.order)][:1]
    if len(done) > len(best):
        told.append(CHOSEN.format("DER" if attacked else "accuracy"))
    return told


def _best_of_each(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return each order's best row, the best first."""
    by_worth = sorted(rows, key=lambda row: -row.metrics[metric])
    best: dict[str, Row] = {}
    for row in by_worth:
        best.setdefault(row.order, row)
    return list(best.values())


def _works(row: Row) -> bool:
    metrics = row.metrics
    apart = metrics[DETECTION + LOW] > metrics[FALSE_ALARMS + HIGH]
    halved = metrics[ATTACK + HIGH] < metrics[BEFORE[1]] / 2
    return bool(apart and halved and metrics[DER] > NOTHING_DONE)


def _network(row: Row) -> str:
    right, attacked = (row.metrics.get(name) for name in BEFORE)
    told = f"The network is right on {percent(right, 1)} % of {row.clean} clean pictures"
    if attacked is None:
        return f"{told}; without poisoned pictures nothing is known of attacks."
    return (
        f"{told}, and gives {percent(attacked, 1)} % of {row.poisoned} pictures with the trigger "
        f"the attacker's class."
    )


def _with_attacks(row: Row) -> str:
    return (
        f"{_at(row)} detects {_rate(row, DETECTION)} of the attacks and raises false alarms on "
        f"{_rate(row, FALSE_ALARMS)} of clean pictures; {_rate(row, ATTACK)} of the attacks still "
        f"succeed."
    )


def _without_attacks(row: Row) -> str:
    return (
        f"{_at(row)} leaves G right on {_rate(row, ACCURACY)} of clean pictures, with false alarms "
        f"on {_rate(row, FALSE_ALARMS)}."
    )


def _failures(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    if len(rows) > 1:
        return [f"These do not work: {_names(rows)}."]
    (row,) = rows
    return [
        f"{labelled(row.order)} does not work: at {points(row.threshold)} it detects "
        f"{_rate(row, DETECTION)} of the attacks and raises false alarms on "
        f"{_rate(row, FALSE_ALARMS)} of clean pictures."
    ]


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(labelled(row.order) for row in rows)


def _at(row: Row) -> str:
    return f"{labelled(row.order)} at {points(row.threshold)}"


def _rate(row: Row, name: str) -> str:
    ends = percent_interval(row.metrics, name)
    return f"{percent(row.metrics.get(name), 1)} %" + (f" ({ends})" if ends else "")
