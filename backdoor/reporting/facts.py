"""What was run where: network, data, versions, seconds."""

import json
from collections.abc import Sequence

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
)

Fact = tuple[str, str]


def facts(records: Sequence[Record]) -> list[Fact]:
    """Return name and value of what the runs of one table share, and how long they took."""
    if not records:
        return []
    run = records[0].run
    tags = run.data.tags
    told = [
        ("network", f"{tags.get(CLASSES)} classes, SHA-256 {tags.get(NETWORK)}"),
        ("cut at", f"{tags.get(LAYER)}, {tags.get(WHY, 'as was asked for')}"),
    ]
    for given in run.inputs.dataset_inputs:
        profile = json.loads(given.dataset.profile)
        name = next(iter(tag.value for tag in given.tags), "").replace("_", " ")
        what = f"{given.dataset.name}, {profile['pictures']} pictures, SHA-256 {profile['sha256']}"
        told.append((name, what))
    seconds = [record.metrics.get(WHOLE, 0) for record in records]
    return [
        *told,
        ("scale", tags.get(SCALED, "")),
        ("program", f"version {tags.get(VERSION)}, commit {tags.get(COMMIT)}"),
        ("machine", records[0].params.get(DEVICE, "")),
        ("time", f"{sum(seconds):.1f} s in {len(records)} runs"),
    ]
