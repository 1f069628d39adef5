"""The report of a sweep, written to a folder, logged to the sweep and printed."""

import tempfile
from pathlib import Path

from backdoor.reporting.markdown import as_markdown, replace_files, write_files
from backdoor.reporting.report import build_report, summaries_of
from backdoor.reporting.sentences import FENCE, reported_note
from backdoor.tracking.connect import connect
from backdoor.tracking.pages import NOTE
from backdoor.tracking.store import Store
from experiments.launch import cli


def report(sweep: str | None, folder: Path, store: Store) -> None:
    """Write tables and figures of a sweep to `folder`, print the tables, log all to the sweep.

    Raises:
        UserError: The store has no such sweep, or none that has a complete run.
        RuntimeError: A run's artifacts are not those that were tracked.
    """
    client = connect(store)
    built = build_report(client, store, sweep, cli.one_sentence)
    with tempfile.TemporaryDirectory() as made:
        write_files(built, Path(made))
        client.log_artifacts(built.sweep, made, "report")
        replace_files(folder, Path(made))
    note = client.get_run(built.sweep).data.tags.get(NOTE, "")
    if FENCE in note:  # of a sweep, whose table stands between two
        client.set_tag(built.sweep, NOTE, reported_note(note, summaries_of(built)))
    print(as_markdown(built, figures=False))
    print(f"report: {folder.resolve()}, and in MLflow with the run {built.sweep}")
