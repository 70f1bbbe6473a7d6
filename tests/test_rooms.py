"""The rooms of the library: imports run one way down, in no circle."""

from __future__ import annotations

import ast
from pathlib import Path

import bertolt

ROOT = Path(bertolt.__file__).parent
ROOMS = (
    *("base", "tokenization", "data", "checkpoint", "models", "metrics", "report", "train"),
    *("tasks", "corpus", "pretrain", "export", "serve", "commands", "cli"),
)
"""From the ground up: a room imports from itself and from those before it."""
DOORS = ("__init__", "__main__", "migrate")
"""Files that only open the house: public names, `python -m bertolt`, and one command of it."""
MOST_ENTRIES = 17


def _modules() -> dict[str, Path]:
    named = {path: path.relative_to(ROOT.parent).with_suffix("").parts for path in _sources()}
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in named.items()}


def _sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def _imports() -> dict[str, set[str]]:
    """What each module imports of the library, inside functions and for types too."""
    modules = _modules()
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                names |= {name if name in modules else node.module for name in inner}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        # The front page names every public home, for types and lazily; it is no room.
        found[module] = (
            (names & modules.keys()) - {module, "bertolt"} if module != "bertolt" else set()
        )
    return found


def _room(module: str) -> str:
    return module.split(".")[1]


def test_imports_run_down_the_rooms() -> None:
    upward = [
        f"{module} imports {other}"
        for module, others in _imports().items()
        for other in others
        if module not in ("bertolt", "bertolt.__main__", "bertolt.migrate")
        and ROOMS.index(_room(other)) > ROOMS.index(_room(module))
    ]
    assert upward == []


def test_imports_make_no_circle() -> None:
    imports = _imports()
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in sorted(imports[module]):
                visit(other, (*above, module))
            done.add(module)

    for module in imports:
        visit(module, ())


def test_every_room_is_known_and_there_are_few() -> None:
    entries = {
        path.name
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert {name.removesuffix(".py") for name in entries} == {*ROOMS, *DOORS}
    assert len(entries - {"migrate.py"}) <= MOST_ENTRIES


BY_NAME = {
    "bertolt": "public names, each imported from its home when it is asked for",
    "bertolt.data.arrow": "a library of others",
    "bertolt.models.families.base": "the registry: heads build the backbone that a config names, "
    "and a family's file is made of such heads",
}
"""Modules that import by name, which no reading of imports sees, and what."""


def test_nothing_else_is_imported_by_name() -> None:
    """Or a circle could hide there. The registry of families is one on purpose."""
    by_name, relative = set(), set()
    for module, path in _modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute | ast.Name):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                if name in ("import_module", "__import__", "find_loader", "exec_module"):
                    by_name.add(module)
            if isinstance(node, ast.ImportFrom) and node.level:
                relative.add(module)
    assert by_name == BY_NAME.keys()
    assert not relative
