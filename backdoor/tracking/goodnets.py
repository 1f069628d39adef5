"""A GoodNet among what was tracked, and what its run knows of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from backdoor.errors import UserError
from backdoor.pictures.brightness import Brightness
from backdoor.pictures.scale import STORED
from backdoor.pictures.test_bed import CLEAN_TEST
from backdoor.tracking.connect import connect
from backdoor.tracking.record import (
    BRIGHTNESS_FILE,
    CHANNELS_FILE,
    FALSE_ALARMS,
    MODEL,
    NAMES_FILE,
    SCALED,
    data_tag,
    model_name,
)
from backdoor.tracking.store import Store

GOODNET_FILE = "goodnet-"  # before the name of a check's remedy


@dataclass(frozen=True)
class Known:
    """What is known of a GoodNet.

    Attributes:
        scale: Name of the network's scale.
        false_alarm_rate: Share of clean pictures that it flags; None where it is not known.
        measured_on: How many pictures that is a share of.
        names: Of the classes, where they have any.
        order: Of the channels, where that is known.
        brightness: Of clean pictures, as the network takes them.
    """

    scale: str = STORED
    false_alarm_rate: float | None = None
    measured_on: int | None = None
    brightness: Brightness | None = None
    names: Sequence[str] | None = None
    order: Sequence[int] | None = None


def fetch_goodnet(store: Store, address: str, folder: Path) -> tuple[Path, Known]:
    """Copy a GoodNet to a folder; return its file and what its run knows of it.

    Args:
        address: ID/goodnet of a run, or ID/FILE of a check.

    Raises:
        UserError: There is no such run or artifact.
    """
    run_id, _, name = address.partition("/")
    name = name or MODEL
    if store.database is not None and not store.database.exists():
        raise UserError(f"goodnet: expected tracked runs in {store.shown}, found none")
    client = connect(store)
    try:
        run = client.get_run(run_id)
        there = {file.path for file in client.list_artifacts(run_id)}
        own = (MODEL, model_name(run.info.run_name))
        if name in own and run.outputs and run.outputs.model_outputs:
            model = f"models:/{run.outputs.model_outputs[0].model_id}"
            path = Path(mlflow.artifacts.download_artifacts(model, dst_path=str(folder)))
        else:
            path = Path(client.download_artifacts(run_id, name, str(folder)))
        names, channels, scale = (
            json.loads(Path(client.download_artifacts(run_id, file, str(folder))).read_text())
            if file in there
            else None
            for file in (NAMES_FILE, CHANNELS_FILE, BRIGHTNESS_FILE)
        )
    except (MlflowException, OSError) as error:
        raise UserError(
            f"goodnet: expected an artifact runs:/{address} in {store.shown}, got {error}"
        ) from error
    files = [path] if path.is_file() else [*path.rglob("*.keras")]
    if not files:
        raise UserError(f"goodnet: expected a .keras file in runs:/{address}, found none")
    tags = run.data.tags
    return files[0], Known(
        scale=tags.get(SCALED, STORED),
        false_alarm_rate=_false_alarms(run, name),
        measured_on=int(tags.get(data_tag(CLEAN_TEST, "pictures"), 0)) or None,
        brightness=Brightness(**scale) if scale else None,
        names=names,
        order=channels["order"] if channels else None,
    )


def _false_alarms(run: Run, name: str) -> float | None:
    """Return the rate that was measured: of a run's GoodNet, or of a check's by its remedy."""
    remedy = name.removeprefix(GOODNET_FILE).removesuffix(".keras")
    metrics = run.data.metrics
    rate: float | None = metrics.get(f"{remedy}/{FALSE_ALARMS}", metrics.get(FALSE_ALARMS))
    return rate
