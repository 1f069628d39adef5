import json
import subprocess
import sys
from pathlib import Path

from test_sweep import environment


def test_eight_processes_write_two_hundred_runs_into_one_sqlite_store(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("load.py")),
            f"sqlite:///{tmp_path / 'l.db'}",
        ],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"] == 200
