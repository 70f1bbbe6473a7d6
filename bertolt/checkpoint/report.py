"""`LoadReport`: an object first, printed second."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bertolt.base.errors import CheckpointError

# What wrappers put before the names of the model inside them: of several devices, compiled, nested.
WRAPPERS = re.compile(r"((module|_orig_mod|model)\.)+")


@dataclass(frozen=True)
class Mismatch:
    """A tensor whose shape in the file is not the model's."""

    key: str
    model_shape: tuple[int, ...]
    file_shape: tuple[int, ...]


@dataclass(kw_only=True)
class LoadReport:
    """What happened to every parameter of a model and to every tensor of its file.

    Attributes:
        source: the folder or file that was read.
        loaded: parameter to the file's name for it; each was compared with the file after copying.
        initialised: parameter to the rule that set it, because the file has no value for it.
        partly: of parameters of `initialised` with some rows of the file, which rows these are.
        unexpected: tensors of the file that the model has no place for.
        mismatched: tensors left out because of their shape (only when that was allowed).
        ignored: names that a pattern excuses, with the pattern.
        conflicting: duplicate names of one parameter with different values in the file, each with
            the name whose values were used.
        tied: parameter to the one whose memory it shares.
        untied: parameter to the one whose memory it would share by the config; the file has
            different values for the two, so each has its own.

    Under the peer's names, `report["missing_keys"]`, `["unexpected_keys"]`, `["mismatched_keys"]`
    (name, shape in the file, shape in the model) and `["error_msgs"]` are understood as well.
    """

    source: str
    loaded: dict[str, str] = field(default_factory=dict)
    initialised: dict[str, str] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[Mismatch] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    conflicting: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    untied: dict[str, str] = field(default_factory=dict)
    partly: dict[str, str] = field(default_factory=dict)

    def keys(self) -> tuple[str, ...]:
        """The peer's names for parts of a report."""
        return "missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def values(self) -> list[list[Any]]:
        """The parts under the peer's names."""
        return [self[name] for name in self.keys()]

    def items(self) -> list[tuple[str, list[Any]]]:
        """The peer's names and the parts."""
        return [(name, self[name]) for name in self.keys()]

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, name: str) -> list[Any]:
        parts: tuple[list[Any], ...] = (
            [key for key in self.missing if key not in {each.key for each in self.mismatched}],
            self.unexpected,
            [(each.key, each.file_shape, each.model_shape) for each in self.mismatched],
            [],
        )
        return dict(zip(self.keys(), parts, strict=True))[name]

    @property
    def missing(self) -> list[str]:
        """Parameters that were initialised, and no pattern excuses that."""
        return [key for key in self.initialised if key not in self.ignored]

    @property
    def exact(self) -> bool:
        """Whether model and file have the same tensors, apart from names that a pattern excuses."""
        differing = (self.missing, self.unexpected, self.mismatched, self.conflicting, self.untied)
        return not any(differing)

    def require_exact(self) -> None:
        """Make any difference an error.

        Raises:
            CheckpointError: with the report as its text.
        """
        if not self.exact:
            raise CheckpointError(
                f"model and file differ, and strict=True was asked for\n{self}", place=self.source
            )

    def require_trained(self, purpose: str) -> None:
        """Refuse to use weights that were never trained; that a pattern excuses them is no help.

        Raises:
            CheckpointError: some parameters were initialised here and not loaded.
        """
        if self.initialised:
            names = ", ".join(name for name, _ in fold(self.initialised))
            raise CheckpointError(
                f"{names} not in the file, so the model has never been trained for {purpose}",
                place=self.source,
                fix="fine-tune it first: bertolt finetune TRAIN --model " + self.source,
            )

    def rows(self) -> list[tuple[str, str, int, str]]:
        """The report as folded rows: status, names, how many, note."""
        rows = [("loaded", name, count, "") for name, count in fold(self.loaded)]
        for rule in sorted(set(self.initialised.values())):
            names = [key for key, value in self.initialised.items() if value == rule]
            new = [key for key in names if key not in self.partly]
            rows += [("initialised", name, count, rule) for name, count in fold(new)]
            rows += [
                ("in part", name, 1, f"{self.partly[name]}; the others: {rule}")
                for name in names
                if name in self.partly
            ]
        rows += [
            ("mismatched", m.key, 1, f"model {list(m.model_shape)}, file {list(m.file_shape)}")
            for m in self.mismatched
        ]
        rows += [("unexpected", name, count, "") for name, count in fold(self.unexpected)]
        rows += [
            ("ignored", name, 1, f"by the pattern {pattern}")
            for name, pattern in self.ignored.items()
        ]
        rows += [
            ("ignored", name, 1, f"{other} has other values, which were taken")
            for name, other in self.conflicting.items()
        ]
        rows += [("tied", name, 1, f"to {other}") for name, other in self.tied.items()]
        rows += [
            ("untied", name, 1, f"the file has other values for {other}")
            for name, other in self.untied.items()
        ]
        return rows

    def __str__(self) -> str:
        lines = [
            f"Loaded {len(self.loaded)} tensors from {self.source}, "
            "each compared with the file after copying."
        ]
        if wrapper := WRAPPERS.match(next(iter(self.loaded.values()), "")):
            lines.append(f"Names in the file begin with {wrapper[0]!r}: a wrapped model was saved.")
        explained = {
            "initialised": "new, not from the file",
            "in part": "from the file in part",
            "mismatched": "left out, another shape",
            "unexpected": "in the file, no place in the model",
            "ignored": "excused",
            "tied": "tied",
            "untied": "has its own memory, though the config ties it",
        }
        for status, name, count, note in self.rows():
            if status in explained:
                times = f" ({count} tensors)" if count > 1 else ""
                behind = f": {note}" if note else ""
                lines.append(f"  {explained[status]}: {name}{times}{behind}")
        return "\n".join(lines)


def fold(names: Iterable[str]) -> list[tuple[str, int]]:
    """Names that differ only in a layer number, as one name with a range, and how many they are."""
    groups: dict[str, list[int]] = {}
    for name in names:
        number = re.search(r"(?<=\.)\d+(?=\.)", name)
        pattern = name[: number.start()] + "{}" + name[number.end() :] if number else name
        groups.setdefault(pattern, []).append(int(number.group()) if number else -1)
    return [
        (pattern.replace("{}", _span(numbers)) if "{}" in pattern else pattern, len(numbers))
        for pattern, numbers in groups.items()
    ]


def _span(numbers: list[int]) -> str:
    ordered = sorted(numbers)
    if len(ordered) == 1:
        return str(ordered[0])
    if ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{{{ordered[0]}..{ordered[-1]}}}"
    return "{" + ",".join(map(str, ordered)) + "}"
