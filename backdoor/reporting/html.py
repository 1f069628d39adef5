"""Pages that need nothing beside them: no network, no files, no scripts from elsewhere."""

import base64
import io
from collections.abc import Mapping

import jinja2
from matplotlib.figure import Figure

from backdoor.reporting.row import percent


def rendered(template: str, shown: Mapping[str, object]) -> str:
    """Return a template filled in; whatever is put into it is escaped."""
    loader = jinja2.PackageLoader("backdoor.reporting")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["percent"] = lambda rate: percent(rate, 1)
    return environment.get_template(template).render(shown)


def as_svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file."""
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return file.getvalue()


def inline(svg: bytes) -> str:
    """Return an SVG file as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
