"""Prune a network that may carry a backdoor, detect with its pruned copy, track what it cost."""

__version__ = "0.3.0"
