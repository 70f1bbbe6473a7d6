"""The contract's table, class by check, printed with `pytest tests/contract --contract-table`."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest

from tests.contract.heads import HEADS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--contract-table", action="store_true", help="print class by check")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("contract_table", default=False):
        return
    names = sorted(map(str, HEADS), key=len, reverse=True)
    cells: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            found = re.search(r"::test_(\w+)\[(.*)\]", report.nodeid)
            if found and (name := next((n for n in names if n in found[2]), "")):
                cells[found[1].replace("_", " ")][name].append(outcome)
    columns = list(map(str, HEADS))
    terminalreporter.section("contract: check by class (+ passed, F failed, - does not apply)")
    for number, name in enumerate(columns, start=1):
        terminalreporter.write_line(f"{number:>3}  {name}")
    terminalreporter.write_line(" " * 80 + "".join(f"{n:>3}" for n in range(1, len(columns) + 1)))
    for check, row in cells.items():
        marks = "".join(f"{_mark(row.get(name, [])):>3}" for name in columns)
        terminalreporter.write_line(f"{check[:79]:<80}{marks}")


def _mark(outcomes: list[str]) -> str:
    if "failed" in outcomes:
        return "F"
    return "+" if "passed" in outcomes else "-"
