"""What a network is measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from backdoor.pictures.picture_set import PictureSet
from backdoor.pictures.scale import Scale

CLEAN_VALID, CLEAN_TEST = "clean_valid", "clean_test"
POISONED_VALID, POISONED_TEST = "poisoned_valid", "poisoned_test"
SETS = (CLEAN_VALID, CLEAN_TEST, POISONED_VALID, POISONED_TEST)


@dataclass(frozen=True, eq=False)
class Poisoned:
    """Pictures with a trigger, measured, never chosen by.

    The label of each is the class that the attacker wants it to get.

    Attributes:
        target: That class, where it is the same for all pictures and was told; checked.
    """

    valid: PictureSet
    test: PictureSet
    target: int | None = None


@dataclass(frozen=True, eq=False)
class TestBed:
    """Clean pictures, on which channels are chosen and accuracy is measured, and maybe poisoned.

    Without a poisoned part, whatever needs it is absent.
    """

    __test__: ClassVar[bool] = False  # for pytest, which takes classes of this name for tests

    clean_valid: PictureSet
    clean_test: PictureSet
    poisoned: Poisoned | None = None

    def scaled(self, scale: Scale) -> "TestBed":
        """Return the same pictures in another scale."""
        poisoned = self.poisoned
        if poisoned is not None:
            valid, test = (half.scaled(scale) for half in (poisoned.valid, poisoned.test))
            poisoned = Poisoned(valid, test, poisoned.target)
        return TestBed(self.clean_valid.scaled(scale), self.clean_test.scaled(scale), poisoned)

    @property
    def sets(self) -> Mapping[str, PictureSet]:
        """All sets by the names they are tracked under."""
        clean = {CLEAN_VALID: self.clean_valid, CLEAN_TEST: self.clean_test}
        if self.poisoned is None:
            return clean
        return clean | {POISONED_VALID: self.poisoned.valid, POISONED_TEST: self.poisoned.test}

    def names(self, classes: int) -> list[str]:
        """Return what so many classes are called: their numbers, where they have no name."""
        names = [*(self.clean_test.names or ())][:classes]
        return [*names, *map(str, range(len(names), classes))]

    @property
    def tests(self) -> Mapping[str, PictureSet]:
        """The sets that are measured and that nothing is chosen on."""
        return {name: self.sets[name] for name in (CLEAN_TEST, POISONED_TEST) if name in self.sets}
