"""What strangers call their files, layers and classes, as it may be shown."""

import re

LONGEST = 120  # letters
BREAKS = re.compile(r"\s*[^\S ]\s*")  # white space that is more than spaces


def plain(text: object, longest: int = LONGEST, indented: bool = False) -> str:
    r"""Return a text on one line, cut at so many letters, with nothing that steers what shows it.

    Line breaks, tabs and the like are a space. Control characters, escape sequences, marks that
    turn the direction of writing and the like are spelt out, `\x1b`.

    Args:
        indented: Keep spaces at the beginning.
    """
    beginning = str(text)[: 2 * longest]  # it may have gigabytes
    line = BREAKS.sub(" ", beginning).rstrip()
    line = line if indented else line.lstrip()
    spelt = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )
    return spelt if len(spelt) <= longest else f"{spelt[: longest - 1]}…"
