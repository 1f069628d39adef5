"""What all commands share: one clear error, and an exit code that says whose it is."""

import atexit
import difflib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from backdoor.errors import UserError
from backdoor.text import plain
from backdoor.tracking.store import said_by_mlflow, without_password
from experiments.launch.arguments import command_line, looked_at
from experiments.launch.ending import exit_code_of, raising_ended

USER_MISTAKES = (UserError, HydraException, OmegaConfBaseException)
SPEAKING = (
    *USER_MISTAKES,
    ConnectionError,
    TimeoutError,
    RuntimeError,
)  # their messages stand for themselves
ALARM = 3
LONGEST = 2000  # letters of a sentence
CONF = Path(__file__).parents[2] / "conf"
FULL_ERROR, TRACEBACKS = "HYDRA_FULL_ERROR", "BACKDOOR_TRACEBACKS"
GROUPS = {"dataset", "attack", "network", "badnet", "tracking"}
OWN_GROUPS = {name: {"tracking"} for name in ("report", "ui", "screen")} | {"benchmark": set()}
INNER = {"layout", "made"}  # of which choices are made, and none itself
EXTRAS = {"hydra/launcher/submitit_slurm": "slurm"}  # by the config that is missing without it
COLLECTED = (100_000, 5, 5)  # looking for garbage while modules load takes a quarter of that time

atexit.register(gc.freeze)  # looking for it in all modules once more, at the end, takes a second


def call(job: Callable[[], None], name: str, sweeps: bool = False) -> int:
    """Run a Hydra main and return the exit code: 2 for the user's mistake, 1 for a failure.

    Args:
        name: Of the command; its config is called so, too, where it has one of its own.
        sweeps: Whether it takes -m.
    """
    asked_for = os.environ.get(FULL_ERROR, "")
    os.environ[FULL_ERROR] = "1"  # Hydra hands exceptions on instead of printing tracebacks
    wanted = asked_for or ("1" if "verbose=true" in map(str.lower, sys.argv) else "")
    os.environ[TRACEBACKS] = wanted
    gc.set_threshold(*COLLECTED)
    try:
        if {"--help", "-h"} & set(sys.argv):
            print(help_text(name))
            return 0
        sys.argv[1:] = looked_at(sys.argv[1:], command_line(name), sweeps)
        with raising_ended():
            job()
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return exit_code_of(interrupt)
    except Exception as error:
        if wanted:
            raise
        print(f"error: {one_sentence(error, name)}", file=sys.stderr)
        return exit_code(error)
    finally:
        os.environ[FULL_ERROR] = asked_for
    return 0


def help_text(name: str) -> str:
    """Return a command's help as its config has it; Hydra takes a second to come to the same."""
    own = config_of(name)
    if own.is_file():
        return str(OmegaConf.load(own).hydra.help.template)
    return str(OmegaConf.load(CONF / "hydra" / "help" / "keys.yaml").template)


def config_of(name: str) -> Path:
    """Return where the config of a command would be that has one of its own."""
    folder = CONF / name
    return (folder if folder.is_dir() else CONF) / f"{name}.yaml"


@contextmanager
def answering(name: str) -> Iterator[None]:
    """Answer what the body raises with one sentence and an exit code, before Hydra adds its own."""
    try:
        yield
    except Exception as error:
        if tracebacks_wanted():
            raise
        print(f"error: {one_sentence(error, name)}", file=sys.stderr)
        raise SystemExit(exit_code(error)) from error


def exit_code(error: BaseException) -> int:
    """Return 2 for what the user got wrong, 1 for what failed."""
    return 2 if isinstance(error, USER_MISTAKES) else 1


def tracebacks_wanted() -> bool:
    """Tell whether HYDRA_FULL_ERROR or verbose was set, here or where this process comes from."""
    return bool(os.environ.get(TRACEBACKS))


def one_sentence(error: BaseException, name: str = "run") -> str:
    """Return the error's message on one line; of an unknown key, also the nearest known one.

    Args:
        name: Of the command, whose keys they are.
    """
    text = plain(said_by_mlflow(error), LONGEST)
    if isinstance(error, HydraException):
        if isinstance(error.__cause__, ConfigAttributeError | ConfigKeyError):
            return _unknown_key(str(error.__cause__.full_key), name)
        return _missing_choice(error) if isinstance(error, MissingConfigException) else text
    if isinstance(error, OSError) and error.strerror:  # the system's, not one of our own messages
        where = error.filename2 or error.filename or "the disk"  # of a copy, where to
        return f"{where}: expected to read and write there, got {error.strerror}"
    if isinstance(error, MemoryError):
        return (
            f"memory: expected more than this process may have (ulimit -v, a job's limit); {text}"
        )
    if isinstance(error, OmegaConfBaseException):
        text = f"{error.full_key}: {str(error.msg).splitlines()[0]}" if error.full_key else text
    return text if isinstance(error, SPEAKING) and text else f"{type(error).__name__}: {text}"


def missing_extra(extra: str) -> str:
    """Say how to install the launcher that was asked for."""
    return f"hydra/launcher: expected the extra '{extra}': pip install '.[{extra}]'"


def _missing_choice(error: MissingConfigException) -> str:
    """Say which choices of a config group there are."""
    missing = str(error.missing_cfg_file)
    if missing in EXTRAS:
        return missing_extra(EXTRAS[missing])
    choices = [choice for choice in error.options or [] if choice not in INNER]
    near = difflib.get_close_matches(missing.rpartition("/")[2], choices, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"Could not find '{missing}': expected one of {', '.join(choices)}{hint}"


def _unknown_key(key: str, name: str) -> str:
    if key in known_keys(name):
        return f"key '{key}' belongs to another choice of {key.partition('.')[0]} than the one made"
    near = difflib.get_close_matches(key, known_keys(name), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "; --help lists the keys"
    return f"unknown key '{key}'{hint}"


def known_keys(name: str = "run") -> list[str]:
    """Return all keys of a command's config and of its groups, `dataset.draw.people` and so on."""
    main = config_of(name).name if config_of(name).is_file() else "config.yaml"
    groups = OWN_GROUPS.get(name, GROUPS)
    own = {main, "common.yaml"} if groups == GROUPS else {main}
    keys = set(groups)
    for file in CONF.rglob("*.yaml"):
        group = file.parent.name if file.parent.name in groups else ""
        if group or file.name in own:
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
