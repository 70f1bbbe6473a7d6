"""The exceptions that Bertolt raises on purpose, of one shape: the place, the problem, the fix."""

from __future__ import annotations


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

    __str__ = Exception.__str__  # a KeyError would put it into quotes


class UsageError(BertoltError, ValueError):
    """An option or an argument that cannot be honoured; a ValueError too."""


class KeywordError(UsageError, TypeError):
    """An argument that there is not, or of another type; a TypeError too, as Python's own."""


class AbsentNameError(BertoltError, AttributeError):
    """A name that an object does not have; an AttributeError too, so that `hasattr` says no."""


class NoMetricError(UsageError, KeyError):
    """A metric that an evaluation does not give; a KeyError too."""


class DiskFullError(BertoltError, OSError):
    """A file that did not fit on its disk; an OSError too."""


class DataError(BertoltError, ValueError):
    """A file of texts and labels that cannot be used as it is; a ValueError too."""


class OutOfRangeError(DataError, IndexError):
    """An id or a label for which a table or a head has no place; an IndexError too."""


class NotIdsError(DataError, TypeError):
    """Something of another type where ids of tokens should be; a TypeError too."""


class CheckpointError(BertoltError, OSError):
    """A model folder that cannot be loaded, or does not hold what it claims; an OSError too."""


class WeightsError(CheckpointError, RuntimeError):
    """Weights in memory that do not fit a model; a RuntimeError too, as of `load_state_dict`."""


class ConfigError(CheckpointError, ValueError):
    """Values of a config that are none, or do not fit together; a ValueError too."""


class TrainingError(BertoltError):
    """Training cannot go on: a loss or a gradient that is not finite, for instance."""


def meant(name: str, choices: list[str], otherwise: str = "") -> str:
    """A fix that asks whether the choice most like `name` was meant, or `otherwise` without one."""
    close = nearest(name, choices)
    return f"did you mean {close!r}?" if close else otherwise


def nearest(name: str, choices: list[str]) -> str:
    """The choice most like `name`, or an empty string when none is close."""
    import difflib

    matches = difflib.get_close_matches(name.lower(), [c.lower() for c in choices], n=1, cutoff=0.6)
    return next((c for c in choices if matches and c.lower() == matches[0]), "")
