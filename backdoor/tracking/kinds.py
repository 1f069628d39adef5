"""Kinds of MLflow runs, told by a tag; apart from the rest, which needs MLflow."""

RUN, SWEEP = "run", "sweep"  # of a run, and of the parent of a sweep's runs
CHECK, CHECKS = "check", "checks"  # of a verdict, and of the parent of several
