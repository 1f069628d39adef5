"""The one error of our own: what the user got wrong."""

from backdoor.text import plain

LONGEST = 2000  # letters


class UserError(ValueError):
    """A value, a file or a network that the user gave and that cannot be.

    The message says what was expected, what was found and where. The commands answer it with that
    one sentence and exit code 2. Every other exception is a failure: exit code 1. It is on one
    line, with nothing of what strangers call things that would steer a terminal.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(plain(message, LONGEST))


class UnfitError(UserError):
    """Pictures by which nothing can be said of a network: too few, or of another kind or scale.

    A check answers it with "undecided".
    """
