"""A record in a JSON file of a model folder: written, and read back in one way."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from bertolt.base.errors import BertoltError, CheckpointError
from bertolt.base.files import write_text
from bertolt.base.json_files import read_json


@dataclass(frozen=True, kw_only=True)
class JsonFile(abc.ABC):
    """Plain values that stand in a file beside weights.

    Attributes:
        file: its name.
        called: what it is, in words.
        fix: what to do where it cannot be read.
    """

    file: ClassVar[str]
    called: ClassVar[str]
    fix: ClassVar[str]

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse values that nobody can work by.

        Raises:
            ValueError: with the value, and what it must be.
        """

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        write_text(folder / self.file, text)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The record with these values; unknown keys come from a later version, and are ignored.

        Raises:
            KeyError: a key is missing.
        """
        known = [each for each in fields(cls) if each.name in values]
        for each in fields(cls):
            if each not in known and each.default is each.default_factory is MISSING:
                raise KeyError(each.name)
        return cls(**{each.name: values[each.name] for each in known})

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read it from a folder; None where there is no such file.

        Raises:
            CheckpointError: the file is there and broken.
        """
        path = folder / cls.file
        if not os.path.lexists(path):
            return None
        try:
            record = cls.of(read_json(path))
            record.check()
            return record
        except BertoltError:
            raise
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise CheckpointError(
                f"not a readable {cls.called} ({_reason(error)})", place=str(path), fix=cls.fix
            ) from error


def _reason(error: Exception) -> str:
    """What is wrong, without the words of Python, which speaks of types that nobody wrote."""
    if isinstance(error, KeyError):
        return f"the key {error.args[0]!r} is missing"
    if isinstance(error, TypeError | AttributeError):
        return "a value is of another kind than it must be"
    return str(error)
