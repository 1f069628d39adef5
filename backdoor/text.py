"""What strangers call their files, layers and classes, as it may be shown."""

LONGEST = 120  # letters


def plain(text: object, longest: int = LONGEST) -> str:
    r"""Return a text on one line, cut at so many letters, with nothing that steers what shows it.

    White space of any kind is one space. Control characters, escape sequences, marks that turn the
    direction of writing and the like are spelt out, `\x1b`.
    """
    beginning = str(text)[: 2 * longest]  # it may have gigabytes
    line = " ".join(beginning.split())
    spelt = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )
    return spelt if len(spelt) <= longest else f"{spelt[: longest - 1]}…"
