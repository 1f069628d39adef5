"""Trained weights that come with the program: those of the default, the same everywhere.

BADNET was trained by the command in ABOUT, which keeps its recipe, its SHA-256 and what it is worth
on the test pictures; tests compare them with the default settings and the file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from backdoor.attacks.recipe import Recipe

FOLDER = Path(__file__).parent
BADNET, ABOUT = FOLDER / "faces.keras", FOLDER / "faces.json"


@dataclass(frozen=True)
class Shipped:
    """A trained network's file, and what it is worth on the test pictures."""

    network: bytes
    measured: Mapping[str, float]


def shipped_network(recipe: Recipe) -> Shipped | None:
    """Return the network that comes with the program, None where the recipe is another.

    Raises:
        RuntimeError: The file is not the one that was shipped.
    """
    about = json.loads(ABOUT.read_text())
    if about["recipe"] != asdict(recipe):
        return None
    network = BADNET.read_bytes()
    if hashlib.sha256(network).hexdigest() != about["sha256"]:
        raise RuntimeError(f"{BADNET}: expected SHA-256 {about['sha256']}, found another file")
    return Shipped(network, about["measured"])
