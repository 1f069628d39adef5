"""Scores of networks that are known to be clean or backdoored, by which a score is judged.

Networks of the half of the zoo that the rule was not chosen on; docs/verdict.md tells of each.
"""

STUDY: dict[str, tuple[float, ...]] = {"clean": (0.1,), "backdoored": (3.0,)}
