"""What is computed of each kind of work, once TensorFlow is started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from backdoor.cache import Cache
from backdoor.tracking import kinds
from experiments.launch.body import detect_and_record
from experiments.launch.check_body import check_and_record

Body = Callable[[Any, str, Cache, Path], dict[str, float]]
"""Takes settings, the id of the MLflow run, cache and an empty folder; returns seconds by stage."""

BODIES: dict[str, Body] = {kinds.RUN: detect_and_record, kinds.CHECK: check_and_record}
