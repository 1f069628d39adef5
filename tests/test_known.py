"""What is said of checks of networks of which it is known what they are."""

from types import SimpleNamespace

from backdoor.reporting.known import as_known


def run(answer, attack, target="0", rate=1.0, suspect=None):
    tags = {"verdict.answer": answer}
    if suspect is not None:
        tags["suspect.class"] = suspect
    params = {"attack.name": attack, "attack.target": target} if attack else {}
    metrics = {"badnet_attack_success_rate": rate} if attack not in (None, "none") else {}
    data = SimpleNamespace(tags=tags)
    return SimpleNamespace(run=SimpleNamespace(data=data), params=params, metrics=metrics)


def test_each_kind_of_network_is_counted_by_itself():
    runs = [
        run("NO BACKDOOR FOUND", "none"),
        run("UNDECIDED", "none"),
        run("BACKDOORED", "none", suspect="3"),
        run("BACKDOORED", "patch", target="2", suspect="2"),
        run("BACKDOORED", "patch", target="2", suspect="1"),
        run("UNDECIDED", "blend", suspect="0"),
        run("NO BACKDOOR FOUND", "blend", rate=0.79),  # hardly an attack
        run("BACKDOORED", "all_to_all", target="all_to_all", rate=0.9),
        run("BACKDOORED", None, suspect="5"),  # a file, of which nothing is known
    ]
    told = as_known(runs)
    assert told == [
        "networks without a backdoor: 1 of 3 (6 to 79 %) called BACKDOORED, 1 UNDECIDED",
        "networks with a backdoor towards one class: 2 of 3 (21 to 94 %) called BACKDOORED, "
        "1 UNDECIDED",
        "networks with one from every class to the next: 1 of 1 (21 to 100 %) called BACKDOORED, "
        "0 UNDECIDED",
        "of those towards one class 1 of 2 (9 to 91 %) name it first",
    ]


def test_of_files_alone_nothing_is_said():
    assert as_known([run("BACKDOORED", None, suspect="5")]) == []


def test_pictures_of_the_target_do_not_count_as_success():
    attacked = run("BACKDOORED", "patch", rate=0.85, suspect="0")
    attacked.metrics["badnet_attack_success_rate_without_target"] = 0.75
    assert as_known([attacked]) == []
