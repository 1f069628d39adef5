"""The house: imports point one way, doors are light, files and functions are short."""

import ast
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("backdoor", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
# Who stands further down may be imported by who stands further up, and by its neighbours.
ROOMS = [
    ("experiments",),
    ("backdoor.reporting",),
    ("backdoor.tracking",),
    (
        "backdoor.detection",
        "backdoor.repaired",
        "backdoor.samples",
        "backdoor.verdict",
        "backdoor.remedies",
        "backdoor.screening",
    ),
    ("backdoor.attacks",),
    ("backdoor.pruning",),
    ("backdoor.networks",),
    ("backdoor.pictures",),
    ("backdoor.evaluation", "backdoor.cache", "backdoor.device"),
    (
        "backdoor.errors",
        "backdoor.versions",
        "backdoor.progress",
        "backdoor.answers",
        "backdoor.study",
    ),
    ("backdoor",),
]
# The reader of a run's numbers alone needs no TensorFlow.
WITHOUT_KERAS = (
    "backdoor.evaluation",
    "backdoor.errors",
    "backdoor.cache",
    "backdoor.device",
    "backdoor.progress",
    "backdoor.pruning.scores",
    "backdoor.pruning.oracles",
    "backdoor.pruning.orders",
    "backdoor.pruning.stop",
    "backdoor.pruning.walk",
    "backdoor.pruning.fast_walk",
    "backdoor.pictures.readers",
    "backdoor.reporting.report",
    "backdoor.reporting.markdown",
    "experiments.launch.job",
    "experiments.launch.sweep",
)
DOORS = ("run", "check", "report", "screen", "ui", "prepare", "benchmark")


def floor(module):
    for number, room in enumerate(ROOMS):
        if any(module == name or module.startswith(f"{name}.") for name in room):
            return number
    raise AssertionError(f"{module} has no room")


def imports(path):
    """Yield what a file imports, whether late or for its types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in MODULES else node.module for name in whole)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_points_against_the_arrows(module):
    for imported in imports(MODULES[module]):
        if imported.split(".")[0] in ("backdoor", "experiments"):
            assert floor(imported) >= floor(module), f"{module} imports {imported}"


def functions():
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield node.end_lineno - node.lineno + 1, f"{module}.{node.name}"


def test_functions_and_files_are_short():
    assert [entry for entry in functions() if entry[0] > 45] == []
    lines = [len(path.read_text().splitlines()) for path in MODULES.values()]
    assert statistics.median(lines) <= 120


def test_the_library_knows_no_hydra():
    for module, path in MODULES.items():
        if module.startswith("backdoor"):
            assert not {"hydra", "omegaconf"} & {name.split(".")[0] for name in imports(path)}


def test_what_reads_numbers_loads_no_keras():
    code = (
        "import importlib, sys\n"
        f"for name in {WITHOUT_KERAS}: importlib.import_module(name)\n"
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_thin_and_has_at_most_one_late_import(door):
    path = ROOT / "experiments" / f"{door}.py"
    tree = ast.parse(path.read_text())
    late = [
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert len(late) <= 1
    assert len(path.read_text().splitlines()) <= 60
    code = f"import sys, experiments.{door}; print({{'tensorflow', 'mlflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_late_imports_stand_at_doors_alone():
    late = {
        module
        for module, path in MODULES.items()
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    doors = {f"experiments.{door}" for door in DOORS} - {"experiments.prepare"}
    starts_tensorflow = {"backdoor.device", "backdoor.attacks.making", "experiments.launch.job"}
    extras = {"backdoor.networks.exports"}
    assert late == doors | starts_tensorflow | extras | {"experiments.launch.callback"}


def test_what_is_no_code_is_installed_too():
    """As seen in a wheel once: every file that a module reads is told to setuptools."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {
        file.relative_to(ROOT)
        for folder in ("backdoor", "experiments", "conf")
        for file in (ROOT / folder).rglob("*.*")
        if file.suffix in (".json", ".keras", ".yaml", ".html")
    }
    packed = {
        file.relative_to(ROOT)
        for package, patterns in told["package-data"].items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    assert there == packed


def test_no_order_is_named_outside_its_module():
    named = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in ("asc", "desc")
    }
    assert named == {"backdoor.pruning.scores", "backdoor.reporting.published"}
