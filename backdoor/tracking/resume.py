"""What need not be run again: a run is named after all that determines its result."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from backdoor.cache import Cache
from backdoor.evaluation import evaluate_clean, evaluate_poisoned, evaluate_walks, ratings
from backdoor.pictures.picture_set import read_chunks
from backdoor.pruning.orders import suspects, version_of_order
from backdoor.pruning.stop import STOPS, channels_to_remove, false_alarms
from backdoor.pruning.walk import walk
from backdoor.tracking.record import ORDER, STOP, SUSPECT
from backdoor.versions import LEFT, REPAIR, SEARCH, VERDICT, version_of

REMEDIES = ("estimated_trigger", "stimulation")  # orders that a check repairs by
# Where and how a run is computed, and what is done with it; not what comes out.
WITHOUT_EFFECT = (
    "device", "threads", "cache", "cache_limit", "verbose", "force", "dry_run", "time_limit",
    "folder", "register",
)  # fmt: skip
CODE = (
    read_chunks,
    walk,
    channels_to_remove,
    evaluate_clean,
    evaluate_poisoned,
    ratings,
    evaluate_walks,
    false_alarms,
)


def settings_key(params: Mapping[str, object]) -> str:
    """Return a hash of the settings that have an effect on the result, and of the code's versions.

    Args:
        params: The config as a run's parameters, or a check's, which names no order.
    """
    effective = {
        key: value
        for key, value in params.items()
        if key not in WITHOUT_EFFECT and not key.startswith(("tracking.", "badnet.limits."))
    }
    if ORDER not in params:
        orders = [version_of_order(order) for order in REMEDIES]
        return _hash([*map(version_of, CODE), *orders, VERDICT, SEARCH, REPAIR, LEFT, effective])
    if not suspects(str(params[ORDER])):
        effective.pop(SUSPECT, None)
    stop = version_of(STOPS[str(params[STOP])]) if params.get(STOP) in STOPS else ""
    versions = [version_of_order(str(params[ORDER])), stop, *map(version_of, CODE), REPAIR, LEFT]
    return _hash([versions, effective])


def result_key(
    params: Mapping[str, object], files: Iterable[Sequence[Path]], cache: Cache
) -> str | None:
    """Return a hash of the settings and of the files of network and pictures.

    Args:
        files: Of each set, always in the same order; none of a set that there is not.

    Returns:
        None while one of the files is not there, as before data are drawn.
    """
    try:
        digests = [cache.digest(*paths) if paths else "" for paths in files]
    except OSError:
        return None
    return _hash([settings_key(params), *digests])


def _hash(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
