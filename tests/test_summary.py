"""What the sentences of a report say, by runs whose figures are written down."""

from test_comparison import record_of

from backdoor.reporting.row import row_of
from backdoor.reporting.summary import summary

NETWORK = (
    "The network is right on 100.0 % of 40 clean pictures, and gives 100.0 % of 40 pictures with "
    "the trigger the attacker's class."
)


def rows(*cells):
    """Rows of runs: order, threshold, clean pictures B' gets wrong, attacks that it misses."""
    return [row_of(record_of(*cell)) for cell in cells]


def test_the_best_threshold_of_an_order_that_works_is_told_with_its_intervals():
    told = summary(rows(("asc", 2, 2, 10), ("asc", 10, 20, 10)))
    assert told == [
        NETWORK,
        "asc at 2 points detects 75.0 % (59.8 to 85.8) of the attacks and raises false alarms on "
        "5.0 % (1.4 to 16.5) of clean pictures; 25.0 % (14.2 to 40.2) of the attacks still "
        "succeed.",
        "Of each order the threshold is told that does best on these same pictures, by DER.",
    ]


def test_one_point_is_no_points():
    assert summary(rows(("asc", 1, 2, 10)))[1].startswith("asc at 1 point detects 75.0 %")
    assert summary(rows(("asc", 0.5, 2, 10)))[1].startswith("asc at 0.5 points detects 75.0 %")
    told = summary(rows(("asc", 2, 2, 10), ("desc", 1, 20, 40)))
    assert told[2].startswith("desc does not work: at 1 point it detects 0.0 %")


def test_an_order_that_flags_clean_pictures_as_often_does_not_work():
    told = summary(rows(("asc", 2, 2, 10), ("desc", 4, 20, 40)))
    assert told[2:] == [
        "desc does not work: at 4 points it detects 0.0 % (0.0 to 8.8) of the attacks and raises "
        "false alarms on 50.0 % (35.2 to 64.8) of clean pictures."
    ]


def test_a_gain_within_what_chance_makes_is_none():
    """30 % against 10 %, of 40 each: the intervals overlap."""
    told = summary(rows(("asc", 2, 4, 28)))
    assert told[1].startswith("asc does not work: at 2 points it detects 30.0 %")


def test_of_many_orders_the_best_three_are_told_and_oracles_are_called_so():
    told = summary(
        rows(
            ("oracle_tac", 2, 0, 0),
            ("l1", 2, 0, 4),
            ("asc", 2, 0, 8),
            ("max", 2, 0, 2),
            ("random", 2, 0, 12),
            ("desc", 2, 20, 40),
            ("slimming", 2, 10, 40),
        )
    )
    assert [line.split(" at ")[0] for line in told[1:4]] == ["max", "l1", "asc"]
    assert told[4:6] == ["Next come random.", "These do not work: slimming, desc."]
    assert told[6].startswith("The best oracle: oracle_tac (oracle) at 2 points detects 100.0 %")
    assert len(told) == 7


def test_an_attack_that_mostly_succeeds_still_is_no_success():
    """Of 40 pictures 22 still get the attacker's class, where all did; there is no false alarm."""
    told = summary(rows(("asc", 2, 0, 22)))
    assert told[1].startswith("asc does not work: at 2 points it detects 45.0 %")


def test_without_poisoned_pictures_nothing_is_said_of_attacks():
    records = [record_of("asc", 4, 2, 10)]
    metrics = records[0].run.data.metrics
    for name in [name for name in metrics if "attack" in name or "detect" in name]:
        del metrics[name]
    told = summary([row_of(record) for record in records])
    assert told == [
        "The network is right on 100.0 % of 40 clean pictures; without poisoned pictures nothing "
        "is known of attacks.",
        "asc at 4 points leaves G right on 95.0 % (83.5 to 98.6) of clean pictures, with false "
        "alarms on 5.0 % (1.4 to 16.5).",
    ]


def test_of_runs_that_are_missing_nothing_is_said():
    assert summary([]) == []
