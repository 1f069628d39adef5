"""What a run leaves in MLflow besides parameters: metrics, curves, data sets, GoodNet, pictures."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import keras
import mlflow
import numpy as np
from numpy.typing import NDArray

from backdoor.detection import Outcome, Stopwatch
from backdoor.networks.goodnet import build_goodnet
from backdoor.pictures.picture_set import PictureSet, class_counts, read_pictures
from backdoor.reporting.figures import UNKNOWN, Panel, Samples, draw_curves, draw_samples
from backdoor.tracking import runs as tracking
from experiments.launch.settings import Setting

SHOWN = 6  # pictures of each test set that are drawn
CHECKED = 64  # pictures of each test set on which the saved GoodNet is tried
TESTS = ("clean_test", "poisoned_test")


def log_outcome(
    outcome: Outcome, setting: Setting, run_id: str, folder: Path, stage: Stopwatch
) -> None:
    """Log all that the outcome holds; `folder` is for files on their way."""
    rng = np.random.default_rng(setting.seed)
    with stage("goodnet"):
        goodnet = saved_and_checked_goodnet(outcome, folder / "goodnet.keras", rng)
        tracking.log_goodnet(goodnet)
    (folder / "goodnet.keras").unlink()
    with stage("tracking"):
        curves = outcome.curves()
        mlflow.log_metrics(outcome.metrics())
        tracking.log_curves(run_id, curves)
        for name, pictures in outcome.sets.items():
            tracking.log_data_set(run_id, name, pictures.path, outcome.digests[name], len(pictures))
        mlflow.set_tags(
            {
                "network.sha256": outcome.network.fingerprint,
                "network.layer": outcome.network.layer,
                "network.classes": outcome.network.classes,
                **{f"data.{name}.sha256": digest for name, digest in outcome.digests.items()},
                **{
                    f"data.{name}.pictures": len(pictures)
                    for name, pictures in outcome.sets.items()
                },
            }
        )
    with stage("artifacts"):
        write_artifacts(outcome, setting, curves, folder, rng)
        mlflow.log_artifacts(str(folder))


def saved_and_checked_goodnet(
    outcome: Outcome, path: Path, rng: np.random.Generator
) -> keras.Model:
    """Build G, save it and load it again.

    Raises:
        RuntimeError: What was loaded does not answer a sample of both test sets as the walk says.
    """
    build_goodnet(outcome.network, outcome.removed).save(path)
    loaded = keras.models.load_model(path)
    for name in TESTS:
        pictures = outcome.sets[name]
        sample = rng.choice(len(pictures), min(CHECKED, len(pictures)), replace=False)
        answered = loaded.predict(read_pictures(pictures, sample), verbose=0).argmax(axis=1)
        differing = int((answered != outcome.answers(name)[2][sample]).sum())
        if differing:
            raise RuntimeError(
                f"the saved GoodNet: expected the walk's labels on {len(sample)} pictures of "
                f"{pictures.path}, got others on {differing}"
            )
    return loaded


def write_artifacts(
    outcome: Outcome,
    setting: Setting,
    curves: Mapping[str, NDArray[np.float64]],
    folder: Path,
    rng: np.random.Generator,
) -> None:
    """Write the channels removed, the curves, sample pictures and class counts as files."""
    (folder / "channels.json").write_text(
        json.dumps({"removed": outcome.removed, "order": outcome.order.tolist()})
    )
    np.savez_compressed(folder / "labels.npz", allow_pickle=False, **labels_of(outcome))
    counts = {
        name: class_counts(each.labels, outcome.network.classes)
        for name, each in outcome.sets.items()
    }
    (folder / "class_counts.json").write_text(json.dumps(counts))
    with (folder / "curve.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["channels_removed", "channel", *curves])
        for k, values in enumerate(zip(*curves.values(), strict=True)):
            rows.writerow([k, outcome.order[k - 1] if k else "", *values])
    panel = Panel(
        f"order {setting.order}",
        curves["test_goodnet_accuracy"].tolist(),
        curves["test_goodnet_attack_success_rate"].tolist(),
        {float(setting.threshold): outcome.k},
    )
    draw_curves([panel], "GoodNet").savefig(folder / "curve.png", dpi=130)
    samples = sample_pictures(outcome, rng)
    draw_samples(samples, outcome.network.classes).savefig(folder / "samples.png", dpi=130)
    np.savez_compressed(folder / "samples.npz", **asdict(samples))


def labels_of(outcome: Outcome) -> dict[str, NDArray[np.int64]]:
    """Return what B and B' say of the test sets, and the truth: all that the metrics come from."""
    found = {}
    for name in TESTS:
        pictures = outcome.sets[name]
        found[f"{name}_badnet"], found[f"{name}_pruned"], _ = outcome.answers(name)
        found[f"{name}_truth"] = true_classes(pictures, poisoned=name == "poisoned_test")
    return found


def sample_pictures(outcome: Outcome, rng: np.random.Generator) -> Samples:
    """Draw pictures of both test sets at random, with what B, B' and G say of them."""
    found: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in Samples.__dataclass_fields__
    }
    for name in TESTS:
        pictures = outcome.sets[name]
        sample = np.sort(rng.choice(len(pictures), min(SHOWN, len(pictures)), replace=False))
        values = read_pictures(pictures, sample)
        brightest = max(float(values.max()), 1e-6)
        scale = 255 if brightest <= 1 else 1
        truth = true_classes(pictures, poisoned=name == "poisoned_test")
        badnet, pruned, goodnet = outcome.answers(name)
        found["pictures"].append(np.clip(values * scale, 0, 255).astype(np.uint8))
        found["truth"].append(truth[sample])
        found["badnet"].append(badnet[sample])
        found["pruned"].append(pruned[sample])
        found["goodnet"].append(goodnet[sample])
        found["poisoned"].append(np.full(len(sample), name == "poisoned_test"))
    return Samples(**{name: np.concatenate(parts) for name, parts in found.items()})


def true_classes(pictures: PictureSet, poisoned: bool) -> NDArray[np.int64]:
    """Return what the pictures show; UNKNOWN where a poisoned file keeps only the target."""
    if not poisoned:
        return pictures.labels
    if pictures.true_labels is None:
        return np.full(len(pictures), UNKNOWN)
    return pictures.true_labels
