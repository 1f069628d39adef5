"""What the benchmark is told."""

from dataclasses import dataclass
from pathlib import Path

from backdoor.errors import UserError
from experiments.benchmarks.networks import DEEPID, NETWORKS


@dataclass(frozen=True)
class Benchmark:
    """The config, key by key; see --help."""

    network: str
    weights: str | None
    people: int
    valid: int
    test: int
    pictures: int
    repeats: int
    quick: bool
    folder: str
    work: str

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise UserError(f"network: expected one of {', '.join(NETWORKS)}, got {self.network!r}")
        if self.weights and self.network != DEEPID:
            raise UserError(
                f"weights: expected null with network={self.network}, whose weights are drawn, "
                f"got {self.weights!r}"
            )
        for name in ("people", "valid", "test", "pictures", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def title(self) -> str:
        """The network, by the name of its benchmark's files."""
        return "benchmark" if self.network == DEEPID else f"benchmark-{self.network}"

    @property
    def work_folder(self) -> Path:
        """Where drawn pictures are kept; made where it is not there."""
        Path(self.work).mkdir(parents=True, exist_ok=True)
        return Path(self.work)
