"""Settings in a file, in place of flags: YAML, TOML or JSON. Only light modules are imported."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection, Parameter, Token

from bertolt.base.console import info
from bertolt.base.errors import UsageError, meant
from bertolt.base.format import plural
from bertolt.base.settings import Entry, Word, nested, read_entries
from bertolt.commands.mistyped import NAMES_ELSEWHERE, check_word, kinds_of

_HELP = "File of settings in place of flags: YAML, TOML or JSON. Flags beside it win."
SettingsFile = Annotated[Path | None, Parameter(name="--config", help=_HELP)]
"""The parameter of a command that takes a file of settings."""
SettingsBesideShape = Annotated[
    Path | None,
    Parameter(
        name="--settings",
        help=f"{_HELP} A --config that ends in .yaml, .yml or .toml is such a file too.",
    ),
]
"""The same where `--config` is the shape of a model."""

_PARAMETER = "settings"  # what commands call it
_LISTED = frozenset({"label", "by", "keep", "track", "seeds", "sample"})
"""Options that take several names with commas between them, which a file may have as a list."""


@dataclass(frozen=True)
class Setting:
    """A key of a file with its value.

    Attributes:
        key: as it is written.
        texts: the value as it would be typed, or several; None: it is null, and left out.
        is_list: whether the file has a list.
        switch: what it is if it is true or false; None: it is neither.
        place: of the value, for messages.
    """

    key: str
    texts: list[str] | None
    is_list: bool
    switch: bool | None
    place: str

    @property
    def name(self) -> str:
        """The name of the flag, without its hyphens in front."""
        return self.key.replace("_", "-")

    def refused(self, problem: str, fix: str) -> UsageError:
        """The error for a value that cannot be."""
        return UsageError(problem, place=self.place, fix=fix)


def name_settings(words: Sequence[str]) -> list[str]:
    """The words of a command line in which `--config` is a shape, with files of settings named.

    Args:
        words: that were typed; `--config` stays as it is for other commands.
    """
    named = list(words)
    if words[:1] not in (["pretrain"], ["plan"]):
        return named
    for place, word in enumerate(named):
        option, joined, value = word.partition("=")
        value = value if joined else "".join(named[place + 1 : place + 2])
        if option == "--config" and value.lower().endswith((".yaml", ".yml", ".toml")):
            named[place] = f"--settings{joined}{value if joined else ''}"
    return named


def fill_from_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give each option that was not typed the value that the file of settings has for it.

    Raises:
        UsageError: a file that cannot be read, or that another option names too, a key that the
            command does not have or that stands twice, or a value of another kind.
    """
    named = [each for each in arguments if each.field_info.name == _PARAMETER]
    if not named or not named[0].tokens:
        return
    path, command = Path(named[0].tokens[-1].value), (commands[-1:] or ("",))[0]
    known = {_key_of(each): each for each in arguments if _key_of(each)}
    settings = _require_known(map(_setting, read_entries(path, "--config")), known, command)
    overruled = []
    for setting in settings:
        argument = known[setting.name]
        if setting.texts is None:
            continue
        if argument.tokens:
            overruled.append(_overruled(argument, setting))
            continue
        more = _more_of(argument, arguments)
        for each, text, place in _spread(argument, more, _texts(argument, setting, command, more)):
            each.append(Token(keyword=setting.key, value=text, source=str(path), index=place))
    for argument in arguments:
        if argument is not named[0]:
            _require_another(argument, path)
    instead = f"; typed instead: {', '.join(overruled)}" if overruled else ""
    info(f"Settings: {plural(len(settings), 'key')} of {path}{instead}")


def _require_another(argument: Argument, path: Path) -> None:
    """Refuse a file of settings that another option names too: it would be replaced, or read as
    something else."""
    for value in (token.value for token in argument.tokens):
        if _is_same(value, path):
            raise UsageError(
                "it is the file of settings too",
                place=f"{argument.name} {value}",
                fix="name another file",
            )


def _is_same(value: str, path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # what is no path
        return Path(value).samefile(path)
    return False


def _key_of(argument: Argument) -> str:
    """What a file calls an option or a positional argument; empty for what it cannot give."""
    name, field = argument.name, argument.field_info
    if name == "*" or field.name == _PARAMETER or field.kind is field.VAR_POSITIONAL:
        return ""
    return name.removeprefix("--") if name.startswith("--") else field.name.replace("_", "-")


def _require_known(
    settings: Iterable[Setting], known: Mapping[str, Argument], command: str
) -> list[Setting]:
    """The settings, whose keys are of the command and stand once each."""
    seen: dict[str, Setting] = {}
    for setting in settings:
        name = setting.name
        if name not in known:
            called = NAMES_ELSEWHERE.get(command, {}).get(f"--{name}", "").removeprefix("--")
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
            meant = called or "".join(near)
            every = f"the keys are the flags of bertolt {command} --help"
            raise setting.refused(
                f"bertolt {command} has no setting {setting.key!r}",
                f"did you mean {meant}? Else {every}" if meant else every,
            )
        if name in seen:
            both = " and ".join(dict.fromkeys([seen[name].key, setting.key]))
            raise setting.refused(f"{both} stands twice", f"give {name} once")
        seen[name] = setting
    return list(seen.values())


def _overruled(argument: Argument, setting: Setting) -> str:
    typed = " ".join([argument.name, *(token.value for token in argument.tokens)])
    return f"{typed.strip()} (the file has {', '.join(setting.texts or ())})"


def _more_of(argument: Argument, arguments: ArgumentCollection) -> Argument | None:
    """What takes the values behind the first of a positional argument; None: nothing does."""
    kind = argument.field_info.kind
    if kind not in (argument.field_info.POSITIONAL_ONLY, argument.field_info.POSITIONAL_OR_KEYWORD):
        return None
    behind = [each for each in arguments if each.index == (argument.index or 0) + 1]
    return behind[0] if behind and behind[0].field_info.name == "more" else None


def _texts(argument: Argument, setting: Setting, command: str, more: Argument | None) -> list[str]:
    """The words that a setting stands for.

    Raises:
        UsageError: a value of another kind than the option has.
    """
    kinds, texts, key = tuple(kinds_of(argument.hint)), setting.texts or [], setting.key
    if bool in kinds:
        if setting.switch is None:
            shown = texts if setting.is_list else "".join(texts)
            raise setting.refused(f"{key} is {shown!r}", "give true or false")
        return [str(setting.switch).lower()]
    several = more is not None or any(get_origin(kind) in (list, tuple) for kind in kinds)
    if setting.is_list and not several:
        if setting.name not in _LISTED:
            raise setting.refused(f"{key} is a list of {len(texts)}", f"give one value: {key}: …")
        texts = [",".join(texts)]
    choices = [
        str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)
    ]
    for text in texts:
        if not text.strip():
            raise setting.refused(f"{key} is empty", "give a value, or leave the key out")
        if choices and len(kinds) == 1 and text not in choices:
            raise setting.refused(
                f"{key} is {text!r}", meant(text, choices, f"give {' or '.join(choices)}")
            )
        check_word(key, text, kinds, command, place=setting.place)
    return texts


def _spread(
    argument: Argument, more: Argument | None, texts: Sequence[str]
) -> Iterator[tuple[Argument, str, int]]:
    """Which argument gets which word, at which place in it."""
    for place, text in enumerate(texts):
        if more is None or place == 0:
            yield argument, text, place
        else:
            yield more, text, place - 1


def _setting(entry: Entry) -> Setting:
    """What an entry of a file would be if it were typed.

    Raises:
        UsageError: it is a mapping.
    """
    value = entry.value
    if isinstance(value, dict):
        raise nested(entry.key, entry.place)
    is_list = isinstance(value, list)
    if not is_list and (value.value if isinstance(value, Word) else value) is None:
        return Setting(entry.key, None, False, None, entry.place)
    texts = [_typed(each) for each in (value if is_list else [value])]
    plain = value.value if isinstance(value, Word) else value
    switch = plain if isinstance(plain, bool) else None
    return Setting(entry.key, texts, is_list, switch, entry.place)


def _typed(value: Any) -> str:
    if isinstance(value, Word):
        return value.text
    return str(value).lower() if isinstance(value, bool) else str(value)
