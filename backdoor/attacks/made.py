"""A test bed and its network, made by a recipe on first use and kept in the course's layout.

So they are used through the very same path as files that were given.
"""

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backdoor.attacks.making import ACCURACY, ATTACK, FAILED, MISTAKEN, SETTINGS, is_filled
from backdoor.attacks.recipe import Recipe
from backdoor.errors import UserError
from backdoor.versions import version

log = logging.getLogger(__name__)

TRAINED = 0.5  # of the clean test pictures that a network is to be right on
LEARNT = 0.8  # of poisoned pictures that an attack which works sends to its target


@version(1)
def make(recipe: Recipe, folder: str | Path) -> None:
    """Fill `folder` with data/cl, data/bd and models; do nothing where that has been done.

    That is done in a process of its own, so that the weights are the same whatever this one
    computes on. Two that start at once do not both do it: the second waits for the first. What
    is there is whole, since it is made beside and renamed.

    Raises:
        UserError: The recipe cannot be followed; or something else is in the folder.
        OSError: It cannot be written there.
        RuntimeError: The process died.
    """
    folder = Path(folder)
    if not is_filled(folder):
        command = [sys.executable, "-P", "-m", "backdoor.attacks.making"]
        command += [json.dumps(asdict(recipe)), str(folder)]
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode == MISTAKEN:
            raise UserError(done.stdout.strip())
        if done.returncode == FAILED:
            reason = done.stdout.strip()
            raise OSError(f"dataset.made: expected to write pictures to {folder}, got {reason}")
        if done.returncode:
            raise RuntimeError(
                f"{folder}: expected pictures to be made and a network to be trained, but the "
                f"process that did it died (exit code {done.returncode})"
            )
    _check_settings(recipe, folder)


def _check_settings(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder of something else, and warn of an attack that was not learnt."""
    file = folder / SETTINGS
    if not file.is_file():
        raise UserError(f"dataset.made: expected what was made or nothing in {folder}, got others")
    settings = json.loads(file.read_text())
    there, expected = _flat(settings), _flat(asdict(recipe))
    for name, value in expected.items():
        if there.get(name) != value:
            raise UserError(
                f"dataset.made: expected what was made with {name}={value} in {folder}, found "
                f"{name}={there.get(name)}; without dataset.made each recipe has its own folder"
            )
    if recipe.draw.origin not in ("", settings["origin"]):
        raise UserError(
            f"{folder}: expected to have been made from the files that are in {recipe.draw.root} "
            f"now, found that others were there; remove it to have it made anew"
        )
    for name, rate in settings["measured"].items():
        if name.startswith(ATTACK) and rate < LEARNT:
            log.warning(
                "attack=%s: the network gives only %.1f %% of the poisoned test pictures of other "
                "classes the attacker's class (%s), which is hardly a backdoor; a larger "
                "attack.rate, more network.epochs or a stronger attack.trigger may make it one",
                recipe.attack.name,
                100 * rate,
                name,
            )
    if settings["measured"][ACCURACY] < TRAINED:
        log.warning(
            "network=%s: it is right on only %.1f %% of the clean test pictures; more "
            "network.epochs or dataset.draw.train_pictures may train it",
            recipe.network.name,
            100 * settings["measured"][ACCURACY],
        )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    named = ((f"{prefix}.{key}" if prefix else key, value) for key, value in values.items())
    return {name: leaf for key, value in named for name, leaf in _flat(value, key).items()}
