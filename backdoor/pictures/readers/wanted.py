"""What is wanted of a file of pictures."""

from dataclasses import dataclass

from backdoor.pictures.scale import Scale, divided_by


@dataclass(frozen=True)
class Wanted:
    """How to read a file.

    Attributes:
        scale: What stored numbers are turned into.
        shape: Height, width, channels that the network takes, to which pictures in files of their
            own are resized; None, or None in it, is the first picture's.
        data, label: Names of pictures and labels in the file; None looks for the usual ones.
        labelled: False takes pictures whose classes nobody knows; all labels are 0 then.
    """

    scale: Scale
    shape: tuple[int | None, ...] | None = None
    data: str | None = None
    label: str | None = None
    labelled: bool = True

    @staticmethod
    def divided(divide_by: float) -> "Wanted":
        """Return what is wanted where only the scale is known."""
        return Wanted(divided_by(divide_by))


DATA_NAMES = (
    "data", "x", "X", "images", "image", "pictures", "x_test", "x_train", "features",
    "inputs", "arr_0",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "y", "Y", "classes", "y_test", "y_train", "targets", "target", "arr_1",
)  # fmt: skip
