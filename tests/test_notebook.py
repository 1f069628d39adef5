"""docs/library.ipynb runs, cell by cell, and finds what it says."""

import json
from pathlib import Path

from backdoor.answers import BACKDOORED

NOTEBOOK = Path(__file__).parents[1] / "docs" / "library.ipynb"


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(sources) == 10
    there = {}
    for number, source in enumerate(sources, start=1):
        exec(compile(source, f"cell {number}", "exec"), there)
    assert there["verdict"].answer == BACKDOORED
    assert there["verdict"].suspects[0] == 0
    assert there["outcome"].stops == {2: 55, 10: 56}
    assert there["found"].flagged.mean() > 0.95
