"""Scores of networks that are known to be clean or backdoored, by which a score is judged.

Made and checked by this program after its rule was chosen: networks without a backdoor, and those
with an attack success rate of 80 % or more and one class as target. docs/verdict.md.
"""

STUDY: dict[str, tuple[float, ...]] = {
    "clean": (0.77, 0.79, 0.8, 0.88, 0.92, 1.14, 1.54, 1.7, 2.5, 2.76, 2.89, 2.92, 3.09),
    "backdoored": (
        2.28,
        2.71,
        4.08,
        4.86,
        5.16,
        5.2,
        7.23,
        7.32,
        7.73,
        9.2,
        9.46,
        9.52,
        9.82,
        10.0,
        10.0,
    ),
}
