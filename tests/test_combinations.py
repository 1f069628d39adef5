"""What may stand in one table, by runs written straight into a store."""

import itertools
import json
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

import backdoor.tracking.connect
from backdoor.reporting.combinations import SAME_TAGS, _identity, combinations, varied
from backdoor.reporting.report import rows_of
from backdoor.reporting.terminal import check_line, checks_table, run_line, runs_table
from backdoor.tracking.connect import connect
from backdoor.tracking.kinds import CHECK, CHECKS
from backdoor.tracking.record import Record
from backdoor.tracking.runs import tracked_run
from backdoor.tracking.store import Store
from backdoor.tracking.sweeps import join_sweep, newest_sweep, runs_of, start_sweep

RATES = {
    "goodnet_accuracy": 0.12345,
    "goodnet_attack_success_rate": 0.23456,
    "detection_rate": 0.34567,
    "false_alarm_rate": 0.45678,
}
METRICS = ("goodnet_accuracy", "goodnet_attack_success_rate", "detection_rate", "false_alarm_rate")


@pytest.fixture
def store(tmp_path):
    return Store(None, str(tmp_path), "backdoor")


class Sweep:
    """A sweep of orders, thresholds and further axes whose runs are made one by one."""

    def __init__(self, store, **axes):
        self.store, self.client = store, connect(store)
        self.alive = Path(store.folder) / "running"
        runs = len(list(itertools.product(*axes.values())))
        self.id = start_sweep(
            store, "a sweep", {k.replace("__", "."): v for k, v in axes.items()}, runs
        )

    def run(self, order, threshold, fails=False, network="n1", position=1, rate=0.5, **params):
        plain = {"order": order, "threshold": threshold, "seed": 0, "device_name": "CPU"}
        plain |= {"dataset.target": 0, "dataset.divide_by": 1}
        plain |= {key.replace("__", "."): value for key, value in params.items()}
        try:
            where = (self.alive, self.id, position)
            with tracked_run(f"{order}-{threshold}", plain, *where) as run_id:
                if fails:
                    raise ValueError("no such thing")
                for name in METRICS if rate is not None else (METRICS[0], METRICS[3]):
                    given = RATES[name] if rate == "distinct" else 0.5 if rate is None else rate
                    self.client.log_metric(run_id, name, given)
                for name in ("channels_removed", "channels_total", "seconds/total"):
                    self.client.log_metric(run_id, name, 6)
                for name in SAME_TAGS:
                    self.client.set_tag(run_id, name, network)
                for name in ("clean_test", "poisoned_test"):
                    self.client.set_tag(run_id, f"data.{name}.pictures", "10")
                return run_id
        except ValueError:
            return ""

    @property
    def table(self):
        """Columns, and the cells of each line, of what the terminal shows."""
        runs = runs_of(self.client, self.store, self.id)
        shown = runs_table(self.client, self.client.get_run(self.id), runs).splitlines()
        return [re.split(r"\s{2,}", line.strip()) for line in shown if "--" not in line]

    @property
    def combinations(self):
        runs = runs_of(self.client, self.store, self.id)
        return combinations(self.client, self.client.get_run(self.id), runs)


def test_what_failed_and_what_never_started_is_missing(store):
    sweep = Sweep(store, order=["asc", "desc"], threshold=["2", "4"])
    sweep.run("asc", 2)
    sweep.run("asc", 4, fails=True)
    (found,) = sweep.combinations
    assert set(found.records) == {("asc", 2)}
    assert found.missing == [("asc", 4), ("desc", 2), ("desc", 4)]
    assert [row.run != "" for row in rows_of(found, "asc")] == [True, False]
    assert found.title == ""


def test_what_left_no_trace_has_a_line_all_the_same(store):
    """As of a run that found the database locked for too long."""
    sweep = Sweep(store, order=["asc", "desc"], threshold=["2", "4"])
    sweep.run("asc", 2)
    runs = runs_of(sweep.client, store, sweep.id)
    lines = runs_table(sweep.client, sweep.client.get_run(sweep.id), runs).splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "asc-2",
        "order=asc threshold=4",
        "order=desc threshold=2",
        "order=desc threshold=4",
    ]
    assert all("NOT TRACKED" in line for line in lines[3:])


def test_a_run_that_failed_hides_none_of_those_after_it(store):
    sweep = Sweep(store, order=["asc"], threshold=["2", "4"])
    sweep.run("asc", 2, fails=True)
    sweep.run("asc", 4, position=2)
    (found,) = sweep.combinations
    assert set(found.records) == {("asc", 4)}
    assert found.missing == [("asc", 2)]


def test_a_threshold_that_is_no_number_is_missing_nowhere(store):
    sweep = Sweep(store, order=["asc"], threshold=["two", "4"])
    sweep.run("asc", 4)
    (found,) = sweep.combinations
    assert found.missing == []


def test_the_terminal_shows_rates_of_attacks_where_there_are_any(store):
    sweep = Sweep(store, order=["asc"], threshold=["2", "4"])
    done = sweep.run("asc", 2, rate="distinct")
    columns, line, _ = sweep.table
    assert columns[2:6] == ["accuracy %", "ASR %", "detected %", "false alarms %"]
    assert line == ["asc-2", "FINISHED", "12.35", "23.46", "34.57", "45.68", "6/6", done]


def test_the_terminal_has_no_columns_for_attacks_without_poisoned_pictures(store):
    sweep = Sweep(store, order=["asc"], threshold=["2", "4"])
    done = sweep.run("asc", 2, rate=None)
    columns, line, _ = sweep.table
    assert not {"ASR %", "detected %"} & set(columns)
    assert line == ["asc-2", "FINISHED", "50.00", "50.00", "6/6", done]


def test_the_terminal_has_them_where_nothing_is_known(store):
    sweep = Sweep(store, order=["asc"], threshold=["2"])
    sweep.run("asc", 2, fails=True)
    assert {"ASR %", "detected %"} <= set(sweep.table[0])
    assert sweep.table[1][:2] == ["asc-2", "FAILED"]


def test_the_terminal_tells_runs_of_earlier_sweeps_and_incomplete_ones(store):
    first, sweep = (Sweep(store, order=["asc"], threshold=["2", "4"]) for _ in range(2))
    earlier, lost = first.run("asc", 2), sweep.run("asc", 4, position=2)
    join_sweep(sweep.client, earlier, sweep.id, 1)
    sweep.client.set_tag(lost, "complete", "false")
    assert [line[:2] for line in sweep.table[1:]] == [["asc-2", "EARLIER"], ["asc-4", "INCOMPLETE"]]
    assert sweep.table[1][-1] == earlier
    assert run_line(sweep.client, sweep.client.get_run(lost)) == "asc-4 failed: "


def test_of_two_runs_of_one_setting_the_newest_counts_and_the_other_is_named(store):
    sweep = Sweep(store, order=["asc"], threshold=["2"])
    old, new = sweep.run("asc", 2), sweep.run("asc", 2)
    (found,) = sweep.combinations
    assert found.records["asc", 2].run.info.run_id == new
    assert [run.info.run_id for run in found.superseded] == [old]


def test_runs_of_another_network_or_seed_never_share_a_table(store):
    sweep = Sweep(store, order=["asc"], threshold=["2", "4"])
    sweep.run("asc", 2)
    sweep.run("asc", 4, network="n2")
    sweep.run("asc", 4, seed=1)
    assert [set(each.records) for each in sweep.combinations] == [{("asc", t)} for t in (2, 4, 4)]
    assert not any(each.superseded for each in sweep.combinations)


IDENTITY = [
    "network.sha256",
    "network.layer",
    "data.scale",
    *(f"data.{name}.sha256" for name in ("clean_valid", "clean_test")),
    *(f"data.{name}.sha256" for name in ("poisoned_valid", "poisoned_test")),
]


def test_one_thing_that_differs_is_enough_for_a_table_of_its_own(store):
    """Network, layer, scale, each set, target, divisor, seed."""
    sweep = Sweep(store, order=["asc"], threshold=["2"])
    run = sweep.client.get_run(sweep.run("asc", 2))

    def identity(tag=None, **params):
        record = Record(sweep.client, run)
        tags = dict.fromkeys(IDENTITY, "same") | ({tag: "other"} if tag else {})
        vars(record)["params"] = record.params | params
        other = SimpleNamespace(data=SimpleNamespace(tags=tags, params=run.data.params))
        object.__setattr__(record, "run", other)
        return _identity(record)

    others = [identity(tag) for tag in IDENTITY]
    others += [identity(**{key: "7"}) for key in ("seed", "dataset.target", "dataset.divide_by")]
    assert len({identity(), *others}) == 1 + len(others)
    assert identity(order="max", threshold="4") == identity()


def test_other_axes_title_their_tables_and_what_is_all_missing_has_one(store):
    sweep = Sweep(store, threshold=["2"], badnet__path=["a.keras", "b.keras"])
    sweep.run("asc", 2, badnet__path="a.keras")
    sweep.run("asc", 2, badnet__path="b.keras", fails=True)
    first, second = sweep.combinations
    assert (first.title, second.title) == ("badnet.path=a.keras", "badnet.path=b.keras")
    assert not second.records
    assert second.missing == [("asc", 2)]


def test_the_table_at_the_end_names_axes_and_reasons(store):
    sweep = Sweep(store, threshold=["2"], badnet__path=["a.keras", "b.keras"])
    done = sweep.run("asc", 2, badnet__path="a.keras")
    sweep.run("asc", 2, badnet__path="b.keras", fails=True)
    parent = sweep.client.get_run(sweep.id)
    table = runs_table(sweep.client, parent, runs_of(sweep.client, store, sweep.id)).splitlines()
    assert "badnet.path" in table[0]
    assert done in next(line for line in table if "a.keras" in line)
    failed = next(line for line in table if "b.keras" in line)
    assert "FAILED" in failed
    assert "no such thing" in failed


def test_the_newest_sweep_is_one_with_complete_runs_and_comes_before_single_runs(store, tmp_path):
    client = connect(store)
    assert newest_sweep(client, store) is None
    with tracked_run("alone", {}, tmp_path / "running") as alone:
        pass
    assert newest_sweep(client, store) == alone
    first = Sweep(store, threshold=["2"])
    first.run("asc", 2)
    Sweep(store, threshold=["2"]).run("asc", 2, fails=True)
    with tracked_run("alone", {}, tmp_path / "running"):
        pass
    assert newest_sweep(client, store) == first.id


class Checks:
    """Checks of networks, run one by one."""

    def __init__(self, store):
        self.store, self.client = store, connect(store)
        self.id = start_sweep(store, "checks", {"badnet.path": ["a", "b"]}, 2, kind=CHECKS)

    def check(self, name, position, answer="", attack=None, fails=False, **tags):
        where = (Path(self.store.folder) / "running", self.id, position)
        params = {"badnet.path": name}
        try:
            with tracked_run(f"check {name}", params, *where, kind=CHECK) as run_id:
                if fails:
                    raise ValueError("no such thing")
                self.client.log_metric(run_id, "seconds/total", 12.34)
                self.client.log_metric(run_id, "score", 5.67)
                if attack is not None:
                    self.client.log_metric(run_id, "badnet_attack_success_rate", attack)
                for tag, value in ({"verdict.answer": answer} | tags).items():
                    self.client.set_tag(run_id, tag, value)
        except ValueError:
            pass
        return self.client.search_runs(["1"], order_by=["attributes.start_time DESC"])[0]

    @property
    def table(self):
        runs = runs_of(self.client, self.store, self.id)
        shown = checks_table(self.client, self.client.get_run(self.id), runs).splitlines()
        return [re.split(r"\s{2,}", line.strip()) for line in shown if "--" not in line]


def test_checks_are_shown_with_answer_class_and_score(store):
    checks = Checks(store)
    accused = checks.check("b.keras", 2, "BACKDOORED", **{"suspect.class": "7"})
    clean = checks.check("a.keras", 1, "NO BACKDOOR FOUND")
    assert check_line(checks.client, accused) == "check b.keras  BACKDOORED, class 7  12.3 s"
    assert check_line(checks.client, clean) == "check a.keras  NO BACKDOOR FOUND  12.3 s"
    assert checks.table == [
        ["network", "answer", "class", "score", "id or reason"],
        ["a.keras", "NO BACKDOOR FOUND", "5.7", clean.info.run_id],
        ["b.keras", "BACKDOORED", "7", "5.7", accused.info.run_id],
    ]


def test_of_checks_an_attack_that_is_known_is_shown_and_a_failure_with_its_reason(store):
    checks = Checks(store)
    accused = checks.check("a.keras", 1, "BACKDOORED", 0.987, **{"suspect.class": "7"})
    failed = checks.check("b.keras", 2, fails=True)
    assert check_line(checks.client, failed) == "check b.keras failed: no such thing"
    assert checks.table == [
        ["network", "ASR %", "answer", "class", "score", "id or reason"],
        ["a.keras", "98.7", "BACKDOORED", "7", "5.7", accused.info.run_id],
        ["b.keras", "FAILED", "no such thing"],
    ]


def test_a_locked_database_is_waited_for_as_long_as_we_say(store, monkeypatch):
    """MLflow's own bound is 20 s, however long is left."""
    sweep = Sweep(store, order=["asc"])
    waited = []
    monkeypatch.setattr(backdoor.tracking.connect, "SECONDS_TO_WAIT", 0.2)
    with closing(sqlite3.connect(store.database)) as file:
        file.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        with pytest.raises(mlflow.MlflowException, match="database is locked"):
            sweep.client.set_tag(sweep.id, "a", "b")
        waited.append(time.monotonic() - begun)
    assert waited[0] < 15
    sweep.client.set_tag(sweep.id, "a", "b")


def test_an_interrupted_run_is_killed_and_says_so(store, tmp_path):
    client = connect(store)
    with (
        pytest.raises(KeyboardInterrupt),
        tracked_run("stopped", {}, tmp_path / "running") as run_id,
    ):
        raise KeyboardInterrupt
    assert client.get_run(run_id).info.status == "KILLED"
    assert client.get_run(run_id).data.tags["error"] == "KeyboardInterrupt"


def test_what_was_asked_for_stands_in_a_tag_and_not_in_a_file(store):
    sweep = Sweep(store, order=["asc"], threshold=["2", "4"])
    tags = sweep.client.get_run(sweep.id).data.tags
    assert json.loads(tags["axes"]) == {"order": ["asc"], "threshold": ["2", "4"]}


def test_a_run_that_is_taken_over_is_told_apart_by_what_the_later_sweep_varies(store):
    """It was made alone, when nobody knew what would be varied."""
    sweep = Sweep(store, order=["asc"], network__augment=["false", "true"])
    alone = {"order": "asc", "threshold": 2, "network.augment": False, "dataset.target": 0}
    alone |= {"seed": 0, "dataset.divide_by": 1}
    with tracked_run("asc-2", alone, sweep.alive) as run_id:
        assert "network.augment" not in sweep.client.get_run(run_id).data.params
    join_sweep(sweep.client, run_id, sweep.id, 1)
    record = Record(sweep.client, sweep.client.get_run(run_id))
    assert varied(sweep.client.get_run(sweep.id), record) == {"network.augment": "False"}
    assert record.params["seed"] == "0"


@pytest.mark.parametrize("swept", [{"order": ["asc", "desc"]}, {"threshold": ["2", "4"]}])
def test_what_is_not_swept_is_what_the_runs_have(store, swept):
    sweep = Sweep(store, **swept)
    sweep.run("asc", 2)
    (found,) = sweep.combinations
    assert set(found.records) == {("asc", 2)}
    assert found.missing == [("desc", 2) if "order" in swept else ("asc", 4)]
