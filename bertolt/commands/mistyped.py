"""What to type instead of words that a command does not know. Only light modules are imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    },
    "pretrain": _TRAINING | {"--eval-steps": "--eval-every", "--mlm-probability": "--mask"},
    "evaluate": {"--column": "--text", "--pair-column": "--text-pair"},
    "predict": {"--text-pair": "--pair-column", "--output": "--out", "--output-file": "--out"},
    "bench": {"--text": "--column"},
}
"""Of each command: how other programs, or other commands of ours, call an option, and its own."""

_ONE_TOO_MANY = {
    "finetune": "it takes one file; to evaluate on another, add --eval {0}",
    "evaluate": "it takes a model and one file: bertolt evaluate MODEL FILE",
    "predict": 'it takes a model and one file; a text goes behind --text, in quotes: --text "…"',
}


def fix_for(command: Sequence[str], option: str, unused: Sequence[str]) -> str:
    """What to type.

    Args:
        command: its words, without `bertolt`.
        option: that the command does not know; empty where another thing is wrong.
        unused: words that were left over.
    """
    name = command[-1] if command else ""
    called = NAMES_ELSEWHERE.get(name, {}).get(option.partition("=")[0].replace("_", "-"))
    if called is not None:
        return f"type {called} instead"
    if unused and name in _ONE_TOO_MANY:
        return _ONE_TOO_MANY[name].format(*unused)
    return f"see {' '.join(['bertolt', *command])} --help"
