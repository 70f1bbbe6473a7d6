"""`bertolt migrate`: what a program written for the peer has to change, and its imports changed."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import bertolt
from bertolt.base.errors import DataError
from bertolt.base.files import write_text
from bertolt.commands.program import PEER, Program, Use
from bertolt.commands.replaced_names import OTHER_FAMILIES, REPLACED_NAMES
from bertolt.models.config import BertConfig
from bertolt.models.peer_names import HUB, LOADED_ALIKE, NOT_LOADED, NOTES, REPLACED_ATTRIBUTES
from bertolt.models.pretrained import PreTrainedModel
from bertolt.tokenization import BertTokenizer
from bertolt.tokenization.older import ABSENT, BESIDE, UNUSED
from bertolt.train.arguments import TrainingArguments
from bertolt.train.overrides import instead_of_method
from bertolt.train.peer_arguments import OLDER_ARGUMENTS, instead_of_argument
from bertolt.train.trainer import Trainer

_WIDTH = 100
_Accepted = tuple[set[str], int | None] | None
"""Names that a call takes, and how many values without one (None: any); None: it is not known."""


class Difference(NamedTuple):
    """One thing that the program would have to change: where, what, and what to write instead."""

    line: int
    name: str
    instead: str


_KEPT = "keep it"
_SHARED = frozenset(bertolt.__all__) - {"__version__"}
"""Names that mean the same in both; each library has a version of its own."""


@dataclass
class Differences:
    """What a program has to change.

    Attributes:
        file: the program.
        same: names of the peer that it uses and that are here.
        differences: by line.
        written: whether its imports were changed.
        left: whether they were to be, and all of them stay as they are.
    """

    file: Path
    same: list[str]
    differences: list[Difference]
    written: bool = False
    left: bool = False

    @property
    def to_change(self) -> list[Difference]:
        """All but the names that stay with the peer, as a program may have them beside ours."""
        return [each for each in self.differences if not each.instead.startswith(_KEPT)]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "file": str(self.file),
            "same": self.same,
            "differences": [difference._asdict() for difference in self.differences],
            "written": self.written,
        }

    def __str__(self) -> str:
        width = max((len(difference.name) for difference in self.differences), default=0)
        lines = [
            f"  line {difference.line:>4}  {difference.name:<{width}}  {difference.instead}"
            for difference in self.differences
        ]
        count, stays = len(self.to_change), len(self.differences) - len(self.to_change)
        changes = f"{count} to change" if count else "nothing else has to change"
        if stays:
            changes += f", {stays} {'stays' if stays == 1 else 'stay'} with the peer"
        lines = [f"{self.file}: {len(self.same)} names are the same here, {changes}", *lines]
        if self.written:
            lines.append(
                "Its imports are changed. What functions hand on to each other is not seen."
            )
        if self.left:
            lines.append(
                "Its imports stay as they are. Of a module that is imported whole, or by *, name "
                "what is used: from transformers import …"
            )
        return "\n".join(lines)


class Programs(list[Differences]):
    """What each of several programs has to change."""

    @property
    def to_change(self) -> list[Difference]:
        """Of all of them."""
        return [difference for each in self for difference in each.to_change]

    def to_dict(self) -> Any:
        """As plain values: a list, or the one record itself."""
        return self[0].to_dict() if len(self) == 1 else [each.to_dict() for each in self]

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def migrate_all(paths: Sequence[Path], *, write: bool) -> Programs:
    """Read programs, or those in folders, and tell what differs; nothing is run.

    All of them are read before the first is changed. In a folder, programs that do not import from
    the peer are left out, and so are hidden folders.

    Raises:
        DataError: a file cannot be read, or is not Python; a folder has no such program.
    """
    files: list[Path] = []
    for path in paths:
        found = list(_programs_in(path)) if path.is_dir() else [path]
        if not found:
            raise DataError(
                f"no program in it imports from {PEER}",
                place=str(path),
                fix="name another folder, or a file: bertolt migrate FILE.py",
            )
        files += [file for file in found if file not in files]
    read = [migrate(file, write=False) for file in files]
    return Programs(migrate(file, write=True) for file in files) if write else Programs(read)


def _programs_in(folder: Path) -> Iterator[Path]:
    """The programs in a folder, at any depth, that import from the peer."""
    for file in sorted(folder.rglob("*.py")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or not file.is_file() or PEER.encode() not in file.read_bytes():
            continue
        if Program.read(file).imports:
            yield file


def migrate(file: Path, *, write: bool) -> Differences:
    """Read a program, and tell what differs; with `write`, let it import from Bertolt.

    Names that Bertolt does not have are then still imported from the peer.

    Raises:
        DataError: the file cannot be read, or is not Python.
    """
    program = Program.read(file)
    used = sorted({*program.names.values(), *(use.path[0] for use in program.uses())})
    same = [name for name in used if name in _SHARED]
    found = [*_missing_names(program), *_differing_calls(program), *_uncalled_methods(program)]
    text = with_our_imports(program) if write else ""
    changed = write and text != program.mark + program.text
    if changed:
        mode = file.stat().st_mode
        write_text(file, text)
        file.chmod(mode)
    left = write and not changed and bool(program.starred or program.modules)
    return Differences(file, same, sorted(set(found)), changed, left)


def _missing_names(program: Program) -> Iterator[Difference]:
    for line in program.starred:
        yield Difference(line, "import *", "name what is imported")
    for node in program.imports:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name != "*" and alias.name not in _SHARED:
                    yield Difference(alias.lineno, alias.name, _instead_of(alias.name))
    for name, (line, behind) in program.attributes().items():
        if name not in _SHARED:
            yield Difference(line, f"{PEER}.{behind}", _instead_of(name))


def _instead_of(name: str) -> str:
    if name in REPLACED_NAMES:
        return REPLACED_NAMES[name]
    if any(family in name for family in OTHER_FAMILIES):
        return "keep it with the peer: Bertolt has BERT, RoBERTa and XLM-RoBERTa"
    close = _nearest(name, bertolt.__all__)
    return f"Bertolt has none of that name; {close} is the nearest" if close else "keep it"


def _nearest(name: str, choices: Iterable[str]) -> str:
    """The choice that differs by a few letters: a farther one would mean something else."""
    return _nearest_of(name, tuple(sorted(choices)))


@functools.lru_cache(maxsize=4096)  # a program repeats its calls, and each comparison is slow
def _nearest_of(name: str, choices: tuple[str, ...]) -> str:
    return next(iter(difflib.get_close_matches(name, choices, n=1, cutoff=0.75)), "")


def _differing_calls(program: Program) -> Iterator[Difference]:
    accepted: dict[str, _Accepted] = {}
    for use in program.uses():
        owner = getattr(bertolt, use.path[0], None) if use.path[0] in _SHARED else None
        if use.call is None or owner is None or len(use.path) > 2:
            continue
        called, shown = owner, ".".join(use.path)
        if len(use.path) == 2:
            if owner is bertolt.AutoConfig and not hasattr(owner, use.path[1]):
                owner = BertConfig  # or another family's, with the same methods
            if not hasattr(owner, use.path[1]):
                # A model's parts are there when it is.
                if not _is_model(owner) or use.path[1] in REPLACED_ATTRIBUTES:
                    yield Difference(use.line, shown, _instead_of_method(owner, use.path[1]))
                continue
            called = getattr(owner, use.path[1])
        if shown not in accepted:
            accepted[shown] = _arguments_of(called)
        yield from _differing_arguments(use, called, shown, accepted[shown])


def _is_model(owner: Any) -> bool:
    return isinstance(owner, type) and issubclass(owner, PreTrainedModel)


def _instead_of_method(owner: Any, name: str) -> str:
    instead = instead_of_method(Trainer, name) if owner is Trainer else None
    instead = ABSENT.get(name) if owner is BertTokenizer else instead
    instead = REPLACED_ATTRIBUTES.get(name) if _is_model(owner) else instead
    close = _nearest(name, [method for method in dir(owner) if not method.startswith("_")])
    hint = f"{close} is the nearest" if close else "leave it out"
    return instead or f"it has no {name}; {hint}"


def _differing_arguments(
    use: Use, called: Any, shown: str, accepted: _Accepted
) -> Iterator[Difference]:
    assert use.call is not None
    if accepted is None:
        return
    names, most = accepted
    plain = [argument for argument in use.call.args if not isinstance(argument, ast.Starred)]
    own = len(use.path) == 2 and inspect.isfunction(called)  # `self` is the object
    if most is not None and len(plain) > most - own:
        yield Difference(use.line, f"{shown}(…)", f"takes {most - own} values without a name")
    for keyword in use.call.keywords:
        instead = None if keyword.arg is None else _instead_of_argument(called, keyword, names)
        if instead is not None:
            yield Difference(keyword.value.lineno, f"{shown}({keyword.arg}=…)", instead)


def _arguments_of(called: Any) -> _Accepted:
    """Names that a call takes, and how many values without one; None: any."""
    if called is TrainingArguments:
        names = {field.name for field in dataclasses.fields(TrainingArguments)}
        return names.union(OLDER_ARGUMENTS), 1
    try:
        parameters = list(inspect.signature(_built_by(called)).parameters.values())
    except (TypeError, ValueError):
        return None
    parameters = parameters[_is_model(called) :]  # without `self`
    names = {parameter.name for parameter in parameters}
    many = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    plain = sum(parameter.kind <= parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
    most = None if many else plain
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        if (beside := _beside(called)) is not None:
            return names.union(UNUSED, beside[0]), most
        # Loading takes changes of the config.
        if getattr(called, "__name__", "") != "from_pretrained":
            return None
        names |= {field.name for field in dataclasses.fields(BertConfig)}
        names |= {"label2id", "num_labels", *LOADED_ALIKE, *HUB, *NOTES}
        names |= inspect.signature(bertolt.BertModel.__init__).parameters.keys() - {"self"}
    return names, most


def _built_by(called: Any) -> Any:
    """What names the arguments of a call: a model's `__init__`, and not the `__new__` that chooses
    its class, which Python before 3.11.4 takes for its signature."""
    return called.__init__ if _is_model(called) else called


def _beside(called: Any) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """What a method of the tokenizer takes beside its own arguments, and instead of others."""
    name = getattr(called, "__name__", "")
    return BESIDE.get(name) if called == getattr(BertTokenizer, name, None) else None


def _instead_of_argument(called: Any, keyword: ast.keyword, names: set[str]) -> str | None:
    """What to write instead of a named argument; None: it is the same here."""
    assert keyword.arg is not None
    if called is TrainingArguments:
        value: tuple[object, ...] = ()  # what a program computes may be any
        with contextlib.suppress(ValueError, TypeError, SyntaxError, RecursionError):
            value = (ast.literal_eval(keyword.value),)
        if (instead := instead_of_argument(keyword.arg, *value)) is not None:
            return instead
    if keyword.arg in names:
        return None
    if getattr(called, "__name__", "") == "from_pretrained" and keyword.arg in NOT_LOADED:
        return None if _may_be_empty(keyword.value) else NOT_LOADED[keyword.arg]
    if (beside := _beside(called)) is not None and keyword.arg in beside[1]:
        return beside[1][keyword.arg]
    close = _nearest(keyword.arg, names)
    return f"use {close}" if close else "leave it out"


def _may_be_empty(value: ast.expr) -> bool:
    """Whether a value asks for nothing as it is written, or is a yes or no that is computed."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "bool"
    computed = isinstance(value, ast.Compare | ast.BoolOp | ast.UnaryOp)
    return computed or (isinstance(value, ast.Constant) and not value.value)


def _uncalled_methods(program: Program) -> Iterator[Difference]:
    for own in program.subclasses():
        if getattr(bertolt, own.base, None) is Trainer:
            for method, line in own.methods.items():
                if (instead := instead_of_method(Trainer, method)) is not None:
                    yield Difference(line, f"{own.name}.{method}", instead)


def with_our_imports(program: Program) -> str:
    """The program's text with what Bertolt has imported from it, and the rest from the peer."""
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", program.text)  # as Python counts lines
    by_place = sorted(program.imports, key=lambda node: (node.lineno, node.col_offset))
    for node in reversed(by_place):
        end, column = node.end_lineno or node.lineno, node.end_col_offset or 0
        statements = _changed(node, program)
        first, last = lines[node.lineno - 1], lines[end - 1]
        before = first.encode()[: node.col_offset].decode()
        after = last.encode()[column:].decode()
        parted = "; " if before.strip() else f"\n{before}"
        lines[node.lineno - 1 : end] = [before + parted.join(statements) + after]
    return program.mark + "".join(lines)


def _changed(node: ast.Import | ast.ImportFrom, program: Program) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        ours = [alias for alias in node.names if alias.name in _SHARED]
        rest = [alias for alias in node.names if alias not in ours]
        made = [_from("bertolt", ours)] if ours else []
        return [*made, *([_from(node.module or PEER, rest)] if rest else [])]
    if any(name not in _SHARED for name in program.attributes()):
        return [ast.unparse(node)]
    return [f"import {', '.join(_module(alias) for alias in node.names)}"]


def _module(alias: ast.alias) -> str:
    if alias.name != PEER:
        return ast.unparse(alias)
    return f"bertolt as {alias.asname or PEER}"


def _from(module: str, names: list[ast.alias]) -> str:
    parts = [ast.unparse(alias) for alias in names]
    line = f"from {module} import {', '.join(parts)}"
    if len(line) <= _WIDTH:
        return line
    return f"from {module} import (\n" + "".join(f"    {part},\n" for part in parts) + ")"
