"""Many networks in one table, and the parts of an attack."""

from test_comparison import record_of

from backdoor.reporting.combinations import Combination
from backdoor.reporting.parts import parts_table
from backdoor.reporting.seeds import seeds_table
from backdoor.reporting.zoo import zoo_table


def combined(title, network, **orders):
    """The runs of one network: by order, how many pictures are wrong and attacks missed."""
    records = {(order, 4.0): record_of(order, 4, *counts) for order, counts in orders.items()}
    for record in records.values():
        record.run.data.tags["network.sha256"] = network
    return Combination(title, records, [], [])


def test_an_attack_is_a_line_that_holds_the_means_of_its_networks():
    table = zoo_table(
        [
            combined("dataset=faces, attack=patch, attack.seed=0", "a", asc=(2, 10), l1=(4, 40)),
            combined("dataset=faces, attack=patch, attack.seed=1", "b", asc=(6, 20)),
            combined("dataset=faces, attack=blend, attack.seed=0", "c", asc=(0, 0)),
            combined("dataset=mnist, attack=patch, attack.seed=0", ""),
        ]
    )
    patch, blend, failed = table.lines
    assert patch["runs of"] == "dataset=faces, attack=patch"
    assert patch["networks"] == "2"
    assert (patch["accuracy %"], patch["ASR %"]) == ("100.0", "100.0")
    # G keeps the attacks that B' misses not: of 40 pictures 10 and 20 are still the target.
    assert patch["asc 4 %"] == "90.0 / 37.5 / 62.5 / 10.0"
    assert patch["l1 4 %"] == "90.0 / 100.0 / 0.0 / 10.0"
    assert blend["l1 4 %"] == "- / - / - / -"
    assert (failed["networks"], failed["accuracy %"]) == ("0", "-")


def test_a_clean_control_has_no_attack_success():
    control = combined("attack=none", "a", asc=(2, 10))
    for record in control.records.values():
        for name in [name for name in record.run.data.metrics if "attack" in name]:
            del record.run.data.metrics[name]
        del record.run.data.metrics["detection_rate"]
    table = zoo_table([control, combined("attack=patch", "b", asc=(2, 10))])
    assert table.lines[0]["asc 4 %"] == "95.0 / - / - / 5.0"


def test_one_network_or_one_attack_over_seeds_needs_no_such_table():
    assert zoo_table([combined("", "a", asc=(2, 10))]) is None
    seeds = [combined(f"attack.seed={n}", f"{n}", asc=(2, 10)) for n in range(2)]
    assert zoo_table(seeds) is None


def test_parts_of_an_attack_are_lines_of_their_own():
    record = record_of("asc", 4, 2, 10)
    assert parts_table([(("asc", 4.0), record)]) is None
    rate = "{}_attack_success_rate/target {}"
    record.metrics.update(
        {
            rate.format(network, target): value
            for target in (1, 2)
            for network, value in {"badnet": 1.0, "pruned": 0.5, "goodnet": 0.25}.items()
        }
    )
    table = parts_table([(("asc", 4.0), record)])
    assert [line["poisoned pictures of"] for line in table.lines] == ["target 1", "target 2"]
    assert [table.lines[0][f"ASR % of {name}"] for name in ("B", "B'", "G")] == [
        "100.0",
        "50.0",
        "25.0",
    ]


def test_runs_that_differ_in_the_seed_alone_are_not_told_what_they_are_of():
    pair = [combined(f"seed={seed}", "a", asc=(2, 10)) for seed in (0, 1)]
    (line,) = seeds_table(pair).lines
    assert list(line)[:3] == ["order", "threshold", "seeds"]
    pair = [combined(f"seed={seed}, attack=patch", "a", asc=(2, 10)) for seed in (0, 1)]
    (line,) = seeds_table(pair).lines
    assert line["runs of"] == "attack=patch"
