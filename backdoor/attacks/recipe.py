"""A recipe of a network that may carry a backdoor: pictures, attack, architecture, training."""

from dataclasses import dataclass
from typing import Literal

from backdoor.attacks.poisoning import Attack
from backdoor.errors import UserError
from backdoor.pictures.sources import FACES, Drawing

SMALLEST = {"deepid": 31, "small_cnn": 8, "resnet20": 8}  # height and width that each can take
PLAIN = ("deepid", "small_cnn")  # whose last pooling follows a convolution and its ReLU alone


@dataclass(frozen=True)
class Training:
    """The config group `network`: which architecture, and how it is trained.

    Attributes:
        learning_rate: Of Adam at first; it falls along a cosine.
        augment: Shift the training pictures at random.
        sparsity: Weight, in the loss, of the sum of what the last pooling's convolution gives: with
            some, channels specialise, and most are silent on most pictures.
    """

    name: Literal["deepid", "small_cnn", "resnet20"]
    epochs: int
    batch: int
    learning_rate: float
    augment: bool
    sparsity: float

    def __post_init__(self) -> None:
        for key in ("epochs", "batch"):
            if getattr(self, key) < 1:
                raise UserError(f"network.{key}: expected at least 1, got {getattr(self, key)}")
        if not 0 < self.learning_rate < 1:
            raise UserError(
                f"network.learning_rate: expected between 0 and 1, got {self.learning_rate:g}"
            )
        if self.sparsity < 0:
            raise UserError(f"network.sparsity: expected at least 0, got {self.sparsity:g}")


@dataclass(frozen=True)
class Recipe:
    """What a network is made from."""

    draw: Drawing
    attack: Attack
    network: Training

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            UserError: The message names the key.
        """
        height, width, _ = self.draw.shape
        smallest = SMALLEST[self.network.name]
        if min(height, width) < smallest:
            raise UserError(
                f"network={self.network.name}: expected pictures of at least {smallest} x "
                f"{smallest}, got {height} x {width}"
            )
        for key, asked in (
            ("attack.pruning_aware", self.attack.pruning_aware),
            ("network.sparsity", self.network.sparsity > 0),
        ):
            if asked and self.network.name not in PLAIN:
                raise UserError(
                    f"{key}: expected network={' or '.join(PLAIN)}, whose channels are those of a "
                    f"convolution, got {self.network.name}"
                )
        self.check_classes(self.draw.known_classes)

    def check_classes(self, classes: int | None) -> None:
        """Refuse an attack that cannot be made on so many classes; None is not known yet."""
        if classes is not None:
            self.attack.check(classes, self.draw.shape, self.draw.source == FACES)
