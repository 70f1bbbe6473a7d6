"""What decided the result of a run: compared before another goes on from it or takes it over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertolt.console import say
from bertolt.distributed import World
from bertolt.errors import UsageError
from bertolt.files import write_text

COMPLETE = "complete.json"
"""In the folder of a run that came to its end: the settings that decided its result."""


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


def completed_with(folder: Path, world: World) -> dict[str, Any] | None:
    """The settings of the complete run in a folder, as the first process reads them.

    None if there is no complete run. All processes call it.
    """
    text = ""
    if world.first and (folder / COMPLETE).is_file():
        text = (folder / COMPLETE).read_text(encoding="utf-8")
    try:
        found: dict[str, Any] = json.loads(world.tell(text))["settings"]
    except (ValueError, KeyError, TypeError):
        return None
    return found


def take_over(
    folder: Path, made_with: Mapping[str, Any], settings: Mapping[str, Any], precision: str
) -> dict[str, Any]:
    """Say that there is nothing left to do; the metrics of the complete run.

    Args:
        folder: of the complete run.
        made_with: its settings.
        settings: of this run.
        precision: as the user gave it; with "auto" that of the complete run will do.

    Raises:
        UsageError: it was made with other settings.
    """
    now = plain(settings)
    if precision == "auto":
        now["precision"] = made_with.get("precision")
    require_same_settings(folder, made_with, now)
    say(f"The run is complete, and nothing is left to do: its result is in {folder}")
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
