"""What a run leaves in MLflow: names, layout, writer and reader of all of it.

Whoever adds an artifact, a tag or a metric adds it here, and in tests/test_record.py.
"""

import csv
import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray

from backdoor.cache import sha256
from backdoor.evaluation import (
    Labels,
    evaluate_clean,
    evaluate_network,
    evaluate_poisoned,
    ratings,
)
from backdoor.pictures.brightness import Brightness
from backdoor.pictures.picture_set import class_counts
from backdoor.pictures.test_bed import CLEAN_TEST, POISONED_TEST
from backdoor.samples import UNKNOWN, Samples, true_classes
from backdoor.text import plain
from backdoor.tracking.front import front_metrics

if TYPE_CHECKING:
    from backdoor.detection import Outcome, Threshold

# Tags
KIND = "kind"  # one of tracking.kinds
AXES, RUNS = "axes", "runs"  # of a parent: what is swept over which values, how many runs
COMPLETE, ERROR, RESULT = "complete", "error", "result"
LOG, ALIVE = "log", "alive"
NETWORK, LAYER, CLASSES = "network.sha256", "network.layer", "network.classes"
WHY, SCALED = "network.cut", "data.scale"
GOODNET, REPAIRED, FILE_OF_CURVES = "goodnet.sha256", "repaired.sha256", "curves.sha256"
SUSPECTED = "suspect.class"  # of an order that asks for one, and of a verdict
VERSION, COMMIT = "backdoor.version", "backdoor.commit"
COMMAND = "command"  # as it would be typed
PARENT = "mlflow.parentRunId"

# Parameters that more than one module reads
ORDER, THRESHOLD, TARGET, DEVICE = "order", "threshold", "dataset.target", "device_name"
STOP, SUSPECT = "stop", "suspect"
SEED, SCALE, DATA_SET, BADNET = "seed", "dataset.divide_by", "dataset.name", "badnet.path"

# Metrics: those of the stop are named as in evaluation. A curve has its own prefix, since MLflow
# shows its last point, k = C, as the metric's value.
REMOVED, TOTAL = "channels_removed", "channels_total"
ACCURACY, ATTACK = "goodnet_accuracy", "goodnet_attack_success_rate"
DETECTION, FALSE_ALARMS = "detection_rate", "false_alarm_rate"
CURVE, SECONDS = "curve/", "seconds/"
WHOLE, ORDER_SECONDS = f"{SECONDS}total", f"{SECONDS}order"
TEST_CURVES = ("test_goodnet_accuracy", "test_goodnet_attack_success_rate")
DETECTION_CURVES = ("test_false_alarm_rate", "test_detection_rate")
DER, FLIP_DEPTH = "goodnet_der", "flip_depth_auroc"
DETECTION_AT = {points: f"detection_rate_at_{points}_false_alarms" for points in (1, 5)}

# Artifacts
MODEL = "goodnet"
ANSWERS = {
    "label": DataType.string,
    "backdoored": DataType.boolean,
    "badnet": DataType.string,
    "pruned": DataType.string,
    "score": DataType.double,
}  # columns of what it answers when it is served
SERVED_WITH = ("mlflow", "tensorflow", "keras", "numpy", "pandas")
CONFIG_FILE = "config.json"  # the resolved config, {"dataset.name": "faces", ...}
METRICS_FILE = "metrics.json"  # all metrics, intervals and seconds, too
REPAIRED_FILE = "repaired.keras"
CHANNELS_FILE = "channels.json"  # {"removed": [...], "order": [...]}
LABELS_FILE = "labels.npz"  # {test set}_{badnet, pruned, truth, maybe repaired}, (n,) each
TARGETS = f"{POISONED_TEST}_target"  # and, of poisoned pictures, what the attacker wants, (n,)
COUNTS_FILE = "class_counts.json"  # {set: pictures of each class}
BRIGHTNESS_FILE = "brightness.json"  # the fields of Brightness, of clean pictures
NAMES_FILE = "class_names.json"  # names of the classes; where they have none, there is no file
CURVES_FILE = "curve.csv"  # a line for each k
BESIDE_CURVES = ("channels_removed", "channel")  # columns of that file
SAMPLES_FILE, MISTAKES_FILE = "samples.npz", "mistakes.npz"  # the fields of Samples
CURVES_PICTURE, SAMPLES_PICTURE = "curve.png", "samples.png"

Curves = Mapping[str, NDArray[Any]]

MOST_PER_BATCH = 1000  # metrics, by MLflow's REST API
ATTEMPTS = 3


def data_tag(name: str, what: str) -> str:
    """Return the tag of a set's `sha256` or number of `pictures`."""
    return f"data.{name}.{what}"


def in_sweep(sweep: str) -> str:
    """Return the tag that the runs of a sweep have; its value is their positions in the sweep.

    A tag for each sweep, since a run that is complete belongs to every later sweep that asks for
    its result. Several numbers where one result was asked for several times (`device=cpu,gpu`).
    """
    return f"sweep.{sweep}"


def log_goodnet(
    file: Path, run_name: str, shape: Sequence[int], scale: Brightness, names: Sequence[str]
) -> None:
    """Log a saved GoodNet, for `mlflow.pyfunc`, `mlflow models serve` and Keras, and its SHA-256.

    Signature and requirements are stated: left to MLflow, they are found out by importing the model
    in another process, which takes 8 to 22 s.

    Args:
        run_name: After which it is called.
        shape: Height, width, channels of a picture.
        scale: Of clean pictures; those in another one are refused.
        names: Of all classes of the network.
    """
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]),
        outputs=Schema([ColSpec(kind, name) for name, kind in ANSWERS.items()]),
    )
    requirements = [f"{name}=={metadata.version(name)}" for name in SERVED_WITH]
    mlflow.log_dict(asdict(scale), BRIGHTNESS_FILE)
    known = file.with_suffix(".json")
    known.write_text(json.dumps({"scale": asdict(scale), "names": list(names)}))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*An input example was not provided")
        logged = mlflow.pyfunc.log_model(
            name=model_name(run_name),
            python_model=str(Path(__file__).with_name("served_goodnet.py")),
            artifacts={MODEL: str(file), "known": str(known)},
            metadata={"scale": f"{scale.low:g} to {scale.high:g}"},
            signature=signature,
            pip_requirements=requirements,
        )
    known.unlink()
    mlflow.set_tag(GOODNET, _model_digest(logged.model_id))


def model_name(run_name: str) -> str:
    """Return what the GoodNet of a run is called, of letters that MLflow takes."""
    return re.sub(r"[^\w-]", "_", f"{MODEL}-{run_name}")


def log_outcome(
    run_id: str, outcome: "Outcome", metrics: Mapping[str, float], curves: Curves
) -> None:
    """Log metrics in front of curves, as MLflow's pages show them; data sets and tags."""
    show_metrics(metrics)
    log_curves(run_id, curves)
    tags = {
        NETWORK: outcome.network.fingerprint,
        LAYER: plain(outcome.network.layer),
        CLASSES: outcome.network.classes,
        WHY: plain(outcome.network.why),
        SCALED: outcome.bed.clean_valid.scale.name,
    }
    if outcome.ranking.suspect is not None:
        tags[SUSPECTED] = outcome.ranking.suspect
    for name, pictures in outcome.bed.sets.items():
        log_data_set(run_id, name, pictures.path, outcome.digests[name], len(pictures))
        tags[data_tag(name, "sha256")] = outcome.digests[name]
        tags[data_tag(name, "pictures")] = len(pictures)
    mlflow.set_tags(tags)


def log_artifacts(
    outcome: "Outcome",
    threshold: "Threshold",
    curves: Curves,
    samples: Mapping[str, Samples],
    repaired: Mapping[str, Labels],
    folder: Path,
) -> None:
    """Log the channels removed, the labels, the curves, sample pictures and class counts as files.

    Args:
        samples: By the artifact's name.
        repaired: Labels of the test sets by the repaired network, where they are its own.
        folder: With the repaired network in REPAIRED_FILE; what else is there is logged, too.
    """
    channels = {"removed": outcome.removed(threshold), "order": outcome.order.tolist()}
    (folder / CHANNELS_FILE).write_text(json.dumps(channels))
    counts = {
        name: class_counts(pictures.labels, outcome.network.classes)
        for name, pictures in outcome.bed.sets.items()
    }
    (folder / COUNTS_FILE).write_text(json.dumps(counts))
    names = outcome.bed.clean_test.names
    if names is not None:
        (folder / NAMES_FILE).write_text(json.dumps(list(names)))
    labels = _labels(outcome, threshold)
    labels |= {f"{name}_repaired": values for name, values in repaired.items()}
    np.savez_compressed(folder / LABELS_FILE, allow_pickle=False, **labels)
    for name, some in samples.items():
        np.savez_compressed(folder / name, allow_pickle=False, **asdict(some))
    with (folder / CURVES_FILE).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*BESIDE_CURVES, *curves])
        for k, values in enumerate(zip(*curves.values(), strict=True)):
            rows.writerow([k, outcome.order[k - 1] if k else "", *values])
    digests = {REPAIRED: REPAIRED_FILE, FILE_OF_CURVES: CURVES_FILE}
    mlflow.set_tags({tag: sha256(folder / file) for tag, file in digests.items()})
    mlflow.log_artifacts(str(folder))


def show_metrics(metrics: Mapping[str, float]) -> None:
    """Log what of the current run's metrics stands in front."""
    mlflow.log_metrics(front_metrics(metrics))


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Log all that was measured in the current run, as a file."""
    mlflow.log_dict(dict(metrics), METRICS_FILE)


def in_seconds(stages: Mapping[str, float]) -> dict[str, float]:
    """Return how long each stage of a run took, as metrics."""
    return {f"{SECONDS}{stage}": value for stage, value in stages.items()}


def log_curves(run_id: str, curves: Curves) -> None:
    """Log the test sets' curves, a value at k as its metric's value at step k, in few calls.

    All curves are in CURVES_FILE.
    """
    now = int(time.time() * 1000)
    metrics = [
        Metric(f"{CURVE}{name}", float(value), now, step)
        for name in (*TEST_CURVES, *DETECTION_CURVES)
        for step, value in enumerate(curves.get(name, ()))
    ]
    for start in range(0, len(metrics), MOST_PER_BATCH):
        mlflow.MlflowClient().log_batch(run_id, metrics[start : start + MOST_PER_BATCH])


def log_data_set(run_id: str, name: str, path: Path, digest: str, pictures: int) -> None:
    """Log a file of pictures as an input of the run; `digest` is its SHA-256."""
    source = json.dumps({"uri": path.resolve().as_uri()})
    profile = json.dumps({"pictures": pictures, "sha256": digest})
    # MLflow takes digests of at most 36 characters; the whole one is in the profile.
    data_set = Dataset(path.name, digest[:36], "local", source, profile=profile)
    tags = [InputTag("mlflow.data.context", name)]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            mlflow.MlflowClient().log_inputs(run_id, [DatasetInput(data_set, tags)])
        except mlflow.MlflowException:
            # Of two runs that log the same file at the same time, MLflow 3.17 refuses one; when
            # that tries again, it finds the file there.
            if attempt == ATTEMPTS:
                raise
        else:
            return


def axes_of(sweep: Run) -> dict[str, list[str]]:
    """Return what a sweep varies over which values; nothing of a run that stands alone."""
    axes: dict[str, list[str]] = json.loads(sweep.data.tags.get(AXES, "{}"))
    return axes


def is_complete(run: Run) -> bool:
    """Tell whether the run has finished and logged all that it had to."""
    return bool(run.info.status == "FINISHED" and run.data.tags.get(COMPLETE) == "true")


@dataclass(frozen=True)
class Record:
    """What a complete run has left, read back."""

    client: mlflow.MlflowClient
    run: Run

    @property
    def order(self) -> str:
        return str(self.run.data.params[ORDER])

    @property
    def threshold(self) -> float:
        return float(self.run.data.params[THRESHOLD])

    @cached_property
    def params(self) -> dict[str, str]:
        """The resolved config; of what is lost, what MLflow's pages show."""
        whole = {key: str(value) for key, value in self._json(CONFIG_FILE).items()}
        return dict(self.run.data.params) | whole

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All that was measured; of what is lost, what MLflow's pages show."""
        return self._json(METRICS_FILE) | dict(self.run.data.metrics)

    @property
    def classes(self) -> int:
        return int(self.run.data.tags[CLASSES])

    def metric(self, name: str) -> float | None:
        """Return a metric, None where the run has none, as without poisoned pictures."""
        return self.metrics.get(name)

    def count(self, name: str) -> int:
        """Return a metric that is a number of channels."""
        return int(self.metrics[name])

    def size_of(self, name: str) -> int:
        """Return how many pictures a set has, 0 where there is no such set."""
        return int(self.run.data.tags.get(data_tag(name, "pictures"), 0))

    def curve(self, name: str) -> list[float]:
        """Return a curve's values at k = 0, 1, ...; none where it was not measured.

        They are in a file; where that is not the one that was tracked, those that MLflow's pages
        show.
        """
        if FILE_OF_CURVES in self.run.data.tags:
            return self._tracked_curves.get(name) or self._history(name)
        return self._history(name) or self._curves_in_file().get(name, [])

    def _history(self, name: str) -> list[float]:
        for tracked in (f"{CURVE}{name}", name):  # the latter in version 0.1
            if tracked in self.run.data.metrics:
                history = self.client.get_metric_history(self.run.info.run_id, tracked)
                return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
        return []

    @cached_property
    def labels(self) -> dict[str, Labels]:
        """What networks say of the test sets, and the truth; lost as `samples` says."""
        return self._arrays(LABELS_FILE)

    @property
    def targets(self) -> Labels:
        """What the attacker wants of each poisoned test picture, (n,)."""
        return self._targets(self.labels)

    def _targets(self, labels: Mapping[str, Labels]) -> Labels:
        if TARGETS in labels:
            return labels[TARGETS]
        one = int(self.params[TARGET])  # earlier runs knew one for all
        return np.full(len(labels[f"{POISONED_TEST}_badnet"]), one)

    def samples(self) -> Samples:
        """Return the sample pictures; an OSError or MlflowException says that they are lost."""
        return Samples(**self._arrays(SAMPLES_FILE))

    def mistakes(self) -> Samples:
        """Return the worst mistakes; lost as `samples` says."""
        return Samples(**self._arrays(MISTAKES_FILE))

    def class_counts(self) -> dict[str, list[int]]:
        """Return how many pictures each class has in each set; lost as `samples` says."""
        counts: dict[str, list[int]] = json.loads(self._text(COUNTS_FILE))
        return counts

    def class_names(self) -> list[str] | None:
        """Return what the classes are called, None where that is not known."""
        if NAMES_FILE not in self._files:
            return None
        names: list[str] = json.loads(self._text(NAMES_FILE))
        return names

    @cached_property
    def _files(self) -> set[str]:
        # By the run's id MLflow asks the store once more where the run's files are.
        listed = mlflow.artifacts.list_artifacts(artifact_uri=self.run.info.artifact_uri)
        return {Path(file.path).name for file in listed}

    def _json(self, artifact: str) -> dict[str, Any]:
        """Return a file's values; none of an earlier version's run, which has no such file."""
        values: dict[str, Any] = json.loads(self._text(artifact)) if artifact in self._files else {}
        return values

    def check(self) -> None:
        """Compare the metrics with the artifacts they came from: channels, labels, curves, GoodNet.

        Raises:
            RuntimeError: Something else is there than what was tracked; the message says what.
            OSError, MlflowException: An artifact is lost.
        """
        channels = json.loads(self._text(CHANNELS_FILE))
        removed = channels["removed"]
        self._check(TOTAL, self.count(TOTAL), len(channels["order"]))
        self._check(REMOVED, self.count(REMOVED), len(removed))
        self._check("channels", channels["order"][: len(removed)], removed)
        labels = self._arrays(LABELS_FILE)  # as they are now
        for name in (CLEAN_TEST, POISONED_TEST):
            pictures = len(labels.get(f"{name}_badnet", ()))
            self._check(f"pictures of {name}", self.size_of(name), pictures)
        old = REPAIRED not in self.run.data.tags  # of version 0.2: fewer metrics and curves
        for name, value in self._recomputed(labels).items():
            if old and name not in self.metrics:
                continue
            self._check(name, self.metric(name), value)
        self._check_curves(TEST_CURVES if old else (*TEST_CURVES, *DETECTION_CURVES))
        model = self.run.outputs.model_outputs[0].model_id
        self._check(GOODNET, self.run.data.tags[GOODNET], _model_digest(model))
        if not old:
            self._check(REPAIRED, self.run.data.tags[REPAIRED], self._digest(REPAIRED_FILE))

    def _check_curves(self, names: Sequence[str]) -> None:
        tracked = self.run.data.tags.get(FILE_OF_CURVES)
        if tracked is not None:
            self._check(FILE_OF_CURVES, tracked, self._digest(CURVES_FILE))
            return
        there = self._curves_in_file()  # of an earlier version
        for name in names:
            self._check(name, self._history(name), there.get(name, []))

    def _check(self, what: str, tracked: object, there: object) -> None:
        if tracked != there:
            raise RuntimeError(
                f"run {self.run.info.run_id}: expected {what} {tracked}, as tracked, found {there} "
                f"in its artifacts"
            )

    def _recomputed(self, labels: Mapping[str, Labels]) -> dict[str, float]:
        def of(name: str) -> list[Labels]:
            return [labels[f"{name}_{what}"] for what in ("badnet", "pruned", "truth")]

        badnet, pruned, truth = of(CLEAN_TEST)
        metrics = evaluate_clean(badnet, pruned, truth, self.classes)
        if self.size_of(POISONED_TEST):
            badnet, pruned, truth = of(POISONED_TEST)
            known = None if (truth == UNKNOWN).all() else truth
            targets = self._targets(labels)
            metrics |= evaluate_poisoned(badnet, pruned, targets, self.classes, known)
        return metrics | ratings(metrics) | self._recomputed_repair(labels)

    def _recomputed_repair(self, labels: Mapping[str, Labels]) -> dict[str, float]:
        if f"{CLEAN_TEST}_repaired" not in labels:
            return {}
        before, after, truth = (
            labels[f"{CLEAN_TEST}_{what}"] for what in ("badnet", "repaired", "truth")
        )
        attack = None
        if self.size_of(POISONED_TEST):
            known = labels[f"{POISONED_TEST}_truth"]
            attack = (
                labels[f"{POISONED_TEST}_badnet"],
                labels[f"{POISONED_TEST}_repaired"],
                self._targets(labels),
                None if (known == UNKNOWN).all() else known,
            )
        return evaluate_network("repaired", before, after, truth, attack)

    @cached_property
    def _tracked_curves(self) -> dict[str, list[float]]:
        """Curves of the file, none where that is lost or was changed."""
        tracked = self.run.data.tags[FILE_OF_CURVES]
        there = CURVES_FILE in self._files and self._digest(CURVES_FILE) == tracked
        return self._curves_in_file() if there else {}

    def _curves_in_file(self) -> dict[str, list[float]]:
        if CURVES_FILE not in self._files:
            return {}
        names, *rows = csv.reader(self._text(CURVES_FILE).splitlines())
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        return {
            name: [float(value) for value in values]
            for name, values in columns.items()
            if name not in BESIDE_CURVES
        }

    def _text(self, artifact: str) -> str:
        with self._file(artifact) as file:
            return file.read_text()

    def _arrays(self, artifact: str) -> dict[str, NDArray[Any]]:
        with self._file(artifact) as file, np.load(file) as arrays:
            return dict(arrays)

    def _digest(self, artifact: str) -> str:
        with self._file(artifact) as file:
            return sha256(file)

    def _file(self, artifact: str) -> AbstractContextManager[Path]:
        return _at_hand(f"{self.run.info.artifact_uri}/{artifact}")


@contextmanager
def _at_hand(uri: str) -> Iterator[Path]:
    """Yield where a file or folder is: in its place on this machine, else as a copy."""
    if urlsplit(uri).scheme in ("", "file"):
        yield Path(mlflow.artifacts.download_artifacts(uri))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))


def _labels(outcome: "Outcome", threshold: "Threshold") -> dict[str, Labels]:
    """Return what B and B' say of the test sets, and the truth: all that the metrics come from."""
    labels = {}
    for name, pictures in outcome.bed.tests.items():
        labels[f"{name}_badnet"], labels[f"{name}_pruned"], _ = outcome.answers(name, threshold)
        labels[f"{name}_truth"] = true_classes(name, pictures)
    if outcome.bed.poisoned is not None:
        labels[TARGETS] = outcome.bed.poisoned.test.labels
    return labels


def _model_digest(model_id: str) -> str:
    """Return the SHA-256 of a GoodNet's file that was logged to the current store.

    Raises:
        OSError, MlflowException: It is not there.
    """
    with _at_hand(mlflow.get_logged_model(model_id).artifact_location) as folder:
        return sha256(next(folder.rglob("*.keras"), folder / "model.keras"))
