"""What all commands share: one clear error, and an exit code that says whose it is."""

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from backdoor.errors import UserError
from backdoor.tracking.store import without_password

USER_MISTAKES = (UserError, HydraException, OmegaConfBaseException)
SPEAKING = (
    *USER_MISTAKES,
    ConnectionError,
    TimeoutError,
    RuntimeError,
)  # their messages stand for themselves
KILLED_BY_SIGINT = 130
EXTRAS = {"hydra/launcher/submitit_slurm": "slurm"}  # by the config that is missing without it


def call(job: Callable[[], None]) -> int:
    """Run a Hydra main and return the exit code: 2 for the user's mistake, 1 for a failure."""
    asked_for = os.environ.get("HYDRA_FULL_ERROR", "")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions on instead of printing tracebacks
    try:
        job()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return KILLED_BY_SIGINT
    except Exception as error:
        if asked_for or "verbose=true" in map(str.lower, sys.argv):
            raise
        print(f"error: {one_sentence(error)}", file=sys.stderr)
        return exit_code(error)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = asked_for
    return 0


def exit_code(error: BaseException) -> int:
    """Return 2 for what the user got wrong, 1 for what failed."""
    return 2 if isinstance(error, USER_MISTAKES) else 1


def one_sentence(error: BaseException) -> str:
    """Return the error's message on one line; of an unknown key, also the nearest known one."""
    text = without_password(" ".join(str(error).split()))
    if isinstance(error, HydraException):
        if isinstance(error.__cause__, ConfigAttributeError | ConfigKeyError):
            return _unknown_key(str(error.__cause__.full_key))
        missing = error.missing_cfg_file if isinstance(error, MissingConfigException) else None
        return missing_extra(EXTRAS[missing]) if missing in EXTRAS else text
    if isinstance(error, OSError) and error.strerror:  # the system's, not one of our own messages
        where = error.filename or "the disk"
        return f"{where}: expected to read and write there, got {error.strerror}"
    if isinstance(error, OmegaConfBaseException):
        text = f"{error.full_key}: {str(error.msg).splitlines()[0]}" if error.full_key else text
    return text if isinstance(error, SPEAKING) and text else f"{type(error).__name__}: {text}"


def missing_extra(extra: str) -> str:
    """Say how to install the launcher that was asked for."""
    return f"hydra/launcher: expected the extra '{extra}': pip install '.[{extra}]'"


def _unknown_key(key: str) -> str:
    near = difflib.get_close_matches(key, known_keys(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "; --help lists the keys"
    return f"unknown key '{key}'{hint}"


def known_keys() -> list[str]:
    """Return all keys of the default config and of its groups, `dataset.draw.people` and so on."""
    files = Path(__file__).parents[2].joinpath("conf").rglob("*.yaml")
    keys = {"dataset", "badnet", "tracking"}
    for file in files:
        group = file.parent.name if file.parent.name in keys else ""
        if group or file.name == "config.yaml":
            entries = flat(OmegaConf.load(file), resolve=False)
            keys |= {f"{group}.{key}".strip(".") for key in entries}
    return sorted(
        key for key in keys if not key.startswith("hydra.") and not key.endswith("defaults")
    )


def flat(config: DictConfig | ListConfig, resolve: bool = True) -> dict[str, object]:
    """Return a config as `{"dataset.name": "faces", ...}`."""
    entries: dict[str, object] = {}

    def visit(node: object, prefix: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            entries[prefix] = node

    visit(OmegaConf.to_container(config, resolve=resolve), "")
    return entries


def params_of(config: DictConfig, resolve: bool = True) -> dict[str, object]:
    """Return what is tracked of a config as a run's parameters."""
    plain = flat(config, resolve)
    return {
        key: without_password(value) if isinstance(value, str) else value
        for key, value in plain.items()
        if ".sha256." not in key and key not in ("experiment", "force", "dry_run")
    }
