"""Every option that a message of the library names is an option of the command that says it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import bertolt
from bertolt.base.options import flag
from bertolt.cli import app
from bertolt.commands.file_options import FileOptions

ROOT = Path(bertolt.__file__).parent
COMMANDS = (
    *("finetune", "evaluate", "predict", "inspect", "report", "bench", "demo", "migrate"),
    *("check", "compare", "search", "export", "serve"),
    *("tokenizer", "prepare", "pretrain", "plan"),
)
# Where a module speaks for some commands alone; all others speak for any.
SPEAKS_FOR = {
    "commands/finetune/": ("finetune", "demo"),
    "commands/check/": ("check",),
    "commands/compare.py": ("compare",),
    "commands/search.py": ("search",),
    "commands/search_options.py": ("search",),
    "commands/evaluate.py": ("evaluate", "compare"),
    "commands/label_names.py": ("evaluate", "compare"),
    "commands/predict.py": ("predict",),
    "commands/questions.py": ("predict",),
    "commands/outputs.py": ("predict",),
    "commands/inspect.py": ("inspect",),
    "commands/bench.py": ("bench",),
    "commands/migrate.py": ("migrate",),
    "commands/export": ("export",),
    "commands/serve": ("serve",),
    "pretrain/plan.py": ("plan", "pretrain"),
    "pretrain/": ("pretrain", "plan"),
    "corpus/": ("tokenizer", "prepare", "pretrain"),
}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z0-9]")


def options_of(command: str) -> set[str]:
    """Those that the parser of a command takes."""
    return {name for argument in app[command].assemble_argument_collection()
            for name in argument.names if name.startswith("--")}  # fmt: skip


OPTIONS = {command: options_of(command) for command in COMMANDS}


def fixes(path: Path) -> Iterator[tuple[int, str]]:
    """The texts given as `fix=` in a module, with their lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "fix":
            texts = [
                each.value
                for each in ast.walk(node.value)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            ]
            yield node.value.lineno, " ".join(texts)


def test_the_parser_tells_its_options() -> None:
    assert {"--model", "--text", "--out"} <= OPTIONS["finetune"]
    assert "--text" in OPTIONS["predict"]
    assert "--learning-rate" not in OPTIONS["finetune"]


def test_commands_that_read_and_answer_files_take_what_its_messages_name() -> None:
    """`compare --on` answers by `evaluate`; all of them read by the same options."""
    assert OPTIONS["evaluate"] - {"--by", "--sample"} <= OPTIONS["compare"]
    reading = {flag(each.name) for each in fields(FileOptions)}
    for command in ("finetune", "evaluate", "predict", "check", "search", "compare", "export"):
        assert reading <= OPTIONS[command], command


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_fixes_name_options_that_are_there(path: Path) -> None:
    module = path.relative_to(ROOT).as_posix()
    speaks_for = next((who for start, who in SPEAKS_FOR.items() if module.startswith(start)), ())
    known: set[str] = set().union(*(OPTIONS[command] for command in speaks_for or COMMANDS))
    for line, text in fixes(path):
        named = set(OPTION.findall(text))
        # A fix may show a whole command of another name.
        shown = [command for command in COMMANDS if f"bertolt {command}" in text]
        others = {"--nproc-per-node"} if "torchrun" in text else set()
        others |= {"--upgrade"} if "pip install" in text else set()
        allowed = known.union(others, *(OPTIONS[command] for command in shown))
        assert named <= allowed, f"{module}:{line} names {sorted(named - allowed)}"
