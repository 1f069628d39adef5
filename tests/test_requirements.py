"""requirements.txt holds the tested versions, each with hashes, and names no registry."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKED = (ROOT / "requirements.txt").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_locked_versions_are_those_that_were_tested_together():
    tested = {normal(name): version for name, version in PIN.findall(CONSTRAINTS)}
    locked = {normal(name): version for name, version in PIN.findall(LOCKED)}
    assert {name: tested.get(name, version) for name, version in locked.items()} == locked
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {normal(re.match(r"[\w.-]+", item)[0]) for item in project["dependencies"]}
    assert wanted <= set(locked)


def test_each_has_hashes_and_nothing_says_where_it_was_found():
    entries = re.split(r"\n(?=\S)", LOCKED.strip())
    assert len(entries) == len(PIN.findall(LOCKED)) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert not re.search(r"https?:|index-url|find-links", LOCKED)
