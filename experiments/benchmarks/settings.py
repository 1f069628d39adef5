"""What the benchmark is told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Benchmark:
    """The config, key by key; see --help."""

    weights: str | None
    people: int
    valid: int
    test: int
    repeats: int
    quick: bool
    folder: str
    work: str

    @property
    def work_folder(self) -> Path:
        """Where drawn pictures are kept; made where it is not there."""
        Path(self.work).mkdir(parents=True, exist_ok=True)
        return Path(self.work)
