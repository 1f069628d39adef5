"""The config as typed values: what a run is told, checked where it enters."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from pydantic import TypeAdapter, ValidationError

from backdoor.attacks.poisoning import Attack
from backdoor.attacks.recipe import Recipe, Training
from backdoor.attacks.triggers import TRIGGERS, keys_of
from backdoor.cache import Cache
from backdoor.device import check_device
from backdoor.errors import UserError
from backdoor.networks.sandbox import Limits
from backdoor.pictures.scale import AUTO, CHOICES
from backdoor.pictures.sources import Drawing
from backdoor.pictures.test_bed import (
    CLEAN_TEST,
    CLEAN_VALID,
    POISONED_TEST,
    POISONED_VALID,
    SETS,
)
from backdoor.tracking.store import Store

RUNNING = "running"
USUAL = ("first", "pool", "prune")  # of stop, rank_at and repair, which a run's name leaves out
LONGEST = 1e8  # seconds, three years
MODEL_NAME = re.compile(r"[\w.-]{1,100}")
BRANCHES = {"int", "literal['all_to_all']", *TRIGGERS}  # of unions: places of mistakes, no keys
POISONED = (POISONED_VALID, POISONED_TEST)

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Keys:
    """Names of pictures and labels in a file; None looks for the usual ones."""

    data: str | None
    label: str | None


@dataclass(frozen=True)
class DataSet:
    """The config group `dataset`, key by key.

    Attributes:
        poisoned_valid, poisoned_test: Both or neither.
        clean: All clean pictures, in place of clean_valid and clean_test, which it is split into.
        preprocess, divide_by: The scale: a name, else what numbers are divided by, else found.
        badnet: Where the data set's own network may be; the first that exists is taken.
        sha256: Of each file, checked where `verify` is set.
        target: The attacker's class, None for what the labels of poisoned pictures say.
        draw, made: What pictures an attack is made on, and the folder that it is kept in; None for
            files that are given.
    """

    name: str
    root: str | None
    made: str | None
    clean_valid: str | None
    clean_test: str | None
    poisoned_valid: str | None
    poisoned_test: str | None
    clean: str | None
    test_share: float
    badnet: list[str]
    target: int | None
    preprocess: str
    divide_by: float | None
    keys: Keys
    verify: bool
    sha256: dict[str, str]
    draw: Drawing | None

    def __post_init__(self) -> None:
        given = any(getattr(self, name) is not None for name in POISONED)
        wanted = POISONED if given else ()
        for name in (*wanted, *(() if self.clean else (CLEAN_VALID, CLEAN_TEST))):
            if not getattr(self, name):
                raise UserError(
                    f"dataset.{name}: expected a file or folder of pictures, got none"
                    f"{'' if name in wanted else '; or give all clean pictures as dataset.clean'}"
                )
        if self.clean and (self.clean_valid or self.clean_test):
            raise UserError(
                "dataset.clean: expected it alone, since it is split, got dataset.clean_valid or "
                "dataset.clean_test beside it; dataset=files has none of its own"
            )
        if not 0 < self.test_share < 1:
            raise UserError(
                f"dataset.test_share: expected between 0 and 1, got {self.test_share:g}"
            )
        if self.preprocess not in CHOICES:
            raise UserError(
                f"dataset.preprocess: expected one of {', '.join(CHOICES)}, got {self.preprocess!r}"
            )

    @property
    def files(self) -> Mapping[str, Path | None]:
        """Every set's file, None for sets that are not given; the whole clean set where it is."""
        paths = {name: getattr(self, name) for name in SETS}
        if self.clean:
            paths |= {CLEAN_VALID: self.clean, CLEAN_TEST: self.clean}
        return {name: None if path is None else Path(path) for name, path in paths.items()}


@dataclass(frozen=True)
class BadNet:
    """The config group `badnet`."""

    path: str
    trust: bool
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all commands that look at a network are told: which, on what pictures, and where."""

    layer: str
    valid_pictures: int | None
    device: str
    threads: int | None
    seed: int
    cache: str
    cache_limit: float | None
    verbose: bool
    force: bool
    dry_run: bool
    time_limit: float | None
    dataset: DataSet
    badnet: BadNet
    tracking: Store
    attack: Attack | None = None
    network: Training | None = None
    register: str | None = None

    def __post_init__(self) -> None:
        _ = self.recipe  # refuses parts that do not fit together
        check_device(self.device, self.threads)
        if self.time_limit is not None and not 0 < self.time_limit < LONGEST:
            raise UserError(
                f"time_limit: expected seconds above 0, or null for none, got {self.time_limit:g}"
            )
        if self.cache_limit is not None and not self.cache_limit > 0:
            raise UserError(
                f"cache_limit: expected gibibytes above 0, or null for none, got "
                f"{self.cache_limit:g}"
            )
        if self.register is not None and not MODEL_NAME.fullmatch(self.register):
            raise UserError(
                f"register: expected a name of letters, digits, '.', '_' and '-', or null for "
                f"none, got {self.register!r}"
            )
        if self.seed < 0:
            raise UserError(f"seed: expected a whole number of at least 0, got {self.seed}")
        if self.valid_pictures is not None and self.valid_pictures < 1:
            raise UserError(
                f"valid_pictures: expected at least 1, or null for all, got {self.valid_pictures}"
            )

    @property
    def name(self) -> str:
        """Return what the run is called."""
        raise NotImplementedError

    @property
    def kept(self) -> Cache:
        """Where heads, orders and walks are kept."""
        return Cache(self.cache, self.cache_limit)

    @property
    def recipe(self) -> Recipe | None:
        """What pictures and network are made by; None where files are given.

        Raises:
            UserError: The parts do not fit together.
        """
        draw = self.dataset.draw
        given = {"attack": self.attack, "network": self.network}
        for name, value in given.items():
            if draw is None and value is not None:
                raise UserError(
                    f"{name}: expected a data set to train on, such as dataset=faces, "
                    f"fashion_mnist or pictures, got dataset={self.dataset.name}, whose network "
                    f"is given"
                )
            if draw is not None and value is None:
                raise UserError(
                    f"{name}: expected a choice for dataset={self.dataset.name}, got none"
                )
        if draw is None or self.attack is None or self.network is None:
            return None
        return Recipe(draw, self.attack, self.network)

    @property
    def target(self) -> int | None:
        """The one class that an attacker wants, None where there are several or it is not told."""
        if self.dataset.target is not None or self.attack is None:
            return self.dataset.target
        parts = self.attack.parts
        alone = parts[0].target if len(parts) == 1 else None
        return alone if isinstance(alone, int) else None


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """What a run is told; `threshold` is checked by the stop rule, which takes it as written."""

    order: str
    threshold: Any
    stop: str
    rank_at: Literal["pool", "conv"]
    suspect: Any
    repair: Literal["prune", "slim", "finetune", "finetune_only"]
    export: list[Literal["tflite", "onnx"]]

    def __post_init__(self) -> None:
        super().__post_init__()
        is_class = isinstance(self.suspect, int) and self.suspect >= 0
        if self.suspect != AUTO and not is_class:
            raise UserError(f"suspect: expected auto or a class, got {self.suspect!r}")

    @property
    def given_suspect(self) -> int | None:
        return None if self.suspect == AUTO else int(self.suspect)

    @property
    def name(self) -> str:
        others = [self.stop, self.rank_at, self.repair]
        told = [name for name in others if name not in USUAL]
        return "-".join([self.order, str(self.threshold), *told])


@dataclass(frozen=True, kw_only=True)
class CheckSettings(Settings):
    """What a check is told."""

    calibrate: bool | Literal["auto"]
    folder: str

    @property
    def name(self) -> str:
        path, data = self.badnet.path, self.dataset.name
        if path == AUTO and self.attack is not None and self.network is not None:
            return f"check {data}-{self.attack.name}-{self.network.name}"
        return f"check {data if path == AUTO else path}"


def settings_of(config: DictConfig, kind: type[Kind]) -> Kind:
    """Return the config as values of the declared types.

    Raises:
        UserError: A value is missing, has the wrong type or cannot be; the message names its key.
    """
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        plain.pop("experiment", None)
        return TypeAdapter(kind).validate_python(plain)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key}: expected a value, got none") from error
    except ValidationError as error:
        raise _in_one_sentence(error) from error


def _in_one_sentence(error: ValidationError) -> UserError:
    """Return pydantic's first mistake as ours, named by its key in the config."""
    first = error.errors()[0]
    if "error" in first.get("ctx", {}):  # raised by the class itself, which names the key
        raised: UserError = first["ctx"]["error"]
        return raised
    places = [str(place) for place in first["loc"]]
    key = ".".join(place for place in places if place not in BRANCHES)
    if first["type"] == "unexpected_keyword_argument":
        return UserError(_no_such_key(key, places))
    wanted = first["msg"].removeprefix("Input should be ")
    if first["type"] == "union_tag_invalid":  # its name decides what else is in it
        key, wanted = f"{key}.name", f"one of {', '.join(TRIGGERS)}"
    elif "target" in places and set(places) & BRANCHES:
        wanted = "a class or all_to_all"
    elif "expected" not in first.get("ctx", {}):  # of a choice, all that there are
        wanted = wanted.split(",")[0]
    return UserError(f"{key}: expected {wanted}, got {first['input']!r}")


def _no_such_key(key: str, places: Sequence[str]) -> str:
    trigger = next((place for place in places if place in TRIGGERS), None)
    if trigger is None:
        return f"{key}: expected no such key"
    there = ", ".join(keys_of(trigger))
    return (
        f"{key}: expected a key of the trigger {trigger}, {there}; another trigger is another "
        f"choice of attack"
    )


def store_of(config: DictConfig) -> Store:
    """Return the store of a config that may hold mistakes elsewhere."""
    plain: Any = OmegaConf.to_container(config.tracking, resolve=True)
    return Store(**plain)


def alive_folder(cache: str) -> Path:
    """Return where runs show that they are alive: beside the cache, which all hosts share."""
    return Path(cache) / RUNNING
