"""What to type instead of words that a command does not know. Only light modules are imported."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from cyclopts import (
    App,
    ArgumentCollection,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from bertolt.base.errors import UsageError

_TRAINING = {
    "--learning-rate": "--lr",
    "--num-train-epochs": "--epochs",
    "--num-epochs": "--epochs",
    "--max-steps": "--steps",
    "--warmup-steps": "--warmup",
    "--warmup-ratio": "--warmup",
    "--lr-scheduler-type": "--schedule",
    "--max-seq-length": "--max-length",
    "--model-name-or-path": "--model",
    "--save-steps": "--save-every",
    "--save-total-limit": "--keep",
    "--resume-from-checkpoint": "--resume",
    "--output-dir": "--out",
    "--output": "--out",
    "--overwrite-output-dir": "--overwrite",
    "--report-to": "--track",
    "-o": "--out",
    "-m": "--model",
}
NAMES_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "finetune": {name: own for name, own in _TRAINING.items() if own != "--steps"}
    | {
        "--per-device-train-batch-size": "--batch-size",
        "--train-batch-size": "--batch-size",
        "--validation-file": "--eval",
        "--eval-file": "--eval",
        "--text-column": "--text",
        "--label-column": "--label",
        "--text-column-name": "--text",
        "--text-column-names": "--text",
        "--label-column-name": "--label",
        "--target": "--label",
        "--test-split": "--test-size",
        "--task-name": "--task",
        "--bs": "--batch-size",
    },
    "pretrain": _TRAINING | {"--eval-steps": "--eval-every", "--mlm-probability": "--mask"},
    "evaluate": {
        "--column": "--text",
        "--pair-column": "--text-pair",
        "--text-column": "--text",
        "--label-column": "--label",
    },
    "predict": {
        "--text-pair": "--pair-column",
        "--text-column": "--column",
        "--output": "--out",
        "--output-file": "--out",
        "-o": "--out",
    },
}
"""Of each command: how other programs, or other commands of ours, call an option, and its own."""

_DEVICE = "leave it out: a GPU is used if there is one; CUDA_VISIBLE_DEVICES= in front forbids it"
_FIRST = "type it without the option, first of all"
_NO_OPTION = {
    "--fp16": "type --precision bf16 instead",
    "--bf16": "type --precision bf16 instead",
    "--device": _DEVICE,
    "--gpu": _DEVICE,
    "--cpu": _DEVICE,
    "--no-cuda": _DEVICE,
    "--use-cpu": _DEVICE,
    "--do-train": "leave it out",
    "--do-eval": "leave it out",
    "--do-predict": "leave it out; bertolt predict answers texts",
    "--train-file": _FIRST,
    "--train": _FIRST,
    "--tokenizer-name": "leave it out: the tokenizer is the one in the folder of the model",
    "--per-device-eval-batch-size": "leave it out: batches of an evaluation are sized by Bertolt",
}
_MODEL_FIRST = {"evaluate": "MODEL FILE", "predict": "MODEL FILE", "inspect": "MODEL"}

_LIKE = 0.75  # options less alike than this are other words
_MAY_BE_EMPTY = (("predict", "--text"), ("predict", "--pair"), ("inspect", "--text"))


def check_words(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse words that are no numbers where numbers belong, and empty ones, before they are read.

    The parser would round 8.5 texts to 8, and call 1e3 "unable to convert into int".

    Raises:
        UsageError: such a word, by its option.
    """
    for argument in arguments:
        kinds = tuple(kinds_of(argument.hint))
        for token in argument.tokens:
            if token.source != "cli":
                continue  # of a file, which has looked at it
            name = token.keyword or argument.name
            if not token.value and token.keyword is None and argument.is_flag():
                continue
            check_word(name, token.value, kinds, (commands[-1:] or ("",))[0])


def check_word(
    name: str, value: str, kinds: tuple[Any, ...], command: str, place: str = ""
) -> None:
    """Refuse one word that is no number where one belongs, or empty.

    Args:
        name: of its option.
        value: the word.
        kinds: what the option takes.
        command: whose option it is.
        place: where the word stands, if not on the command line.

    Raises:
        UsageError: such a word.
    """
    if bool in kinds:
        return
    if not value.strip() and (command, name) not in _MAY_BE_EMPTY:
        fix = "give a value, or leave it out; was it a variable of the shell that is not set?"
        raise UsageError(f"{name} is empty", fix=fix)
    if str in kinds or not {int, float} & {*kinds}:
        return
    words = [str(word) for kind in kinds for word in get_args(kind)]
    if value in words or (float in kinds and _number(value) is not None):
        return
    number = _number(value) if "." in value else None
    if int in kinds and (_is_whole(value) or (number is not None and number.is_integer())):
        return
    share = ", and a share as 0.1 for 10%" if float in kinds and value.endswith("%") else ""
    number_words = f"a number{share}" if float in kinds else "a whole number, in digits"
    allowed = ", or ".join([number_words, *words])
    raise UsageError(f"{name} is {value!r}", place=place, fix=f"give {allowed}")


def kinds_of(hint: Any) -> Iterator[Any]:
    """The members of a union but for None; else the annotation itself."""
    if get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            yield from kinds_of(member)
    elif hint is not NoneType:
        yield hint


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _is_whole(value: str) -> bool:
    try:
        int(value)
    except ValueError:
        return False
    return True


def problem_and_fix(error: CycloptsError, usage: str) -> tuple[str, str]:
    """What is wrong with the words of a command line, and what to type.

    Args:
        error: of the parser.
        usage: how the command is typed; empty where there is no such command.
    """
    error.verbose = False
    command = error.command_chain or ()
    name = command[-1] if command else ""
    see = f"see {' '.join(['bertolt', *command])} --help"
    if isinstance(error, UnknownOptionError):
        option = error.token.keyword or error.token.value
        collection = error.argument_collection or ()
        if option == "-":
            return _no_input(name, usage or see)
        return _unknown(name, option, [own for each in collection for own in each.names], see)
    if isinstance(error, UnusedCliTokensError):
        unused = error.unused_tokens or []
        quoted = ", ".join(map(repr, unused))
        words = error.root_input_tokens or []
        place = words.index(unused[0]) if unused and unused[0] in words else 0
        if place > 0 and words[place - 1].startswith("--"):
            return (
                f"{words[place - 1]} takes no value, and {quoted} follows",
                f"leave {quoted} out, or put it in front of the options",
            )
        return f"nothing is done with {quoted}", see
    argument = error.argument
    if isinstance(error, RepeatArgumentError):
        repeated = error.token.keyword
        return f"{repeated} is there more than once", f"give {repeated} once"
    if isinstance(error, MissingArgumentError) and argument is not None:
        if argument.name.startswith("-"):
            return f"{argument.name} lacks its value", see
        return f"{argument.name} is missing", f"type {usage}; {see}" if usage else see
    if (
        isinstance(error, CoercionError)
        and argument is not None
        and bool in kinds_of(argument.hint)
    ):
        return f"{argument.name} takes no value", f"give {argument.name} alone, or leave it out"
    return str(error), see


def _no_input(name: str, usage: str) -> tuple[str, str]:
    """Of a "-" where no standard input is read: its problem and fix."""
    if name == "predict":
        return (
            "- stands for standard input, which is read alone and named behind the model",
            "bertolt predict MODEL -, with any options behind it; or name files instead",
        )
    file = "name a file: " if re.search("FILE|TRAIN|CORPUS", usage) else ""
    return "- stands for standard input, which is not read here", f"{file}{usage}"


def _unknown(name: str, typed: str, options: Sequence[str], see: str) -> tuple[str, str]:
    """Of an option that a command does not have: its problem and fix."""
    option = typed.partition("=")[0]
    problem = f"there is no option {option}"
    spelt = option.replace("_", "-")
    called = NAMES_ELSEWHERE.get(name, {}).get(spelt)
    if called is not None:
        return problem, f"type {called} instead"
    if spelt in ("--model", "--file", "--model-name-or-path", "--input") and name in _MODEL_FIRST:
        return problem, f"leave the option out: bertolt {name} {_MODEL_FIRST[name]}"
    other = _NO_OPTION.get(spelt, "")
    if other and all(word in options for word in other.split() if word.startswith("--")):
        return problem, other
    near = difflib.get_close_matches(spelt, options, n=1, cutoff=_LIKE)
    return problem, f"did you mean {near[0]}? Else {see}" if near else see
