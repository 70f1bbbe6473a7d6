"""One measurement in this process: prints what it found as a line of JSON.

python -m benchmarks.worker JOB.json CONTESTANT --started TIME --seed N
python -m benchmarks.worker --products
"""

from __future__ import annotations

import argparse
import json

from benchmarks.contestants import CONTESTANTS
from benchmarks.job import Found, Job, peak_memory_mb


def products() -> Found:
    """GFLOP/s of this machine's matrix products, by number format."""
    from bertolt.commands.bench import FORMATS
    from bertolt.models.precision import product_rate

    return {name: product_rate(dtype) for name, dtype in FORMATS.items()}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", nargs="?")
    parser.add_argument("contestant", nargs="?", choices=CONTESTANTS)
    parser.add_argument("--started", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--products", action="store_true")
    options = parser.parse_args()
    if options.products:
        found = products()
    else:
        contestant = CONTESTANTS[options.contestant]
        found = contestant.measure(Job.load(options.job), options.started, options.seed)
        found["peak_memory_mb"] = peak_memory_mb()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
