"""What a screening is told, checked where it enters."""

from dataclasses import dataclass
from pathlib import Path

from backdoor.device import check_device
from backdoor.errors import UserError
from backdoor.pictures.scale import AUTO, CHOICES
from backdoor.tracking.store import Store

RUNS = "runs:/"  # before the address of an artifact, as MLflow writes it


@dataclass(frozen=True)
class DataKey:
    """Name of the pictures in a file; None looks for the usual ones."""

    data: str | None


@dataclass(frozen=True, kw_only=True)
class ScreenSettings:
    """The config `screen`.

    Attributes:
        goodnet: A `.keras` file, or an artifact of a run as runs:/ID/NAME.
        preprocess: The network's scale; None is the run's, or as stored.
        false_alarm_rate: Share of clean pictures that is flagged; None is the run's.
        flip_depth: Tell after how many channels a label changes, where a run knows their order.
    """

    goodnet: str
    pictures: str
    preprocess: str | None
    false_alarm_rate: float | None
    flip_depth: bool
    keys: DataKey
    folder: str
    device: str
    threads: int | None
    verbose: bool
    tracking: Store

    def __post_init__(self) -> None:
        check_device(self.device, self.threads)
        if not self.goodnet.startswith(RUNS) and not Path(self.goodnet).is_file():
            raise UserError(
                f"goodnet: expected runs:/ID/goodnet or a .keras file, found no file {self.goodnet}"
            )
        if not Path(self.pictures).exists():
            raise UserError(
                f"pictures: expected a folder or file, found nothing at {self.pictures}"
            )
        if self.preprocess is not None and self.preprocess not in set(CHOICES) - {AUTO}:
            raise UserError(
                f"preprocess: expected one of {', '.join(CHOICES[1:])}, got {self.preprocess!r}"
            )
        if self.false_alarm_rate is not None and not 0 <= self.false_alarm_rate <= 1:
            raise UserError(
                f"false_alarm_rate: expected a share, 0 to 1, got {self.false_alarm_rate:g}"
            )
