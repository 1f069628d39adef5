"""What a check leaves in MLflow."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow.entities import Run

from backdoor.answers import BACKDOORED, CLEAN, UNDECIDED
from backdoor.evaluation import measure_attack
from backdoor.pictures.brightness import brightness
from backdoor.pictures.picture_set import read_chunks
from backdoor.text import plain
from backdoor.tracking.record import (
    BRIGHTNESS_FILE,
    CLASSES,
    LAYER,
    NAMES_FILE,
    NETWORK,
    SCALED,
    SUSPECTED,
    data_tag,
    is_complete,
    log_data_set,
)

if TYPE_CHECKING:
    from backdoor.networks.cut import CutNetwork
    from backdoor.pictures.picture_set import PictureSet
    from backdoor.pictures.test_bed import TestBed
    from backdoor.remedies import Remedy
    from backdoor.verdict import Verdict

# Tags and metrics
VERDICT, ANSWER, SCORE = "verdict", "verdict.answer", "score"
SQUARE = "square"  # the share that it sends, where it is a trigger
REMEDY = "remedy"  # the best one
BADNET = "badnet"
KNOWN_ATTACK = f"{BADNET}_attack_success_rate"
CODES = {CLEAN: 0, BACKDOORED: 3, UNDECIDED: 4}  # exit codes
# Artifacts
VERDICT_FILE = "verdict.json"  # answer, why, suspects; of each class measured, what was found
PAGE = "check.html"


def log_network(
    run_id: str, network: "CutNetwork", bed: "TestBed", digests: dict[str, str]
) -> None:
    """Log which network was looked at, and with which pictures."""
    mlflow.set_tags(
        {
            NETWORK: network.fingerprint,
            LAYER: plain(network.layer),
            CLASSES: network.classes,
            SCALED: bed.clean_valid.scale.name,
        }
    )
    if bed.clean_valid.names is not None:
        mlflow.log_text(json.dumps(list(bed.clean_valid.names)), NAMES_FILE)
    for name, pictures in bed.sets.items():
        log_data_set(run_id, name, pictures.path, digests[name], len(pictures))
        mlflow.set_tag(data_tag(name, "sha256"), digests[name])
        mlflow.set_tag(data_tag(name, "pictures"), len(pictures))
    mlflow.log_dict(dataclasses.asdict(brightness(bed.clean_valid)), BRIGHTNESS_FILE)


def measure_known(network: "CutNetwork", poisoned: "PictureSet") -> dict[str, float]:
    """Measure how often the attack succeeds that is known of the network."""
    labels = np.concatenate([network.classify_pictures(some) for some in read_chunks(poisoned)])
    return measure_attack(BADNET, labels, poisoned.labels, poisoned.true_labels)


def metrics_of(verdict: "Verdict", remedies: Sequence["Remedy"]) -> dict[str, float]:
    """Return what a verdict rests on, and what repairs are worth."""
    metrics = {} if verdict.score is None else {SCORE: verdict.score}
    if verdict.findings is not None and verdict.findings.trigger is not None:
        metrics[SQUARE] = verdict.findings.trigger.sent.share
    metrics |= {f"{r.name}/{name}": value for r in remedies for name, value in r.metrics().items()}
    if remedies:
        metrics |= {f"{BADNET}_{name}": value for name, value in remedies[0].before().items()}
    return metrics


def log_verdict(verdict: "Verdict", best: str | None, page: str, folder: Path) -> None:
    """Log the verdict, the name of the best remedy, if there is any, and the page."""
    if best is not None:
        mlflow.set_tag(REMEDY, best)
    mlflow.set_tags({VERDICT: verdict.sentence, ANSWER: verdict.answer})
    if verdict.suspects:
        mlflow.set_tag(SUSPECTED, verdict.suspects[0])
    (folder / VERDICT_FILE).write_text(json.dumps(_plain(verdict), indent=2) + "\n")
    (folder / PAGE).write_text(page)
    mlflow.log_artifacts(str(folder))


def log_networks(folder: Path) -> None:
    """Log the repaired networks and the GoodNets in a folder."""
    mlflow.log_artifacts(str(folder))


def code_of(runs: Sequence[Run]) -> int:
    """Return the exit code: 3 where any is backdoored, else 4 where any is undecided, else 0."""
    answers = {run.data.tags.get(ANSWER) for run in runs if is_complete(run)}
    worst = (answer for answer in (BACKDOORED, UNDECIDED) if answer in answers)
    return CODES[next(worst, CLEAN)]


def _plain(verdict: "Verdict") -> dict[str, object]:
    findings = verdict.findings
    plain: dict[str, object] = {
        "answer": verdict.answer,
        "sentence": verdict.sentence,
        "suspects": list(verdict.suspects),
    }
    if findings is not None:
        plain["classes"] = findings.classes.tolist()
        plain["scores"] = findings.scores.tolist()
        plain["calibrated"], plain["step"] = findings.calibrated, findings.step
        square, asdict = findings.square, dataclasses.asdict
        plain["square"] = square and {
            **asdict(square.square),
            **asdict(square.sent),
            "works": square.sent.works,
        }
        for what in ("statistics", "evidence"):
            plain[what] = {name: v.tolist() for name, v in getattr(findings, what).items()}
    return plain
