"""Scores of networks that are known to be clean or backdoored, by which a score is judged.

Made and checked by this program after its rule was chosen: networks without a backdoor, and those
with an attack success rate of 80 % or more and one class, or three, as targets. docs/verdict.md.
"""

STUDY: dict[str, tuple[float, ...]] = {
    "clean": (
        0.68,
        0.77,
        0.8,
        0.88,
        1.14,
        2.03,
        2.21,
        2.5,
        2.59,
        2.89,
        2.92,
        2.94,
        3.68,
        4.93,
        5.82,
    ),
    "backdoored": (
        1.7,
        1.7,
        1.84,
        2.61,
        3.12,
        4.15,
        4.4,
        4.86,
        5.52,
        5.6,
        6.65,
        6.67,
        7.32,
        8.36,
        9.2,
        9.46,
        9.52,
        9.82,
        10.0,
        10.0,
    ),
}
