"""How often checks were right, of networks made here, of which it is known what they are."""

from collections.abc import Sequence

from backdoor.answers import BACKDOORED, UNDECIDED
from backdoor.evaluation import interval
from backdoor.reporting.row import percent
from backdoor.tracking.check_record import ANSWER, KNOWN_ATTACK
from backdoor.tracking.record import SUSPECTED, Record

SUCCESSFUL = 0.8  # of the pictures with the trigger: with less an attack is hardly one
NAME, TARGET = "attack.name", "attack.target"  # parameters of a run
NONE, ALL_TO_ALL = "none", "all_to_all"


def as_known(runs: Sequence[Record]) -> list[str]:
    """Return a sentence for each kind of network there is among these complete checks."""
    made = [run for run in runs if run.params.get(NAME)]
    clean = [run for run in made if run.params[NAME] == NONE]
    attacked = [run for run in made if _attack_succeeds(run)]
    moved = [run for run in attacked if run.params.get(TARGET) == ALL_TO_ALL]
    aimed = [run for run in attacked if run not in moved]
    named = [r for r in aimed if r.run.data.tags.get(SUSPECTED) == r.params.get(TARGET)]
    told = [
        _told("without a backdoor", clean),
        _told("with a backdoor towards one class", aimed),
        _told("with one from every class to the next", moved),
    ]
    accused = [run for run in aimed if _answer(run) == BACKDOORED]
    if accused:
        right = sum(run in named for run in accused)
        told.append(f"of those towards one class {_share(right, len(accused))} name it first")
    return [line for line in told if line]


def _told(what: str, runs: Sequence[Record]) -> str:
    if not runs:
        return ""
    accused = sum(_answer(run) == BACKDOORED for run in runs)
    undecided = sum(_answer(run) == UNDECIDED for run in runs)
    called = f"{_share(accused, len(runs))} called {BACKDOORED}, {undecided} {UNDECIDED}"
    return f"networks {what}: {called}"


def _share(hits: int, total: int) -> str:
    low, high = (percent(end, 0) for end in interval(hits, total))
    return f"{hits} of {total} ({low} to {high} %)"


def _answer(record: Record) -> str:
    return str(record.run.data.tags[ANSWER])


def _attack_succeeds(run: Record) -> bool:
    """Say whether most pictures with the trigger get what the attacker wants."""
    if run.params[NAME] == NONE:
        return False
    rates = run.metrics
    rate = rates.get(f"{KNOWN_ATTACK}_without_target", rates.get(KNOWN_ATTACK, 0))
    return bool(rate >= SUCCESSFUL)
