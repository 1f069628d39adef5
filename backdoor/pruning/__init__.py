"""Pruning: scores of channels, the walk along their order, where to stop."""
