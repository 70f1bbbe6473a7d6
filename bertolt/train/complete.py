"""What decided the result of a run: compared before another goes on from it or takes it over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bertolt.base.console import say
from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.base.files import write_text

COMPLETE = "complete.json"
"""In the folder of a run that came to its end: the settings that decided its result."""

_METRICS = "metrics.json"
_RESULT = (COMPLETE, _METRICS, "model.safetensors")  # without one of these it is none


class Complete(NamedTuple):
    """A run that came to its end.

    Attributes:
        settings: that decided its result.
        metrics: the content of its `metrics.json`.
    """

    settings: dict[str, Any]
    metrics: dict[str, Any]


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file, where a tuple is a list."""
    found: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return found


def require_same_settings(
    place: Path, made_with: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Refuse to mix runs that differ in what decides their result.

    Args:
        place: of the checkpoint or the result that is there.
        made_with: its settings.
        settings: of this run, as `plain` gives them.

    Raises:
        UsageError: naming the first difference.
    """
    for name in {**settings, **made_with}:
        now, then = settings.get(name), made_with.get(name)
        if now != then:
            raise UsageError(
                f"it was made with {name} {_shown(then)}, and now it is {_shown(now)}",
                place=str(place),
                fix="resume with the same settings, or begin a run of its own elsewhere",
            )


def mark_complete(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write that the run of this folder has come to its end, after all else that it writes."""
    text = json.dumps({"settings": plain(settings)}, indent=2, ensure_ascii=False)
    write_text(folder / COMPLETE, text + "\n")


def find_complete(folder: Path, world: World) -> Complete | None:
    """The complete run in a folder, as the first process reads it.

    None if there is none, or some of its result is gone. All processes call it.
    """
    texts = ["", ""]
    if world.first and all((folder / name).is_file() for name in _RESULT):
        texts = [(folder / name).read_text(encoding="utf-8") for name in (COMPLETE, _METRICS)]
    about, metrics = json.loads(world.tell(json.dumps(texts)))
    try:
        return Complete(json.loads(about)["settings"], json.loads(metrics))
    except (ValueError, KeyError, TypeError):
        return None


def take_over(
    folder: Path, complete: Complete, settings: Mapping[str, Any], precision: str
) -> dict[str, Any]:
    """Say that there is nothing left to do; the metrics of the complete run.

    Args:
        folder: of the complete run.
        complete: what is there.
        settings: of this run.
        precision: as the user gave it; with "auto" that of the complete run will do.

    Raises:
        UsageError: it was made with other settings.
    """
    now = plain(settings)
    if precision == "auto":
        now["precision"] = complete.settings.get("precision")
    require_same_settings(folder, complete.settings, now)
    say(f"The run is complete, and nothing is left to do: its result is in {folder}")
    return complete.metrics


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
