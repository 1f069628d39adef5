"""GoodNets in MLflow's registry: on request, with an alias for the best."""

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from backdoor.tracking.record import ACCURACY, DER

BEST = "best"  # alias


def register(client: mlflow.MlflowClient, run: Run, name: str) -> str:
    """Register a run's GoodNet as a version of a model, once; return the version.

    The alias BEST goes to the version whose run is worth most. Runs that are registered at the same
    time agree on it, since each looks at all that there are once its own is.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = {version.run_id: version for version in _versions(client, name)}
    if run.info.run_id not in versions:
        source = f"models:/{run.outputs.model_outputs[0].model_id}"
        client.create_model_version(name, source, run.info.run_id)
        versions = {version.run_id: version for version in _versions(client, name)}
    best = max(versions, key=lambda run_id: worth(client.get_run(run_id)))
    client.set_registered_model_alias(name, BEST, versions[best].version)
    return str(versions[run.info.run_id].version)


def worth(run: Run) -> float:
    """Return by what runs are compared: the defence effectiveness rating, else the accuracy."""
    metrics = run.data.metrics
    return float(metrics[DER] if DER in metrics else metrics[ACCURACY])


def _versions(client: mlflow.MlflowClient, name: str) -> list[ModelVersion]:
    return list(client.search_model_versions(f"name = '{name}'"))
