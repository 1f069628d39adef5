"""The benchmark as a whole."""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from backdoor.device import device_name
from backdoor.networks.cut import CutNetwork, cut_network
from backdoor.pictures.test_bed import CLEAN_VALID
from backdoor.reporting.figures import draw_benchmark
from experiments.benchmarks.check import check_labels
from experiments.benchmarks.inputs import badnet_of, drawn_badnet, pictures_of
from experiments.benchmarks.measure import (
    LAB,
    PLAIN,
    Pictures,
    activate,
    active_share,
    lab_loop,
    measure,
    measure_growth,
    measure_work,
    median_of,
    numeric_work,
    published_orders,
    spread_of,
    timed,
)
from experiments.benchmarks.needed import multiplications, needed_by_walk
from experiments.benchmarks.networks import DEEPID
from experiments.benchmarks.settings import Benchmark
from experiments.benchmarks.tables import as_markdown
from experiments.benchmarks.whole_sweep import whole_sweep

CPUINFO = Path("/proc/cpuinfo")
CHECKED = 16  # pictures, where the whole tail takes long


def benchmark(settings: Benchmark) -> dict[str, Any]:
    """Measure all, write a .md and a .json to the folder and return what the JSON holds."""
    pictures = pictures_of(settings)
    network = cut_network(badnet_of(settings, pictures[CLEAN_VALID]))
    results = {
        "network": settings.network,
        "device": f"{processor()}, {device_name()}",
        "pictures": {name: len(values) for name, values in pictures.items()},
        "classes": network.classes,
        "cut": network.layer,
        "matrix_product_gflops": matrix_product_peak(),
        **_measured(network, pictures, settings),
        "needed": needed(network, pictures),
        "active_share": active_share(network, pictures[CLEAN_VALID]),
    }
    if settings.network == DEEPID:
        results |= _of_deepid(network, pictures, settings)
        results |= check_labels(network, pictures)
    else:
        results |= check_labels(network, {CLEAN_VALID: pictures[CLEAN_VALID][:CHECKED]})
    text = as_markdown(results, settings)
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{settings.title}.md").write_text(text)
    (folder / f"{settings.title}.json").write_text(json.dumps(results, indent=2) + "\n")
    if "growth" in results:
        figure = draw_benchmark(results["seconds"], results["growth"])
        figure.savefig(folder / f"{settings.title}.png", dpi=130)
    print(text)
    return results


def _measured(network: CutNetwork, pictures: Pictures, settings: Benchmark) -> dict[str, Any]:
    repeats = []
    for _ in range(settings.repeats):
        seconds = measure(network, pictures)
        if settings.network == DEEPID:
            seconds[LAB] = lab_loop(network, pictures)
        repeats.append(seconds)
    median = median_of(repeats)
    numeric = sum(numeric_work(median).values())
    found = {"speedup_over_lab_loop": median[LAB] / numeric} if LAB in median else {}
    return found | {
        "seconds": median,
        "spread": spread_of(repeats),
        "plain_passes": numeric / median[PLAIN],
        "repeats": repeats,
    }


def _of_deepid(network: CutNetwork, pictures: Pictures, settings: Benchmark) -> dict[str, Any]:
    """Measure what is measured of the published architecture alone."""
    found: dict[str, Any] = {
        "growth": measure_growth(network, pictures[CLEAN_VALID]),
        **whole_sweep(network, pictures, settings),
    }
    if settings.weights:
        active = cut_network(drawn_badnet(settings, pictures[CLEAN_VALID]))
        work = [measure_work(active, pictures) for _ in range(settings.repeats)]
        found["drawn_share"] = active_share(active, pictures[CLEAN_VALID])
        found["drawn_seconds"] = median_of(work)
    return found


def needed(network: CutNetwork, pictures: Pictures) -> dict[str, int]:
    """Return the multiply-adds that each stage needs."""
    activations = {name: activate(network, values) for name, values in pictures.items()}
    count = sum(map(len, pictures.values()))
    orders = published_orders(activations[CLEAN_VALID])
    return {
        PLAIN: count * multiplications(network.model),
        "head": count * multiplications(network.head),
        **{f"walk_{o}": needed_by_walk(network, activations, order) for o, order in orders.items()},
    }


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    told = CPUINFO.read_text() if CPUINFO.exists() else ""
    names = [line.partition(": ")[2] for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def matrix_product_peak() -> float:
    """Return the GFLOP/s of a large float32 matrix product, the best of five."""
    factor = np.random.default_rng(0).random((3072, 3072), np.float32)
    return max(2e-9 * len(factor) ** 3 / timed(lambda: factor @ factor)[0] for _ in range(5))
