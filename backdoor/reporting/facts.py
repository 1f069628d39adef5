"""What was run where: network, data, versions, seconds."""

from collections.abc import Iterable, Sequence

from backdoor.pictures.test_bed import SETS
from backdoor.tracking.record import (
    CLASSES,
    COMMIT,
    DEVICE,
    LAYER,
    NETWORK,
    SCALED,
    VERSION,
    WHOLE,
    WHY,
    Record,
    data_tag,
)

NONE = "None"  # a path that was not given
Fact = tuple[str, str]


def facts(records: Sequence[Record]) -> list[Fact]:
    """Return name and value of what the runs of one table share, and how long they took."""
    if not records:
        return []
    first, tags = records[0], records[0].run.data.tags
    told = [
        ("network", f"{tags.get(CLASSES)} classes, SHA-256 {tags.get(NETWORK)}"),
        ("cut at", f"{tags.get(LAYER)}, {tags.get(WHY, 'as was asked for')}"),
    ]
    for name in SETS:
        if first.size_of(name):
            path = first.params.get(f"dataset.{name}", NONE)
            path = first.params.get("dataset.clean", NONE) if path == NONE else path
            what = f"{first.size_of(name)} pictures, SHA-256 {tags.get(data_tag(name, 'sha256'))}"
            told.append((name.replace("_", " "), f"{what}, {path}"))
    seconds = [record.metrics.get(WHOLE, 0) for record in records]
    return [
        *told,
        ("scale", tags.get(SCALED, "")),
        ("program", _all(f"version {_tag(r, VERSION)}, commit {_tag(r, COMMIT)}" for r in records)),
        ("computed on", _all(record.run.data.params.get(DEVICE, "") for record in records)),
        ("time", f"{sum(seconds):.1f} s in {len(records)} runs"),
    ]


def _tag(record: Record, name: str) -> str:
    return str(record.run.data.tags.get(name))


def _all(values: Iterable[str]) -> str:
    """Return each value once."""
    return "; ".join(dict.fromkeys(values))
