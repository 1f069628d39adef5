import json

import matplotlib.image
from test_sweep import command

KEYS = {
    "speedup_over_lab_loop",
    "plain_passes",
    "label_mismatches",
    "of_these_near_ties",
    "peak_rss_bytes",
    "extra_threshold_seconds",
    "first_progress_seconds",
}


def test_the_benchmark_measures_everything_on_a_small_scale(tmp_path):
    done = command(tmp_path, "experiments.benchmark", "people=8", "valid=4", "test=5", "repeats=1")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report/benchmark.json").read_text())
    assert set(found) >= KEYS
    assert found["label_mismatches"] == found["of_these_near_ties"]
    assert found["labels_compared"] == 2 * 61 * (2 * 32 + 2 * 40)
    assert all(found[key] > 0 for key in KEYS - {"label_mismatches", "of_these_near_ties"})
    assert "| head" in (tmp_path / "report/benchmark.md").read_text()
    assert matplotlib.image.imread(tmp_path / "report/benchmark.png").std() > 0.01
