"""A program as it is written: what it imports of the peer, and what it does with it.

Nothing of it runs: its text is parsed. What a name stands for is followed through assignments
(`model = AutoModel.from_pretrained(…)`), not through functions and containers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from bertolt.base.errors import DataError

PEER = "transformers"


class Use(NamedTuple):
    """One place where a program uses a name of the peer.

    Attributes:
        line: from 1.
        path: the name, and attributes behind it: ("Trainer", "train").
        call: how it is called; None: it is not, there.
    """

    line: int
    path: tuple[str, ...]
    call: ast.Call | None = None


class Subclass(NamedTuple):
    """A class of the program's own over one of the peer's, and the methods that it defines."""

    line: int
    name: str
    base: str
    methods: dict[str, int]


@dataclass
class Program:
    """What a file does with the peer.

    Attributes:
        text: the whole file, but for the mark that some editors put before it.
        mark: that mark, or nothing.
        imports: statements that import from the peer, at any depth.
        names: local names, and the peer's name that each is.
        modules: local names of the peer's whole module.
        starred: lines of `from … import *`.
    """

    text: str
    tree: ast.Module
    mark: str = ""
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    starred: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Program:
        """Parse a file.

        Raises:
            DataError: it cannot be read, is not UTF-8, is not Python, or is nested too deeply.
        """
        try:
            text = file.read_bytes().decode("utf-8")
            mark = text[: text.startswith("\ufeff")]
            program = cls(text.removeprefix(mark), ast.parse(text.removeprefix(mark)), mark)
            program._find_imports()
            _ = program._follower  # which goes as deep as the program does
        except OSError as error:
            raise DataError(
                error.strerror or str(error), place=str(file), fix="name a file of Python"
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"it is not UTF-8 at byte {error.start}", place=str(file), fix="save it as UTF-8"
            ) from error
        except (RecursionError, MemoryError) as error:  # the parser's stack has a size of its own
            raise DataError(
                "an expression or a chain of elif in it is nested too deeply to be followed",
                place=str(file),
                fix="part it into several, or name another file",
            ) from error
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            place = f"{file}, line {line}" if line else str(file)
            raise DataError(
                f"it is no Python that {_python()} reads: {getattr(error, 'msg', error)}",
                place=place,
                fix="mend that line, or name another file",
            ) from error
        return program

    def _find_imports(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.ImportFrom) and _of_peer(node.module) and not node.level:
                self.imports.append(node)
                for alias in node.names:
                    if alias.name == "*":
                        self.starred.append(node.lineno)
                    else:
                        self.names[alias.asname or alias.name] = alias.name

    def _import(self, node: ast.Import) -> None:
        ours = [alias for alias in node.names if _of_peer(alias.name)]
        if ours:
            self.imports.append(node)
            self.modules |= {alias.asname or PEER for alias in ours}

    @cached_property
    def _follower(self) -> _Follower:
        """What follows the names, when it has been through the whole program."""
        follower = _Follower(self.names, self.modules)
        follower.visit(self.tree)
        return follower

    def uses(self) -> Iterator[Use]:
        """Every use of a name, and every method called on what came of one, in order."""
        seen = set()
        for use in sorted(self._follower.uses, key=lambda use: use.line):
            key = (use.line, use.path, id(use.call))
            if key not in seen:
                seen.add(key)
                yield use

    def attributes(self) -> dict[str, tuple[int, str]]:
        """Names that are used as attributes of the peer's module: the first line of each, and how
        it stands there, behind the module."""
        return self._follower.attributes

    def subclasses(self) -> Iterator[Subclass]:
        """Every class over a class of the peer."""
        follower = _Follower(self.names, self.modules)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef):
                methods = {
                    inner.name: inner.lineno
                    for inner in node.body
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                }
                for base in node.bases:
                    path = follower.path(base)
                    if path and len(path) == 1:
                        yield Subclass(node.lineno, node.name, path[0], methods)


class _Follower(ast.NodeVisitor):
    """Follows names of the peer through the expressions and assignments of a program."""

    def __init__(self, names: dict[str, str], modules: set[str]) -> None:
        self._names, self._modules = dict(names), modules
        self._made: dict[str, str] = {}
        self._derived: dict[str, str] = {}
        self._own: dict[str, set[str]] = {}
        self.uses: list[Use] = []
        self.attributes: dict[str, tuple[int, str]] = {}

    def path(self, node: ast.expr) -> tuple[str, ...] | None:
        """The peer's name that an expression begins with, and the attributes behind it."""
        if isinstance(node, ast.Name):
            known = (self._names, self._made, self._derived)
            name = next((names[node.id] for names in known if node.id in names), None)
            return (name,) if name else None
        if isinstance(node, ast.Attribute):
            if _dotted(node.value) in self._modules or _in_peer(node.value, self._modules):
                behind = _dotted(node).partition(".")[2] or node.attr
                self.attributes.setdefault(node.attr, (node.lineno, behind))
                return (node.attr,)
            before = self.path(node.value)
            return (*before, node.attr) if before else None
        return None

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class over one of the peer's is made and used like it, but for what it defines."""
        for base in node.bases:
            path = self.path(base)
            if path and len(path) == 1:
                self._derived[node.name] = path[0]
                self._own[node.name] = _defined(node) | self._own.get(_dotted(base), set())
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._bind(target.id, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if node.value and isinstance(node.target, ast.Name):
            self._bind(node.target.id, node.value)

    def _bind(self, name: str, value: ast.expr) -> None:
        """Know from here on what object a name stands for, or no longer."""
        self._made.pop(name, None)
        if isinstance(value, ast.Call) and (made := self._class_of(value)):
            self._made[name] = made
            self._own[name] = self._own.get(_dotted(value.func).split(".")[0], set())

    def visit_Call(self, node: ast.Call) -> None:
        path = self.path(node.func)
        if path:
            # An object is called by the method of that name, a class by another.
            if _dotted(node.func) in self._made:
                path = (*path, "__call__")
            first, *behind = _dotted(node.func).split(".")
            method = behind[0] if behind else path[1] if len(path) > 1 else "__init__"
            own = method in self._own.get(first, ())
            self.uses.append(Use(node.lineno, path[:1] if own else path, None if own else node))
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.visit(argument)
            return
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._names:
            self.uses.append(Use(node.lineno, (self._names[node.id],)))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self.path(node)
        if path and not isinstance(node.ctx, ast.Store):
            # Attributes of an object are known when it is there: the class alone is named.
            own = _dotted(node.value) in self._modules
            self.uses.append(Use(node.lineno, path if own else path[:1]))
            return
        self.generic_visit(node)

    def _class_of(self, value: ast.Call) -> str | None:
        """The class whose object a call gives: of `X(…)`, `X.from_pretrained(…)` and the like."""
        path = self.path(value.func)
        if not path or _dotted(value.func) in self._made or not path[0][:1].isupper():
            return None
        maker = len(path) == 1 or path[1] in ("from_pretrained", "from_config", "from_dict")
        return path[0] if maker else None


def _defined(node: ast.ClassDef) -> set[str]:
    """Names of the methods that a class defines."""
    return {x.name for x in node.body if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)}


def _of_peer(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == PEER


def _dotted(node: ast.expr) -> str:
    """A name and attributes behind it, as they are written; of other expressions nothing."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""


def _in_peer(node: ast.expr, modules: set[str]) -> bool:
    """Whether an expression is a module within the peer, as `transformers.optimization` is."""
    name = _dotted(node)
    return name.split(".")[0] in modules and name.count(".") >= 1 and name.islower()


def _python() -> str:
    import sys

    return f"Python {sys.version_info.major}.{sys.version_info.minor}"
