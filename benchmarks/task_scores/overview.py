"""One table over the tasks of several sessions.

python -m benchmarks.task_scores.overview RECORD.json …

A task that stands in several records is shown as the last of them has it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.task_scores.page import MAIN, REFERENCE, spread, table

Record = dict[str, Any]
HEAD = ("task", "data", "figure", "Bertolt", "Trainer", "seconds a run", "peak memory, MB", "date")


def overview(records: list[Record]) -> str:
    """A row for each task: the figure over the seeds, and the medians of time and memory, of both
    sides; answers are scored in the way that both sides have."""
    rows: dict[str, list[str]] = {}
    for record in records:
        for name, entry in record["comparisons"].items():
            runs = {side: entry["sides"][side]["runs"] for side in (REFERENCE, "peer")}
            of, way = entry["settings"], next(iter(runs[REFERENCE][0]["scores"]))
            rows_of = f"{entry['rows']['train']:,} rows, {entry['rows']['test']:,} measured"
            figures = [
                spread(
                    [run["scores"][way if way in run["scores"] else ""][of["main"]] for run in r]
                )
                for r in runs.values()
            ]
            costs = [
                " / ".join(
                    f"{statistics.median(run[cost] for run in r):,.0f}" for r in runs.values()
                )
                for cost in ("seconds", "peak_memory_mb")
            ]
            rows[name] = [
                of["task"],
                f"{of['title']}; {rows_of}",
                MAIN[of["main"]] + (f", {way}" if way else ""),
                *figures,
                *costs,
                runs[REFERENCE][0]["date"][:10],
            ]
    return table(HEAD, list(rows.values()))


if __name__ == "__main__":
    print(overview([json.loads(Path(path).read_text("utf-8")) for path in sys.argv[1:]]))
