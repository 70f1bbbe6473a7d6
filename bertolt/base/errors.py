"""The exceptions that Bertolt raises on purpose, of one shape: the place, the problem, the fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class BertoltError(Exception):
    """Something a person can mend. The command line prints it without a traceback and exits 2.

    Args:
        problem: what is wrong, with what was found and what was expected.
        place: where: a file, a row, a column, a key, an option. Empty if the problem says it.
        fix: what to do or to type about it.
    """

    exit_code = 2

    def __init__(self, problem: str, *, place: str = "", fix: str = "") -> None:
        self.problem = problem
        self.place = place
        self.fix = fix
        message = f"{place}: {problem}" if place else problem
        super().__init__(f"{message}\n  fix: {fix}" if fix else message)


class UsageError(BertoltError, ValueError):
    """An option or an argument that cannot be honoured; a ValueError too."""


class KeywordError(UsageError, TypeError):
    """An argument that a call does not have; a TypeError too, as Python's own."""


class AbsentNameError(BertoltError, AttributeError):
    """A name that an object does not have; an AttributeError too, so that `hasattr` says no."""


class DiskFullError(BertoltError, OSError):
    """A file that did not fit on its disk; an OSError too."""


class DataError(BertoltError, ValueError):
    """A file of texts and labels that cannot be used as it is; a ValueError too."""


class CheckpointError(BertoltError, OSError):
    """A model folder that cannot be loaded, or does not hold what it claims; an OSError too."""


class WeightsError(CheckpointError, RuntimeError):
    """Weights in memory that do not fit a model; a RuntimeError too, as of `load_state_dict`."""


class TrainingError(BertoltError):
    """Training cannot go on: a loss or a gradient that is not finite, for instance."""


def meant(name: str, choices: list[str], otherwise: str = "") -> str:
    """A fix that asks whether the choice most like `name` was meant, or `otherwise` without one."""
    close = nearest(name, choices)
    return f"did you mean {close!r}?" if close else otherwise


def refuse_unknown(
    owner: str, names: Iterable[str], known: Iterable[str], instead: Mapping[str, str] | None = None
) -> None:
    """Refuse arguments that nothing is done with, all in one error; without any, return.

    Args:
        owner: what was called, as people write it.
        names: the arguments.
        known: those that it takes.
        instead: what to write for arguments that the peer has and this library has not.

    Raises:
        UsageError: with the fix for each.
    """
    choices = list(known)
    unknown = [name for name in names if name not in choices]
    if not unknown:
        return
    fixes, listed = [], False
    for name in unknown:
        hint = (instead or {}).get(name)
        if hint is None and (close := nearest(name, choices)):
            hint = f"use {close}"
        listed |= hint is None
        hint = hint or "leave it out"
        fixes.append(hint if len(unknown) == 1 else f"{name}: {hint}")
    if listed:
        fixes.append(f"it takes {', '.join(choices)}")
    named = ", ".join(map(repr, unknown))
    raise UsageError(
        f"{owner} takes no argument{'s' if len(unknown) > 1 else ''} {named}",
        fix="; ".join(fixes),
    )


def nearest(name: str, choices: list[str]) -> str:
    """The choice most like `name`, or an empty string when none is close."""
    import difflib

    matches = difflib.get_close_matches(name.lower(), [c.lower() for c in choices], n=1, cutoff=0.6)
    return next((c for c in choices if matches and c.lower() == matches[0]), "")
