"""What is logged, as it may be shown: whatever strangers called their files and layers."""

import logging

from backdoor.text import plain

LONGEST = 4000  # letters
logging.raiseExceptions = False  # a log on a full disk is no reason for a page of traceback


class Plain(logging.Filter):
    """Keeps each message on one line; those of DEBUG, which are for a file, on their lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every message pass, cleaned."""
        text, lines = record.getMessage(), record.levelno <= logging.DEBUG
        shown = (plain(line, LONGEST, indented=True) for line in text.split("\n"))
        record.msg, record.args = "\n".join(shown) if lines else plain(text, LONGEST), ()
        return True
