"""Arguments of the peer: those that change nothing are told, those that nobody knows refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bertolt.base.console import info
from bertolt.base.errors import KeywordError, nearest


def tell_unused(options: dict[str, object], reasons: Mapping[str, str]) -> None:
    """Take out of `options` what changes nothing here, and say so, in a line each.

    Args:
        options: the arguments of a call; None for one is as if it were left out.
        reasons: why each of these changes nothing.
    """
    for line in take_unused(options, reasons):
        info(line)


def take_unused(options: dict[str, object], reasons: Mapping[str, str]) -> list[str]:
    """Take out of `options` what changes nothing here; what to say of it."""
    taken = {name: options.pop(name) for name in list(options) if name in reasons}
    return [
        f"{name}={value!r} changes nothing here: {reasons[name]}"
        for name, value in taken.items()
        if value is not None
    ]


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
        KeywordError: with the fix for each.
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
    raise KeywordError(
        f"{owner} takes no argument{'s' if len(unknown) > 1 else ''} {named}",
        fix="; ".join(fixes),
    )
