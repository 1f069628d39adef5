"""Where tracked runs are kept."""

import re
from dataclasses import dataclass
from pathlib import Path

SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Store:
    """An MLflow store.

    Attributes:
        uri: A server or database; None is the SQLite database in `folder`.
        folder: Where database and artifacts of the local store are.
        experiment: Name of the MLflow experiment.
    """

    uri: str | None
    folder: str
    experiment: str

    @property
    def address(self) -> str:
        # Absolute: a relative one would be another database after a change of folder.
        if self.uri is None:
            return f"{SQLITE}{Path(self.folder).resolve() / 'mlflow.db'}"
        if self.uri.startswith(SQLITE):
            return f"{SQLITE}{Path(self.uri.removeprefix(SQLITE)).resolve()}"
        return self.uri

    @property
    def shown(self) -> str:
        """The address as it may be printed and logged."""
        return without_password(self.address)

    @property
    def database(self) -> Path | None:
        """The SQLite file, None for a server."""
        is_file = self.address.startswith(SQLITE)
        return Path(self.address.removeprefix(SQLITE)) if is_file else None


def without_password(text: str) -> str:
    """Return a text with what stands before the host in its addresses, and passwords, hidden."""
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    return re.sub(r"(?i)\b(password|pwd|token)=[^&;\s'\"]+", r"\1=***", text)


def said_by_mlflow(error: BaseException) -> str:
    """Return an error's text without passwords, and of a request that failed what made it fail.

    A statement in SQL is left out.
    """
    request = r"API request to (\S+?)/api/\S* failed with .*\(Caused by (.*)\)$"
    text = re.sub(request, r"\1: \2", without_password(str(error)), flags=re.DOTALL)
    return text.partition("\n[SQL: ")[0]
