"""Ship the default's network anew: python -m backdoor.attacks.shipped FOLDER.

FOLDER is what `python -m experiments.prepare dataset.draw.train=true` has made.
"""

import json
import platform
import sys
from pathlib import Path

from backdoor.attacks.making import NETWORK, SETTINGS
from backdoor.attacks.shipped import ABOUT, BADNET
from backdoor.cache import sha256

COMMAND = "python -m experiments.prepare dataset.draw.train=true"


def main(folder: Path) -> None:
    """Copy the network and write down what it is."""
    made = json.loads((folder / SETTINGS).read_text())
    recipe = {key: made[key] for key in ("draw", "attack", "network")}
    recipe["draw"]["train"] = False
    BADNET.write_bytes((folder / NETWORK).read_bytes())
    about = {
        "command": COMMAND,
        "processor": platform.machine(),
        "sha256": sha256(BADNET),
        "measured": made["measured"],
        "recipe": recipe,
    }
    ABOUT.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
