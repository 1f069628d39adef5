"""Reporting: tables and figures of tracked runs."""
