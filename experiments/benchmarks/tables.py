"""The benchmark's tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from tabulate import tabulate

from experiments.benchmarks.measure import LAB, PLAIN, numeric_work
from experiments.benchmarks.settings import Benchmark

LEFT_OUT = (
    "Left out: reading and drawing pictures, opening the network, tracing its graphs. Needed are "
    "multiply-adds of convolutions and dense layers, of walks without those by zero; the peak is "
    "that of a large matrix product in NumPy, measured before."
)


def as_markdown(results: Mapping[str, Any], settings: Benchmark) -> str:
    """Return the tables of the benchmark."""
    pictures = sum(results["pictures"].values())
    origin = settings.weights or "drawn weights"
    parts = [
        f"# Benchmark of {settings.network}",
        f"{pictures} drawn faces, {results['classes']} classes, {origin}, cut at "
        f"{results['cut']}; {results['device']}, {results['matrix_product_gflops']:.0f} GFLOP/s; "
        f"medians of {settings.repeats}, least and most behind them.",
        _table(_stages(results), "keys"),
        LEFT_OUT,
        _table(_measured(results).items(), ("what", "measured")),
    ]
    if "growth" in results:
        growth = [
            {"of": what, "count": count, "seconds": f"{value:.4f}"}
            for what, points in results["growth"].items()
            for count, value in points.items()
        ]
        parts += [_table(_overheads(results), "keys"), _table(growth, "keys")]
    return "\n\n".join([*parts, ""])


def _stages(results: Mapping[str, Any]) -> list[dict[str, str]]:
    seconds, plain = results["seconds"], results["seconds"][PLAIN]
    lines = []
    for stage, taken in seconds.items():
        low, high = results["spread"][stage]
        needed = results["needed"].get(stage)
        least = 2e-9 * needed / results["matrix_product_gflops"] if needed else None
        lines.append(
            {
                "stage": stage.replace("_", " "),
                "seconds": f"{taken:.2f} ({low:.2f} to {high:.2f})",
                "plain passes": f"{taken / plain:.3f}",
                "needed, GMAC": f"{1e-9 * needed:.1f}" if needed else "",
                "of the peak": f"{least / taken:.0%}" if least else "",
            }
        )
    return lines


def _measured(results: Mapping[str, Any]) -> dict[str, str]:
    seconds = results["seconds"]
    numeric = sum(numeric_work(seconds).values())
    shown = {
        "the six runs' numeric work": (
            f"{numeric:.2f} s, {results['plain_passes']:.2f} plain passes"
        ),
        "channels that are not zero on a picture": f"{results['active_share']:.0%}",
        "labels compared": f"{results['labels_compared']}",
        "labels that differ (near-ties among them)": (
            f"{results['label_mismatches']} ({results['of_these_near_ties']})"
        ),
    }
    if "drawn_seconds" in results:
        drawn = sum(results["drawn_seconds"].values())
        shown[f"the work with drawn weights, {results['drawn_share']:.0%} not zero"] = (
            f"{drawn:.2f} s, {drawn / seconds[PLAIN]:.2f} plain passes"
        )
    if LAB in seconds:
        shown |= {
            "the lab's loop, estimated from its first passes": f"{seconds[LAB]:.0f} s",
            "speed-up over the lab's loop": f"{seconds[LAB] / numeric:.1f}",
            "another threshold, with its GoodNet logged": (
                f"{results['extra_threshold_seconds']:.2f} s"
            ),
            "the six runs beyond the numerics": f"{results['six_runs_overhead_seconds']:.1f} s",
            "the same with start, hashing, tables": f"{results['sweep_overhead_seconds']:.1f} s",
            "peak memory of the whole sweep": f"{results['peak_rss_bytes'] / 2**30:.2f} GiB",
            "first line of output of the sweep": f"{results['first_output_seconds']:.1f} s",
            "first progress": f"{results['first_progress_seconds']:.1f} s",
            "first head begun": f"{results['first_head_seconds']:.1f} s",
        }
    return shown


def _overheads(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the seconds of each run of the sweep by stage."""
    runs = results["sweep_seconds_of_runs"]
    stages = sorted({stage for seconds in runs.values() for stage in seconds})
    return [
        {"run": run, **{stage: f"{seconds.get(stage, 0):.2f}" for stage in stages}}
        for run, seconds in runs.items()
    ]


def _table(lines: Iterable[Any], headers: str | tuple[str, ...]) -> str:
    return str(tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True))
