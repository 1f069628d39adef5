"""The benchmark as a whole."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from backdoor.device import device_name
from backdoor.networks.cut import cut_network
from backdoor.pictures.test_bed import CLEAN_VALID
from backdoor.reporting.figures import draw_benchmark
from experiments.benchmarks.check import check_labels
from experiments.benchmarks.inputs import badnet_of, drawn_badnet, pictures_of
from experiments.benchmarks.measure import (
    active_share,
    measure,
    measure_growth,
    measure_work,
    median_of,
    numeric_work,
    timed,
)
from experiments.benchmarks.settings import Benchmark
from experiments.benchmarks.tables import as_markdown
from experiments.benchmarks.whole_sweep import whole_sweep


def benchmark(settings: Benchmark) -> dict[str, Any]:
    """Measure all, write benchmark.{md,png,json} to the folder and return what the JSON holds."""
    pictures = pictures_of(settings)
    network = cut_network(badnet_of(settings, pictures[CLEAN_VALID]))
    peak = matrix_product_peak()
    repeats = [measure(network, pictures) for _ in range(settings.repeats)]
    median = median_of(repeats)
    numeric = sum(numeric_work(median).values())
    active = cut_network(drawn_badnet(settings, pictures[CLEAN_VALID]))
    drawn_work = median_of([measure_work(active, pictures) for _ in range(settings.repeats)])
    results = {
        "device": device_name(),
        "pictures": {name: len(values) for name, values in pictures.items()},
        "classes": network.classes,
        "speedup_over_lab_loop": median["lab_loop"] / numeric,
        "plain_passes": numeric / median["plain_pass"],
        "seconds": median,
        "active_share": active_share(network, pictures[CLEAN_VALID]),
        "drawn_share": active_share(active, pictures[CLEAN_VALID]),
        "drawn_seconds": drawn_work,
        "drawn_plain_passes": sum(drawn_work.values()) / median["plain_pass"],
        "repeats": repeats,
        "matrix_product_gflops": peak,
        "growth": measure_growth(network, pictures[CLEAN_VALID]),
        **check_labels(network, pictures),
        **whole_sweep(network, pictures, settings),
    }
    text = as_markdown(results, network, settings)
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.md").write_text(text)
    (folder / "benchmark.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_benchmark(median, results["growth"]).savefig(folder / "benchmark.png", dpi=130)
    print(text)
    return results


def matrix_product_peak() -> float:
    """Return the GFLOP/s of a large float32 matrix product, the best of five."""
    factor = np.random.default_rng(0).random((3072, 3072), np.float32)
    return max(2e-9 * len(factor) ** 3 / timed(lambda: factor @ factor)[0] for _ in range(5))
