"""`make mutants`: would the suite notice one wrong edit?

Cosmic Ray makes the edits, as tests/mutants.toml says. Of each, the tests that run the edited line
decide, the quickest first, in a child of a process that has TensorFlow and MLflow loaded: seconds
where a suite takes minutes. Tests that start commands of their own are not asked.

    python tests/mutants.py run FOLDER              all of it; goes on where it was left
    python tests/mutants.py serve COVERAGE JUNIT SECONDS    answer, until killed
    python tests/mutants.py ask                     Cosmic Ray's test command, in a worker's clone
    python tests/mutants.py report SESSION...       rates and survivors, as Markdown
"""

import ast
import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from xml.etree import ElementTree

CONFIG = "tests/mutants.toml"
OWN_COMMANDS = [
    "benchmark",
    "check",
    "default",
    "ending",
    "interrupted",
    "load",
    "notebook",
    "scale",
    "sweep",
]
SECONDS_TO_START = 30  # for server and workers
SOCKET = "/tmp/mutants.socket"
PLUGINS = ("-p", "no:cacheprovider", "-p", "no:unraisableexception")
LOADED = "keras matplotlib.figure mlflow.pyfunc pandas pydantic scipy.stats"
MOST_SECONDS = (20, 120)  # of tests for an edit, and once more for one that nothing noticed
DIGESTS = "tests/test_versions.py"  # which notice every edit, and say nothing of numbers
NOTICED = (1, 2, 4)  # pytest's exit codes: a test failed, or its module could not be imported
# Edits that change no number and no word of a result, so that no test could see them; by why.
LEFT_OUT = {
    "marks and types": r"^@(dataclass|version|functools|cached_property|property)|TYPE_CHECKING",
    "speed or memory alone": (
        r"^(BLOCK|LARGE_FILE|PART|BATCH|SAMPLE|(LARGE|LONG)_CHUNK|LARGEST_SPREAD)\b.* = "
        r"|^MOST = 0\.8|^(rounds|size|most|rows) = .*(BATCH|alike|changed)|threadpool_limits"
        r"|^for _ in range\(4\)|lexsort|^(some|leading) = .*(SAMPLE|COMPONENTS)|^alike = "
    ),
    "the same by another word": (
        r"reshape\(.*- 2[,)]|axis=\+1|shape\[\+1\]|strict=False|call\.inputs\[ -1\]"
        r"|\[: 2\]\)\.argmax"
    ),
    "which random activations are tried": r"rng\.(random|normal)\(.*shape|^TRIED|^rng = ",
    "dots per inch": "dpi=",
}
HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? ", re.MULTILINE)

Ran = Mapping[str, Mapping[int, set[str]]]
"""The tests that run each line of each file."""


def run(folder: str) -> None:
    """Find out which test runs which line, make all edits, print the report."""
    place = Path(folder).resolve()
    place.mkdir(exist_ok=True)
    covered, times, session = place / "coverage", place / "junit.xml", place / "session.sqlite"
    if not covered.exists():
        options = ["--cov=backdoor", "--cov-context=test", "--cov-report=", f"--junitxml={times}"]
        options += [f"--ignore=tests/test_{name}.py" for name in OWN_COMMANDS]
        environment = os.environ | {"COVERAGE_FILE": str(covered)}
        command = [sys.executable, "-m", "pytest", "-n", "auto", "--dist", "loadfile", *options]
        subprocess.run(command, env=environment, check=True)
    if not session.exists():
        subprocess.run(["cosmic-ray", "init", CONFIG, session], check=True)
        subprocess.run(["cr-filter-operators", session, CONFIG], check=True)
    for number, seconds in enumerate(MOST_SECONDS):
        if number:
            forget_survivors(session)
        make_edits(session, covered, times, seconds)
    report(str(session))


def make_edits(session: Path, covered: Path, times: Path, seconds: int) -> None:
    """Make the edits that have no result yet."""
    Path(SOCKET).unlink(missing_ok=True)
    server = subprocess.Popen([sys.executable, __file__, "serve", covered, times, str(seconds)])
    workers = subprocess.Popen(["cr-http-workers", CONFIG, "."], start_new_session=True)
    try:
        time.sleep(SECONDS_TO_START)
        subprocess.run(["cosmic-ray", "baseline", CONFIG], check=True)
        subprocess.run(["cosmic-ray", "exec", CONFIG, session], check=True)
    finally:
        server.kill()
        os.killpg(workers.pid, signal.SIGTERM)


def forget_survivors(session: Path) -> None:
    with closing(sqlite3.connect(session)) as file, file:
        file.execute("DELETE FROM work_results WHERE test_outcome = 'SURVIVED'")


def ask() -> int:
    """Return pytest's exit code for the edit in this folder; 1 where its time was up."""
    with Client(SOCKET) as server:
        server.send(str(Path.cwd()))
        try:
            code, output = server.recv()
        except EOFError:
            code, output = 1, "out of time"
    print(output)
    return int(code in NOTICED)


def serve(coverage_file: str, junit_file: str, most: str) -> None:
    ran, seconds = ran_by(coverage_file), seconds_of(junit_file)
    for name in LOADED.split():
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that end are not waited for
    with Listener(SOCKET) as listener:
        while True:
            with listener.accept() as client:
                folder = Path(client.recv())
                if os.fork() == 0:
                    try:
                        answer(client, folder, ran, seconds, int(most))
                    finally:
                        os._exit(1)  # as where the edit cannot be parsed


def answer(
    client: Connection, folder: Path, ran: Ran, seconds: Mapping[str, float], most: int
) -> None:
    """Send pytest's exit code and output, and end this process."""
    import pytest

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    tests, together = quickest(tests_of(folder, ran, set(seconds)), seconds, most)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(60 + int(5 * together))
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what is loaded is refused as plugin
    with tempfile.TemporaryFile("w+") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        code = pytest.main(["-x", "-q", *PLUGINS, "--tb=line", *tests]) if tests else 0
        sys.stdout.flush()
        output.seek(0)
        client.send((int(code), f"{len(tests)} tests\n{output.read()[-2000:]}"))
    os._exit(0)


def quickest(tests: set[str], seconds: Mapping[str, float], most: int) -> tuple[list[str], float]:
    """Return the quickest tests first, as far as the time for one edit goes, and their seconds.

    What the tests of a file share is made by its first one, so no test counts as quicker than the
    slowest of those before it.
    """
    slowest: dict[str, float] = {}
    with_shared = {}
    for test, own in seconds.items():
        file = test.partition("::")[0]
        with_shared[test] = slowest[file] = max(own, slowest.get(file, 0))
    shared: dict[str, float] = {}
    chosen, together = [], 0.0
    for test in sorted(tests, key=lambda test: with_shared.get(test, 0)):
        file, cost = test.partition("::")[0], with_shared.get(test, 0)
        more = max(seconds.get(test, 0), cost - shared.get(file, 0))
        if together + more < most:
            shared[file] = max(shared.get(file, 0), cost)
            together += more
            chosen.append(test)
    return chosen, together


def ran_by(coverage_file: str) -> Ran:
    import coverage

    data = coverage.CoverageData(coverage_file)
    data.read()
    ran = {}
    for file in data.measured_files():
        by_line = data.contexts_by_lineno(file).items()
        tests = {line: {each.rpartition("|")[0] for each in those} for line, those in by_line}
        ran[str(Path(file).relative_to(Path.cwd()))] = tests
    return ran


def seconds_of(junit_file: str) -> dict[str, float]:
    return {
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}": float(
            case.get("time", 0)
        )
        for case in ElementTree.parse(junit_file).iter("testcase")
    }


def tests_of(folder: Path, ran: Ran, every: set[str]) -> set[str]:
    """Return the tests that run what was edited in a folder; all for the baseline.

    Of what runs when a module is imported, as a constant, all that have to do with the module.
    """
    command = ["git", "-C", str(folder), "diff", "-U0"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    tests = set() if shown else every
    for diff in shown.split("diff --git ")[1:]:
        module = diff.split()[0].removeprefix("a/")
        by_line = ran[module]
        within = lines_of_functions(folder / module)
        for first, count in HUNK.findall(diff):
            for edited in range(int(first), int(first) + int(count or 1)):
                # Within a statement, a line may have no code of its own.
                line = max((line for line in by_line if line <= edited), default=0)
                tests |= by_line.get(line, set())
                if edited not in within:
                    tests |= set().union(*by_line.values()) | _importing(module, every)
        tests -= {""}  # what runs when a module is imported by no test
    return {test for test in tests if not test.startswith(DIGESTS)}


def lines_of_functions(path: Path) -> set[int]:
    """Return the lines of functions' bodies; the others run once, as the module is imported."""
    nodes = ast.walk(ast.parse(path.read_text()))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    bodies = [range(node.body[0].lineno, node.end_lineno + 1) for node in functions]
    return set(itertools.chain(*bodies))


def _importing(module: str, every: set[str]) -> set[str]:
    """Return the tests of files that name a module, which may look at its constants alone."""
    name = module.removesuffix(".py").replace("/", ".").rpartition(".")[2]
    files = {test.partition("::")[0] for test in every}
    near = {file for file in files if name in Path(file).read_text()}
    return {test for test in every if test.partition("::")[0] in near}


def report(*sessions: str) -> None:
    dumped = "".join(
        subprocess.run(
            ["cosmic-ray", "dump", session], capture_output=True, text=True, check=True
        ).stdout
        for session in sessions
    )
    edits: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    late = 0
    survivors: dict[str, list[str]] = defaultdict(list)
    for item, result in map(json.loads, dumped.splitlines()):
        if result is None or result["worker_outcome"] == "skipped":
            continue
        edit = item["mutations"][0]
        module, line = edit["module_path"], edit["start_pos"][0]
        diff = result["diff"].splitlines()[3:]  # without the names of the files
        changed = [text[1:].strip() for text in diff if text[:1] in ("+", "-")]
        shown = [text for text in changed if text]
        why = next(
            (w for w, kind in LEFT_OUT.items() if re.search(kind, "\n".join(shown), re.M)), ""
        )
        if why:
            left_out[why] += 1
            continue
        edits[module] += 1
        late += "out of time" in (result["output"] or "")
        if result["test_outcome"] == "survived":
            survivors[module].append(f"- {line}: `{'` → `'.join(shown)}`")
    print("| module | edits | noticed |\n|---|---|---|")
    for module in sorted(edits):
        print(f"| {module} | {edits[module]} | {edits[module] - len(survivors[module])} |")
    every, missed = edits.total(), sum(map(len, survivors.values()))
    print(f"| of the noticed out of time | | {late} |")
    print(f"| all | {every} | {every - missed}, {1 - missed / every:.1%} |")
    for why, count in left_out.items():
        print(f"| left out: {why} | {count} | |")
    for module, lines in sorted(survivors.items()):
        print("\n".join([f"\n## {module}\n", *lines]) if lines else "", end="\n")


if __name__ == "__main__":
    sys.exit({"run": run, "ask": ask, "serve": serve, "report": report}[sys.argv[1]](*sys.argv[2:]))
