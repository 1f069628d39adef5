"""The benchmark's tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from tabulate import tabulate

from backdoor.networks.cut import CutNetwork
from experiments.benchmarks.measure import numeric_work
from experiments.benchmarks.settings import Benchmark


def as_markdown(results: Mapping[str, Any], network: CutNetwork, settings: Benchmark) -> str:
    """Return the tables of the benchmark."""
    pictures = sum(results["pictures"].values())
    origin = settings.weights or "drawn weights"
    growth = [
        {"of": what, "count": count, "seconds": f"{value:.4f}"}
        for what, points in results["growth"].items()
        for count, value in points.items()
    ]
    return "\n\n".join(
        [
            f"# Benchmark\n\n{pictures} drawn faces, {network.classes} classes, {origin}, "
            f"{results['device']}; medians of {settings.repeats}.",
            _table(_stages(results, network), "keys"),
            _table(_measured(results).items(), ("what", "measured")),
            _table(growth, "keys"),
            "",
        ]
    )


def multiplications(model: keras.Model) -> int:
    """Return the multiply-adds of one picture in the model's convolutions and dense layers."""
    total = 0
    for layer in model.layers:
        if layer.weights:
            kernel = layer.get_weights()[0]
            places = int(np.prod(layer.output.shape[1:-1])) if kernel.ndim == 4 else 1
            total += kernel.size * places
    return total


def _stages(results: Mapping[str, Any], network: CutNetwork) -> list[dict[str, str]]:
    # Of the walks the layers' own products where a channel's removal changes something; since zero
    # columns are left out, less is computed, and the rate may pass the peak.
    pictures, peak = sum(results["pictures"].values()), results["matrix_product_gflops"]
    head = 2e-9 * pictures * multiplications(network.head)
    walk = 2e-9 * results["scored"] * multiplications(network.tail)
    stages = numeric_work(results["seconds"])
    lines = []
    for stage, seconds in stages.items():
        work = {"head": head, "rank": None}.get(stage, walk)
        lines.append(
            {
                "stage": stage,
                "seconds": f"{seconds:.2f}",
                "share": f"{seconds / sum(stages.values()):.0%}",
                "GFLOP/s": f"{work / seconds:.0f} of {peak:.0f}" if work else "",
            }
        )
    return lines


def _measured(results: Mapping[str, Any]) -> dict[str, str]:
    seconds = results["seconds"]
    numeric = sum(numeric_work(seconds).values())
    return {
        "the six runs' numeric work": f"{numeric:.2f} s",
        "one plain compiled pass over the same four sets": f"{seconds['plain_pass']:.2f} s",
        "plain passes": f"{results['plain_passes']:.2f}",
        "channels that are not zero on a picture": f"{results['active_share']:.0%}",
        f"the work with drawn weights, {results['drawn_share']:.0%} not zero": (
            f"{sum(results['drawn_seconds'].values()):.2f} s, "
            f"{results['drawn_plain_passes']:.2f} plain passes"
        ),
        "the lab's loop, estimated from its first passes": f"{seconds['lab_loop']:.0f} s",
        "speed-up over the lab's loop": f"{results['speedup_over_lab_loop']:.1f}",
        "labels compared": f"{results['labels_compared']}",
        "labels that differ (near-ties among them)": (
            f"{results['label_mismatches']} ({results['of_these_near_ties']})"
        ),
        "another threshold, with its GoodNet logged": f"{results['extra_threshold_seconds']:.2f} s",
        "the six runs beyond the numerics": f"{results['six_runs_overhead_seconds']:.1f} s",
        "the same with start, hashing, tables": f"{results['sweep_overhead_seconds']:.1f} s",
        "peak memory of the whole sweep": f"{results['peak_rss_bytes'] / 2**30:.2f} GiB",
        "first line of output of the sweep": f"{results['first_output_seconds']:.1f} s",
        "first progress (large files are hashed)": f"{results['first_progress_seconds']:.1f} s",
        "first head begun": f"{results['first_head_seconds']:.1f} s",
    }


def _table(lines: Iterable[Any], headers: str | tuple[str, ...]) -> str:
    return str(tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True))
