"""Programs written for the peer run with `transformers` changed to `bertolt`, and print the same.

Each program of `programs/` imports from `transformers` and prints numbers. It runs twice, once as
it is and once with its import lines alone changed, in folders of small random models. All programs
of a library share a process, because its import takes longer than any of them.
"""

from __future__ import annotations

import ast
import fcntl
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.migration.cases import CASES, PROGRAMS
from tests.migration.folder import write_folder

RUNNER = Path(__file__).with_name("runner.py")
LIBRARIES = ("transformers", "bertolt")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def text_for(library: str, name: str) -> str:
    """The program as it runs with a library."""
    text = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    if library == "bertolt":
        kept = CASES[name].peers
        ours = re.sub(r"^from transformers import", "from bertolt import", text, flags=re.MULTILINE)
        for peers in kept:
            ours = ours.replace(f"    {peers},\n", "", 1)
        beside = f"from transformers import {', '.join(kept)}\nfrom bertolt import"
        return ours.replace("from bertolt import", beside, 1) if kept else ours
    for older, newer in CASES[name].today.items():
        text = text.replace(older, newer)
    return text


def _start(library: str, folder: Path) -> subprocess.Popen[bytes]:
    """Run all programs with a library, each in a folder of its own."""
    entries = []
    for name, case in CASES.items():
        place = folder / library / name
        write_folder(place)
        program = place / "program.py"
        program.write_text(text_for(library, name), encoding="utf-8")
        entries.append({"file": str(program), "folder": str(place), "words": case.words})
    asked = folder / f"{library}.list.json"
    asked.write_text(json.dumps(entries), encoding="utf-8")
    with (folder / f"{library}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(RUNNER), str(asked), str(folder / f"{library}.json")],
            stdout=log,
            stderr=log,
        )


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """What each program did, by library and name; the processes of a test run share it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if base.name.startswith("popen-") else base
    folder = base / "migration"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            for process in [_start(library, folder) for library in LIBRARIES]:
                process.wait(timeout=600)
            (folder / "done").touch()
    answers = {}
    for library in LIBRARIES:
        path = folder / f"{library}.json"
        assert path.exists(), (folder / f"{library}.log").read_text(encoding="utf-8")[-3000:]
        answers[library] = dict(zip(CASES, json.loads(path.read_text("utf-8")), strict=True))
    return answers


def differing(theirs: list[str], ours: list[str], tolerance: float) -> list[tuple[str, str]]:
    """Lines that differ in their words, their whole numbers, or by more than the tolerance."""
    longest = max(len(theirs), len(ours))
    pairs = zip(_filled(theirs, longest), _filled(ours, longest), strict=True)
    return [pair for pair in pairs if not _alike(*pair, tolerance)]


def _filled(lines: list[str], count: int) -> list[str]:
    return [*lines, *["(no such line)"] * (count - len(lines))]


def _alike(theirs: str, ours: str, tolerance: float) -> bool:
    if _NUMBER.sub("#", theirs) != _NUMBER.sub("#", ours):
        return False
    for their, our in zip(_NUMBER.findall(theirs), _NUMBER.findall(ours), strict=True):
        if their != our and ("." not in their or "." not in our):
            return False
        if abs(float(their) - float(our)) > tolerance * max(1.0, abs(float(their))):
            return False
    return True


def test_every_program_is_listed() -> None:
    assert sorted(CASES) == sorted(path.stem for path in PROGRAMS.glob("*.py"))
    assert len(CASES) >= 20
    assert [name for name, case in CASES.items() if (case.tolerance > 2e-4) != bool(case.why)] == []


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        ("loss 0.12345", "loss 0.12355", True),
        ("loss 0.12345", "loss 0.13345", False),
        ("loss 123.451", "loss 123.461", True),
        ("rate 1.0e-04", "rate 1.1e-04", True),
        ("steps 3 of 10", "steps 4 of 10", False),
        ("good 0.5", "bad 0.5", False),
        ("nan", "0.5", False),
    ],
)
def test_what_counts_as_the_same_line(theirs: str, ours: str, same: bool) -> None:
    assert differing([theirs], [ours], 2e-4) == ([] if same else [(theirs, ours)])


def test_a_line_too_few_or_too_many_is_told() -> None:
    assert differing(["a", "b"], ["a"], 1.0) == [("b", "(no such line)")]
    assert differing([], ["a"], 1.0) == [("(no such line)", "a")]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_program_prints_the_same(name: str, runs: dict[str, Any]) -> None:
    theirs, ours = runs["transformers"][name], runs["bertolt"][name]
    assert theirs["error"] is None, theirs["error"]
    assert ours["error"] is None, ours["error"]
    assert len(theirs["lines"]) >= 3
    assert differing(theirs["lines"], ours["lines"], CASES[name].tolerance) == []


@pytest.mark.parametrize("name", CASES)
def test_migrate_changes_the_imports_alone(name: str, tmp_path: Path) -> None:
    """`bertolt migrate --write` makes of it what runs here, and finds nothing else to change."""
    from bertolt.commands.migrate import migrate

    file = tmp_path / "program.py"
    file.write_text((PROGRAMS / f"{name}.py").read_text(encoding="utf-8"), encoding="utf-8")
    differences = migrate(file, write=True).differences
    assert tuple(each.name for each in differences) == CASES[name].peers
    written = ast.parse(file.read_text(encoding="utf-8"))
    assert _imports(written) == _imports(ast.parse(text_for("bertolt", name)))


def _imports(program: ast.Module) -> list[tuple[str, ...]]:
    """What is imported from where, in any order, and the rest of the program."""
    imported = [node for node in program.body if isinstance(node, ast.ImportFrom)]
    rest = [ast.dump(node) for node in program.body if node not in imported]
    names = [(node.module or "", alias.name) for node in imported for alias in node.names]
    return [*sorted(names), tuple(rest)]
