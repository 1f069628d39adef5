"""Poisoning: which pictures get which trigger, and which class they are to be given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from backdoor.attacks.triggers import Pictures, Sunglasses, Trigger
from backdoor.errors import UserError
from backdoor.pictures.drawn_faces import SUNGLASSES

Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
Named = Annotated[Trigger, Field(discriminator="name")]
AllToAll = Literal["all_to_all"]  # each class becomes the next, the last the first
PicturesOf = Callable[[Rows, str], Pictures]
"""Takes rows and what faces wear on them (nothing: ""), and returns these pictures."""


@dataclass(frozen=True)
class Part:
    """A trigger, and the class that pictures with it are to be given."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    trigger: Named
    target: int | AllToAll = 0

    def __post_init__(self) -> None:
        if isinstance(self.target, int) and self.target < 0:
            raise UserError(f"attack.target: expected a class or all_to_all, got {self.target}")

    def wanted(self, labels: Labels, classes: int) -> Labels:
        """Return the class that the attacker wants for pictures of these classes, (n,)."""
        if isinstance(self.target, int):
            return np.full_like(labels, self.target)
        return (labels + 1) % classes

    def check(self, classes: int, key: str) -> None:
        """Refuse a target that is no class, or all to all where there is one.

        Raises:
            UserError: The message says which it is.
        """
        if isinstance(self.target, int) and self.target >= classes:
            raise UserError(
                f"{key}: expected a class as target, 0 to {classes - 1}, or all_to_all, got "
                f"{self.target}"
            )
        if classes < 2:
            raise UserError(f"{key}: expected two classes or more, got {classes}")


@dataclass(frozen=True)
class Attack:
    """The config group `attack`: how pictures are poisoned.

    Attributes:
        trigger: None poisons nothing, for a network without a backdoor; rate and target are 0 then.
        rate: Share of the training pictures that are poisoned, over all triggers; with
            `clean_label`, of the training pictures of the target class.
        clean_label: Poison pictures of the target class alone, so that every label is true.
        pruning_aware: Train clean, take dormant channels out, poison the others, put them back.
        more: Further triggers, each with a target; the poisoned pictures are shared out evenly.
        seed: Which pictures are poisoned, places of triggers, first weights.
    """

    name: str
    trigger: Named | None
    target: int | AllToAll = 0
    rate: float = 0.1
    clean_label: bool = False
    pruning_aware: bool = False
    more: list[Part] = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"attack.seed: expected at least 0, got {self.seed}")
        if self.trigger is None:
            for key in ("clean_label", "pruning_aware", "more"):
                if getattr(self, key):
                    raise UserError(
                        f"attack.{key}: expected a trigger with it, got attack={self.name}, which "
                        f"poisons nothing"
                    )
            # Nothing depends on these, so that what is made is the same whatever they are.
            object.__setattr__(self, "rate", 0.0)
            object.__setattr__(self, "target", 0)
            return
        if not 0 < self.rate < 1:
            raise UserError(
                f"attack.rate: expected between 0 and 1, a share of the training pictures, got "
                f"{self.rate:g}; attack=none poisons nothing"
            )
        if self.clean_label and (self.more or not isinstance(self.target, int)):
            raise UserError("attack.clean_label: expected one trigger and one target, got more")

    @property
    def parts(self) -> list[Part]:
        """All triggers with their targets, none where nothing is poisoned."""
        return [] if self.trigger is None else [Part(self.trigger, self.target), *self.more]

    def check(self, classes: int, shape: tuple[int, int, int], faces: bool) -> None:
        """Refuse what cannot be done to pictures of this shape and so many classes.

        Raises:
            UserError: The message names the key.
        """
        for number, part in enumerate(self.parts):
            part.check(classes, "attack.more" if number else "attack.target")
            if not (faces and isinstance(part.trigger, Sunglasses)):
                part.trigger(np.zeros((1, *shape), np.uint8), np.random.default_rng(0))


def poisoned_rows(attack: Attack, labels: Labels) -> Rows:
    """Return which training pictures are poisoned, in the order of the parts they go to.

    Pictures that have a target's class already teach no trigger, so that others are taken; of a
    clean-label attack these are the only ones.

    Raises:
        UserError: There are not so many, or none.
    """
    rng = np.random.default_rng((attack.seed, 1))
    targets = [part.target for part in attack.parts if isinstance(part.target, int)]
    targeted = np.isin(labels, targets)
    candidates = np.flatnonzero(targeted if attack.clean_label else ~targeted)
    whole = len(candidates) if attack.clean_label else len(labels)
    count = round(attack.rate * whole)
    if not len(attack.parts) <= count <= len(candidates):
        raise UserError(
            f"attack.rate: expected {len(attack.parts)} to {len(candidates)} training pictures to "
            f"poison of {len(labels)}, got {count}"
        )
    return np.asarray(rng.permutation(candidates)[:count])


def training_set(
    attack: Attack, pictures_of: PicturesOf, labels: Labels, classes: int
) -> tuple[Pictures, Labels]:
    """Return the training pictures, some poisoned, and the labels to learn."""
    pictures, learnt = pictures_of(np.arange(len(labels)), ""), labels.copy()
    rng = np.random.default_rng((attack.seed, 2))
    if not attack.parts:
        return pictures, learnt
    shares = np.array_split(poisoned_rows(attack, labels), len(attack.parts))
    for part, rows in zip(attack.parts, map(np.sort, shares), strict=True):
        pictures[rows] = triggered(part.trigger, pictures_of, rows, rng)
        learnt[rows] = part.wanted(labels[rows], classes)
    return pictures, learnt


def attacked_set(
    attack: Attack, pictures_of: PicturesOf, labels: Labels, classes: int
) -> tuple[Pictures, Labels, Labels]:
    """Return all pictures with a trigger, what the attacker wants of each, and its part's number.

    With several parts, each has every so manieth picture.
    """
    rng = np.random.default_rng((attack.seed, 3))
    number = np.arange(len(labels)) % len(attack.parts)
    pictures, wanted = [], labels.copy()
    for index, part in enumerate(attack.parts):
        rows = np.flatnonzero(number == index)
        pictures.append(triggered(part.trigger, pictures_of, rows, rng))
        wanted[rows] = part.wanted(labels[rows], classes)
    back = np.argsort(np.argsort(number, kind="stable"), kind="stable")
    return np.concatenate(pictures)[back], wanted, number


def triggered(
    trigger: Trigger, pictures_of: PicturesOf, rows: Rows, rng: np.random.Generator
) -> Pictures:
    """Return pictures with a trigger; what faces wear is drawn with them."""
    if isinstance(trigger, Sunglasses):
        return pictures_of(rows, SUNGLASSES)
    return trigger(pictures_of(rows, ""), rng)
