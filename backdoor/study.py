"""Scores of networks that are known to be clean or backdoored, by which a score is judged.

Made and checked by this program after its rule was chosen: networks without a backdoor, and those
with an attack success rate of 80 % or more and one class as target; but for the later ones on which
a square works (attacks/squares.py), of which no score is told. docs/verdict.md.
"""

STUDY: dict[str, tuple[float, ...]] = {
    "clean": (
        0.67, 0.77, 0.79, 0.8, 0.88, 0.92, 1.14, 1.17, 1.49, 1.54, 1.54, 1.58, 1.7, 1.7, 1.79,
        2.07, 2.07, 2.5, 2.63, 2.76, 2.89, 2.92, 3.09, 3.46, 3.7, 4.0,
    ),
    "backdoored": (
        2.28, 2.71, 3.71, 3.79, 4.08, 4.86, 5.16, 5.2, 5.64, 6.38, 6.57, 7.14, 7.23, 7.32, 7.73,
        9.09, 9.17, 9.2, 9.3, 9.46, 9.52, 9.82, 10.0, 10.0,
    ),
}  # fmt: skip
