"""Measure the numeric work of the six runs against the lab's loop and against one plain pass.

python -m experiments.benchmark
python -m experiments.benchmark quick=true
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate

from experiments.launch import cli

if TYPE_CHECKING:
    from backdoor.networks.cut import CutNetwork

# The lab's loop at the published stops, 45, 48, 52 and 1, 1, 2: the whole valid set once before and
# once after every channel removed; then B and B' on both test sets.
VALID_PASSES = 6 + 45 + 48 + 52 + 1 + 1 + 2
TEST_PASSES = 6 * 4
TIMED = 6  # valid passes of each repeat; single ones differ by a factor of two
QUICK = {"people": 48, "repeats": 1}
SETS = ("clean_valid", "clean_test", "poisoned_valid", "poisoned_test")

MEASURE_PEAK = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit, file=sys.stderr)
sys.exit(done.returncode)
"""

Pictures = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Benchmark:
    """The config, key by key; see --help."""

    weights: str | None
    people: int
    valid: int
    test: int
    repeats: int
    quick: bool
    folder: str
    work: str


@dataclass(frozen=True)
class Measured:
    """Seconds of one repeat; `lab_loop` is estimated from its first passes."""

    plain_pass: float
    head: float
    rank: float
    walk_asc: float
    walk_desc: float
    lab_loop: float

    @property
    def numeric(self) -> float:
        return self.head + self.rank + self.walk_asc + self.walk_desc


def benchmark(settings: Benchmark) -> dict[str, Any]:
    """Measure all, write benchmark.{md,png,json} to the folder and return what the JSON holds."""
    from backdoor.device import start_tensorflow

    device = start_tensorflow()

    from backdoor.networks.cut import cut_network
    from backdoor.reporting.figures import draw_benchmark

    pictures = _pictures(settings)
    network = cut_network(_badnet(settings, pictures["clean_valid"]))
    peak = matrix_product_peak()
    repeats = [measure(network, pictures) for _ in range(settings.repeats)]
    median = Measured(*map(statistics.median, zip(*map(_values, repeats), strict=True)))
    growth = measure_growth(network, pictures["clean_valid"])
    checked = check_labels(network, pictures)
    whole = whole_sweep(network, pictures, settings)
    results = {
        "device": device,
        "pictures": {name: len(each) for name, each in pictures.items()},
        "classes": network.classes,
        "speedup_over_lab_loop": median.lab_loop / median.numeric,
        "plain_passes": median.numeric / median.plain_pass,
        "seconds": asdict(median),
        "repeats": [asdict(each) for each in repeats],
        "matrix_product_gflops": peak,
        "growth": growth,
        **checked,
        **whole,
    }
    text = as_markdown(results, network, settings)
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.md").write_text(text)
    (folder / "benchmark.json").write_text(json.dumps(results, indent=2) + "\n")
    draw_benchmark(results["seconds"], growth).savefig(folder / "benchmark.png", dpi=130)
    print(text)
    return results


def measure(network: "CutNetwork", pictures: Pictures) -> Measured:
    """Time one repeat of everything, in memory: reading files is no part of it."""
    from backdoor.pruning.walk import ORDERS

    _compile(network, pictures)
    plain = timed(lambda: [network.classify_pictures(each) for each in pictures.values()])[0]
    head, activations = timed(
        lambda: {name: activate(network, each) for name, each in pictures.items()}
    )
    rank, orders = timed(
        lambda: {n: rank(activations["clean_valid"]) for n, rank in ORDERS.items()}
    )

    def seconds_of_walk(order: NDArray[np.int64]) -> float:
        return timed(lambda: [network.walk(each, order) for each in activations.values()])[0]

    walks = {name: seconds_of_walk(order) for name, order in orders.items()}
    loop = lab_loop(network, pictures)
    return Measured(plain, head, rank, walks["asc"], walks["desc"], loop)


def activate(network: "CutNetwork", pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the head's output for pictures in memory, in the chunks in which files are read."""
    from backdoor.pictures.picture_set import CHUNK

    starts = range(0, len(pictures), CHUNK)
    return network.activate((pictures[s : s + CHUNK] for s in starts), len(pictures))


def lab_loop(network: "CutNetwork", pictures: Pictures) -> float:
    """Estimate the seconds of the lab's loop from its beginning, which is run as the course has it.

    A fresh network; pictures as its loader gives them, the valid set in float64 as published, axes
    swapped without a copy; `predict` at batch 32 after every channel. The seconds in which a fresh
    network is traced, six times in the loop, are left out.
    """
    import keras

    def passes(name: str, channels: int) -> float:
        """Return the mean seconds of one channel's removal and the pass after it."""
        stored = np.float64 if name.endswith("valid") else np.float32
        loaded = np.moveaxis(np.moveaxis(pictures[name], -1, 1).astype(stored, order="C"), 1, -1)
        badnet = keras.models.clone_model(network.model)
        badnet.set_weights(network.model.get_weights())
        convolution = badnet.get_layer("conv_3")
        badnet.predict(loaded[:32], 32, verbose=0)

        def remove_and_predict(channel: int) -> NDArray[np.int64]:
            kernel, bias = convolution.get_weights()
            kernel[..., channel], bias[channel] = 0, 0
            convolution.set_weights([kernel, bias])
            labels: NDArray[np.int64] = badnet.predict(loaded, 32, verbose=0).argmax(axis=1)
            return labels

        return timed(lambda: [remove_and_predict(each) for each in range(channels)])[0] / channels

    return VALID_PASSES * passes("clean_valid", TIMED) + TEST_PASSES * passes("clean_test", 2)


def check_labels(network: "CutNetwork", pictures: Pictures) -> dict[str, Any]:
    """Compare the walks with another way to take them, the whole tail run at every k.

    A mismatch is a near-tie where the walk's label is one of the two best of the whole tail and
    their scores before the softmax are within a thousandth. `scored` is how often, an order, a
    channel that goes is not zero on a picture.
    """
    import tensorflow as tf

    from backdoor.networks.cut import walk_on_device
    from backdoor.pruning.walk import ORDERS, walk

    def other_walk(activations: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.int64]:
        if tf.config.list_logical_devices("GPU"):
            return walk(activations, order, network.classify_activations)
        return walk_on_device(network.tail, activations, order)

    activations = {name: activate(network, each) for name, each in pictures.items()}
    gaps: list[float] = []
    for rank in ORDERS.values():
        order = rank(activations["clean_valid"])
        for each in activations.values():
            found = network.walk(each, order)
            for k, i in np.argwhere(found != other_walk(each, order)):
                gaps.append(_gap(network, each[i], order[:k], found[k, i]))
    return {
        "labels_compared": 2 * (network.channels + 1) * sum(map(len, activations.values())),
        "label_mismatches": len(gaps),
        "of_these_near_ties": sum(gap < 1e-3 for gap in gaps),
        "largest_gap": max(gaps, default=0.0),
        "scored": sum(
            int(np.count_nonzero(each.any(axis=tuple(range(1, each.ndim - 1)))))
            for each in activations.values()
        ),
    }


def _gap(
    network: "CutNetwork",
    activations: NDArray[np.float32],
    removed: NDArray[np.int64],
    label: int,
) -> float:
    """Return how far the two best scores are apart, infinity where the label is neither's."""
    kept = activations[None].copy()
    kept[..., removed] = 0
    scores = np.log(np.asarray(network.tail(kept))[0] + 1e-38)
    second, best = np.argsort(scores)[-2:]
    if label not in (second, best):
        return float("inf")
    gap, size = scores[best] - scores[second], max(1, abs(scores[best]), abs(scores[second]))
    return float(gap / size)


def measure_growth(
    network: "CutNetwork", pictures: NDArray[np.float32]
) -> dict[str, dict[int, float]]:
    """Return seconds of head and walk by pictures, of walks by channels, of stops by thresholds.

    A stop is all that another threshold computes.
    """
    from backdoor.pruning.walk import ORDERS, LinearTail, channels_to_remove, linear_walk

    many = np.resize(pictures, (min(16384, 8 * len(pictures)), *pictures.shape[1:]))
    activations = activate(network, many)
    order = ORDERS["asc"](activations)
    tail = network.linear_tail
    assert tail is not None, "the benchmark's network is of a known kind"

    def for_pictures(count: int) -> float:
        walked = timed(lambda: network.walk(activations[:count], order))[0]
        return walked + timed(lambda: activate(network, many[:count]))[0]

    def for_channels(count: int) -> float:
        some = order[-count:]  # the last to go; of the published network's, 31 of 60 are dead
        fewer = LinearTail(tail.bias, tail.spread[some], tail.score)
        seen = np.ascontiguousarray(activations[..., some])
        threads = os.cpu_count() or 1
        return timed(lambda: linear_walk(seen, np.arange(count), fewer, threads))[0]

    def for_thresholds(count: int) -> float:
        correct = np.linspace(len(many), 0, network.channels + 1).astype(np.int64)
        stops = np.linspace(1, 90, count)
        return timed(lambda: [channels_to_remove(correct, len(many), each) for each in stops])[0]

    for_thresholds(1)  # the first call takes longer
    by_pictures = {n: for_pictures(n) for n in (len(many) // part for part in (8, 4, 2, 1))}
    by_channels = {n: for_channels(n) for n in (15, 30, 45, 60)}
    by_thresholds = {n: for_thresholds(n) for n in (1, 10, 100)}
    return {"pictures": by_pictures, "channels": by_channels, "thresholds": by_thresholds}


def whole_sweep(network: "CutNetwork", pictures: Pictures, settings: Benchmark) -> dict[str, Any]:
    """Run the command on files, valid sets in float64, in a process of its own, from nothing.

    The network's own labels are taken for the truth, so that drawn faces can be swept with any
    weights. Thresholds 2, 4, 10, then 6 as the seventh.
    """
    import h5py

    with tempfile.TemporaryDirectory(dir=_made(settings.work)) as folder:
        for name, each in pictures.items():
            stored = np.float64 if name.endswith("valid") else np.float32
            truth = (
                network.classify_pictures(each) if name.startswith("clean") else np.zeros(len(each))
            )
            with h5py.File(f"{folder}/{name}.h5", "w") as file:
                file["label"] = truth
                data = file.create_dataset("data", (len(each), 3, *each.shape[1:3]), stored)
                for start in range(0, len(each), 512):
                    data[start : start + 512] = np.moveaxis(each[start : start + 512], -1, 1)
        network.model.save(f"{folder}/badnet.keras")
        command = [sys.executable, "-m", "experiments.run", "-m", "dataset=files"]
        command += ["order=asc,desc", "threshold=2,4,10,6", "badnet.path=badnet.keras"]
        command += [f"dataset.{name}={name}.h5" for name in SETS]
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        root = str(Path(__file__).parents[1])
        # A process takes its parent's peak for its own when it starts, so a small one starts it.
        measuring = [sys.executable, "-c", MEASURE_PEAK, *command]
        began = time.perf_counter()
        child = subprocess.Popen(
            measuring, cwd=folder, env=environment | {"PYTHONPATH": root}, stderr=-1, text=True
        )
        assert child.stderr is not None, "it was asked for"
        lines = [(time.perf_counter() - began, line) for line in child.stderr]
        if child.wait():
            raise RuntimeError(f"the sweep failed: {''.join(line for _, line in lines)[-2000:]}")
        whole = time.perf_counter() - began
        peak = int(lines[-1][1].split()[-1])
        seconds = _seconds_of_runs(Path(folder))
    extra = [each["total"] for name, each in seconds.items() if name.endswith("-6")]
    six = [each for name, each in seconds.items() if not name.endswith("-6")]
    numeric = sum(each.get(stage, 0) for each in six for stage in ("head", "rank", "walk"))
    return {
        "peak_rss_bytes": peak,
        "extra_threshold_seconds": statistics.mean(extra),
        "six_runs_overhead_seconds": sum(each["total"] for each in six) - numeric,
        "sweep_overhead_seconds": whole - numeric - sum(extra),
        "first_output_seconds": lines[0][0],
        "first_progress_seconds": next(at for at, line in lines if line.endswith("...\n")),
        "first_head_seconds": next(at for at, line in lines if line.startswith("Head ")),
        "sweep_seconds_of_runs": seconds,
    }


def _seconds_of_runs(folder: Path) -> dict[str, dict[str, float]]:
    from backdoor.tracking.runs import connect, newest_sweep, runs_of
    from backdoor.tracking.store import Store

    store = Store(None, str(folder / "mlruns"), "backdoor")
    client = connect(store)
    return {
        run.info.run_name: {
            name.removeprefix("seconds/"): value
            for name, value in run.data.metrics.items()
            if name.startswith("seconds/")
        }
        for run in runs_of(client, store, newest_sweep(client, store) or "")
    }


def as_markdown(results: Mapping[str, Any], network: "CutNetwork", settings: Benchmark) -> str:
    """Return the tables of the benchmark."""
    seconds, peak = results["seconds"], results["matrix_product_gflops"]
    pictures = sum(results["pictures"].values())
    # Of the walks the layers' own products where a channel's removal changes something; since zero
    # columns are left out, less is computed, and the rate may pass the peak.
    head = 2e-9 * pictures * multiplications(network.head)
    walk = 2e-9 * results["scored"] * multiplications(network.tail)
    work = {"head": head, "walk_asc": walk, "walk_desc": walk}
    numeric = sum(seconds[name] for name in ("head", "rank", "walk_asc", "walk_desc"))
    stages = []
    for name in ("head", "rank", "walk_asc", "walk_desc"):
        line = {
            "stage": name,
            "seconds": f"{seconds[name]:.2f}",
            "share": f"{seconds[name] / numeric:.0%}",
        }
        rate = f"{work[name] / seconds[name]:.0f} of {peak:.0f}" if name in work else ""
        stages.append(line | {"GFLOP/s": rate})
    whole = {
        "the six runs' numeric work": f"{numeric:.2f} s",
        "one plain compiled pass over the same four sets": f"{seconds['plain_pass']:.2f} s",
        "plain passes": f"{results['plain_passes']:.2f}",
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
    growth = [
        {"of": what, "count": count, "seconds": f"{value:.4f}"}
        for what, found in results["growth"].items()
        for count, value in found.items()
    ]
    origin = settings.weights or "drawn weights"
    return "\n\n".join(
        [
            f"# Benchmark\n\n{pictures} drawn faces, {network.classes} classes, {origin}, "
            f"{results['device']}; medians of {settings.repeats}.",
            tabulate(stages, headers="keys", tablefmt="github", disable_numparse=True),
            tabulate(
                whole.items(),
                headers=("what", "measured"),
                tablefmt="github",
                disable_numparse=True,
            ),
            tabulate(growth, headers="keys", tablefmt="github", disable_numparse=True),
            "",
        ]
    )


def multiplications(model: Any) -> int:
    """Return the multiply-adds of one picture in the model's convolutions and dense layers."""
    total = 0
    for layer in model.layers:
        if layer.weights:
            kernel = layer.get_weights()[0]
            places = int(np.prod(layer.output.shape[1:-1])) if kernel.ndim == 4 else 1
            total += kernel.size * places
    return total


def matrix_product_peak() -> float:
    """Return the GFLOP/s of a large float32 matrix product, the best of five."""
    factor = np.random.default_rng(0).random((3072, 3072), np.float32)
    return max(2e-9 * len(factor) ** 3 / timed(lambda: factor @ factor)[0] for _ in range(5))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many seconds the work took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def _compile(network: "CutNetwork", pictures: Pictures) -> None:
    few = pictures["clean_valid"][:64]
    network.classify_pictures(few)
    network.walk(activate(network, few), np.arange(network.channels))


def _badnet(settings: Benchmark, pictures: NDArray[np.float32]) -> Any:
    """Return the network of the given weights, else one of drawn weights.

    An untrained network gives all pictures the same few labels; here the mean features score
    nothing, so that labels are as varied as a trained network's.
    """
    import keras

    from backdoor.networks.deepid import build_deepid
    from backdoor.networks.model_files import load_badnet

    if settings.weights:
        return load_badnet(settings.weights)
    keras.utils.set_random_seed(0)
    model = build_deepid(settings.people)
    output = model.get_layer("output")
    features = keras.Model(model.inputs[0], output.input).predict(pictures[:512], verbose=0)
    kernel = output.get_weights()[0]
    output.set_weights([kernel, -features.mean(axis=0) @ kernel])
    return model


def _pictures(settings: Benchmark) -> dict[str, NDArray[np.float32]]:
    """Return the four sets, 0..255, drawn on first use."""
    from backdoor.attacks.drawn_set import BATCH
    from backdoor.pictures.drawn_faces import draw_faces, invent_people
    from backdoor.progress import progress

    path = _made(settings.work) / f"{settings.people}-{settings.valid}-{settings.test}.npz"
    if not path.exists():
        people = invent_people(settings.people, np.random.default_rng(0))
        found = {}
        for name in SETS:
            count = settings.valid if name.endswith("valid") else settings.test
            who = np.tile(np.arange(settings.people), count)
            batches = [who[start : start + BATCH] for start in range(0, len(who), BATCH)]
            rng = np.random.default_rng(count)
            trigger = "sunglasses" if name.startswith("poisoned") else ""
            shown = progress(batches, f"Drawing {len(who)} faces, {name}", len(batches))
            found[name] = np.concatenate([draw_faces(people, each, rng, trigger) for each in shown])
        np.savez(path, allow_pickle=False, **found)
    with np.load(path) as stored:
        return {name: stored[name].astype(np.float32) for name in SETS}


def _values(measured: Measured) -> list[float]:
    return list(asdict(measured).values())


def _made(folder: str) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")  # type: ignore[untyped-decorator]
def job(config: DictConfig) -> None:
    plain: Any = OmegaConf.to_container(config, resolve=True)
    benchmark(Benchmark(**plain | (QUICK if plain["quick"] else {})))


if __name__ == "__main__":
    sys.exit(cli.call(job))
