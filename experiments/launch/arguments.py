"""What was typed, looked at before Hydra reads it: mistakes are answered with what was meant."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from backdoor import __version__
from backdoor.errors import UserError
from backdoor.tracking.store import Store, without_password

MULTIRUN = ("-m", "--multirun")
DEFAULT_STORE = {
    "tracking.uri": os.environ.get("MLFLOW_TRACKING_URI"),  # now: MLflow will change it
    "tracking.folder": "mlruns",
    "tracking.experiment": "backdoor",
}


def looked_at(typed: Sequence[str], command: str, sweeps: bool) -> list[str]:
    """Return the arguments as Hydra wants them: -m in front, wherever it was typed.

    Args:
        command: How to repeat it, for messages.
        sweeps: Whether the command takes -m.

    Raises:
        UserError: An argument cannot be read, or names several values without -m.
        SystemExit: The version was asked for, and is printed.
    """
    if "--version" in typed:
        print(f"backdoor {__version__}")
        raise SystemExit(0)
    multirun = sweeps and any(word in MULTIRUN for word in typed)
    rest = [word for word in typed if word not in MULTIRUN] if multirun else list(typed)
    rest = [_as_list(word) for word in rest]
    for number, word in enumerate(rest):
        before = rest[number - 1] if number else ""
        is_of_an_option = before.startswith("-") and "=" not in word  # --cfg job
        if not (word.startswith("-") or is_of_an_option):
            around = (before, *rest[number + 1 : number + 2])
            _check(word, around, command, sweeps and not multirun)
    files = ["dataset=files"] if _gives_files(rest) else []
    return [*(["--multirun"] if multirun else []), *files, *rest]


def _gives_files(words: Sequence[str]) -> bool:
    """Tell whether all clean pictures are given by paths, and no data set by name."""
    keys = {word.lstrip("+").partition("=")[0] for word in words}
    given = "dataset.clean" in keys or {"dataset.clean_valid", "dataset.clean_test"} <= keys
    return given and "dataset" not in keys


def _as_list(word: str) -> str:
    """Return export=tflite,onnx as the list that it is, not as values to sweep."""
    key, _, value = word.partition("=")
    return f"{key}=[{value}]" if key == "export" and value and value[0] not in "[\"'" else word


def command_line(name: str) -> str:
    """Return how this command, or a sister of it, is called: as a module or as installed."""
    called = Path(sys.argv[0]).name
    return f"backdoor-{name}" if called.startswith("backdoor-") else f"python -m experiments.{name}"


def repeated(name: str, words: Sequence[str]) -> str:
    """Return a command as it would be typed, without passwords."""
    return without_password(shlex.join([*command_line(name).split(), *words]))


def _check(word: str, around: Sequence[str], command: str, forgotten: bool) -> None:
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except OverrideParseException:
        raise UserError(_quoted(word, *around)) from None
    if forgotten and override.is_sweep_override():
        raise UserError(
            f"{word} names several values: expected -m to run each of them, {command} -m "
            f"{shlex.quote(word)}, or quotes where it is one, {shlex.quote(_in_quotes(word))}"
        )


def _quoted(word: str, before: str, after: str = "") -> str:
    """Say how an argument that Hydra cannot read is written, by the words before and after it."""
    key, is_pair, value = word.partition("=")
    if not is_pair and "=" in before:
        key, _, value = before.partition("=")
        joined = f'{key}="{value} {word}"'
        return f"{word}: expected KEY=VALUE; where a value holds a space: {shlex.quote(joined)}"
    if not is_pair:
        return f"{word}: expected KEY=VALUE"
    if value.rstrip().endswith(","):
        return f"{word}: expected no space after a comma: {word}{after}"
    return (
        f"{word}: expected a value that can be read; quoted it can: {shlex.quote(_in_quotes(word))}"
    )


def _in_quotes(word: str) -> str:
    key, _, value = word.partition("=")
    inside = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{inside}"'


def store_words(store: Store) -> str:
    """Return what a command has to be told to find the store; nothing of the default one."""
    given = {"tracking.uri": store.uri, "tracking.folder": store.folder}
    given["tracking.experiment"] = store.experiment
    told = {key: value for key, value in given.items() if value and value != DEFAULT_STORE[key]}
    return "".join(f" {_argument(key, without_password(value))}" for key, value in told.items())


def _argument(key: str, value: str) -> str:
    plain = re.fullmatch(r"[\w./:@+-]+", value)
    return shlex.quote(f"{key}={value}" if plain else f'{key}="{value}"')
