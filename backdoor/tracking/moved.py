"""A folder of tracked runs that was moved or copied: its database learns where its artifacts are.

MLflow keeps absolute addresses, so without this a moved folder loses its artifacts, and a copied
one shows, and overwrites, those of the original.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

ARTIFACTS = "artifacts"  # beside the database
ADDRESSES = {  # columns that hold them, by table, in MLflow 3.17
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow(database: Path, experiment: str, timeout: float) -> None:
    """Have the addresses of an experiment's artifacts begin where they are now.

    Args:
        timeout: Seconds to wait for who writes to the database.
    """
    here = database.parent / ARTIFACTS
    with closing(sqlite3.connect(database, timeout=timeout)) as file, file:
        known = "SELECT artifact_location FROM experiments WHERE name = ?"
        told = file.execute(known, (experiment,)).fetchone()
        was = str(told[0]) if told else ""
        ours = was.startswith("file:") and was.endswith(f"/{ARTIFACTS}")
        if not ours or was == here.as_uri() or not here.is_dir():
            return
        there = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
        for table in there & set(ADDRESSES):
            column = ADDRESSES[table]
            file.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR {column} LIKE ? ESCAPE '\\'",
                (here.as_uri(), len(was) + 1, was, f"{_plain(was)}/%"),
            )


def _plain(text: str) -> str:
    """Return a text as a LIKE pattern of itself."""
    return "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in text)
