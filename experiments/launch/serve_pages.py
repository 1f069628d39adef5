"""MLflow's pages, opened where there is something to see."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

from backdoor.errors import UserError
from backdoor.tracking.connect import connect
from backdoor.tracking.pages import is_server, pages_of, share_table, table_of
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import newest_shown, runs_of

PORTS = range(1, 65536)


def serve(sweep: str | None, store: Store, host: str, port: int) -> None:
    """Print the address of a sweep's table, and serve MLflow's pages until interrupted.

    Of a store that a server keeps only the address is printed, since that serves the pages.

    Raises:
        UserError: Nothing is tracked yet, or the port cannot be one.
    """
    if not isinstance(port, int) or port not in PORTS:
        raise UserError(f"port: expected 1 to 65535, got {port!r}")
    if store.database is not None and not store.database.exists():
        raise UserError(
            f"tracking: expected tracked runs in {store.shown}, found none; make some with make "
            f"sweep"
        )
    client = connect(store)
    name = sweep or newest_shown(client, store)
    if name is None or not runs_of(client, store, name):
        asked = f"sweep={sweep}" if sweep else "the newest sweep"
        raise UserError(f"{asked}: expected one with runs in {store.shown}, found none")
    parent = client.get_run(name)
    share_table(client, parent)
    there = pages_of(store) if is_server(store) else f"http://{host}:{port}"
    print(f"runs of {parent.info.run_name}: {there}{table_of(parent)}", flush=True)
    if is_server(store):
        return
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.address]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    with subprocess.Popen(command, env=environment, start_new_session=True) as server:
        try:
            code = server.wait()
        finally:  # it has processes of its own
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
    if code:
        raise RuntimeError(f"expected MLflow to serve its pages, it ended with code {code}")
