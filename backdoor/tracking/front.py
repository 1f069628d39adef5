"""What of a run MLflow's pages show in columns: what a person would choose; the rest is in files.

At most MOST_METRICS metrics, curves included, and MOST_PARAMS parameters.
"""

from collections.abc import Iterable, Mapping

MOST_METRICS, MOST_PARAMS = 15, 12
PARAMS = (
    "order",
    "threshold",
    "badnet.path",
    "dataset.name",
    "attack.name",
    "network.name",
    "layer",
    "seed",
    "stop",
    "repair",
    "rank_at",
)  # and the device, once it is known
METRICS = {
    "goodnet_accuracy",
    "goodnet_attack_success_rate",
    "detection_rate",
    "false_alarm_rate",
    "channels_removed",
    "channels_total",
    "goodnet_der",
    "badnet_accuracy",
    "badnet_attack_success_rate",
    "repaired_accuracy",
    "repaired_attack_success_rate",
    "score",
}
METRICS_OF_A_REMEDY = {"goodnet_accuracy", "false_alarm_rate"}  # of six, in a check


def front_params(params: Mapping[str, object], swept: Iterable[str]) -> dict[str, object]:
    """Return the parameters to show: what the sweep varies, then the usual ones, one too few.

    Args:
        swept: Keys that the sweep varies.
    """
    keys = [key for key in dict.fromkeys((*swept, *PARAMS)) if key in params]
    return {key: params[key] for key in keys[: MOST_PARAMS - 1]}


def front_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics to show."""
    return {name: value for name, value in metrics.items() if _is_in_front(name)}


def _is_in_front(name: str) -> bool:
    remedy, _, what = name.rpartition("/")
    return what in (METRICS_OF_A_REMEDY if remedy else METRICS)
