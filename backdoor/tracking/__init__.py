"""Tracking: what is kept of every run, and how it is read back."""
