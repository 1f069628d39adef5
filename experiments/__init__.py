"""The commands: run, prepare, report, benchmark. Wiring only; the work is done in `backdoor`."""

from experiments.launch import resolvers

__all__ = ["resolvers"]  # which a worker on another machine knows by importing a command
