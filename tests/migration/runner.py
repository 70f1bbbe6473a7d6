"""Run programs one after another in this process, and write what each has printed.

    python runner.py LIST.json ANSWERS.json

LIST.json has a list of objects: `file`, the program; `folder`, where it runs; `words`, its command
line. ANSWERS.json gets for each the `lines` that it printed itself, and the end of its `error`.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

# Products in bfloat16 are slow then, so that no library takes them unless the program asks for it.
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def run(file: str, folder: str, words: list[str]) -> dict[str, Any]:
    """Run a program in a folder: what it printed, and the error that ended it, or None.

    Of what libraries print, such as progress, nothing counts: the program's own `print` is another.
    """
    printed = io.StringIO()

    def own_print(*values: object, sep: str = " ", end: str = "\n") -> None:
        printed.write(sep.join(map(str, values)) + end)

    error, before, start = None, Path.cwd(), time.perf_counter()
    os.chdir(folder)
    sys.argv = [file, *words]
    try:
        with redirect_stdout(sys.stderr):
            runpy.run_path(file, {"print": own_print}, run_name="__main__")
    except BaseException as reason:  # noqa: BLE001
        error = "".join(traceback.format_exception(reason))[-3000:]
    finally:
        os.chdir(before)
        _forget_accelerate()
    seconds = time.perf_counter() - start
    return {"lines": printed.getvalue().splitlines(), "error": error, "seconds": seconds}


def _forget_accelerate() -> None:
    """Let the next program begin as in a process of its own."""
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


if __name__ == "__main__":
    asked, answers = map(Path, sys.argv[1:])
    done = [run(**entry) for entry in json.loads(asked.read_text(encoding="utf-8"))]
    answers.write_text(json.dumps(done, indent=1), encoding="utf-8")
