"""The picture of a report in the README: `python docs/picture.py demo-out/report.html`.

It needs Chromium or Chrome, which Bertolt does not install; without one it says so and ends with 2.
The report is the demo's, `make demo`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent / "assets" / "report.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1000, 1020  # of the window: the first part of the page
COLOURS = 48  # of a page in few colours, so that the file stays small


def take(report: Path) -> None:
    """Write the first part of a report as `PICTURE`."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.stderr.write(f"none of {', '.join(BROWSERS)} is here, and one is needed\n")
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.png"
        options = [
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--user-data-dir={folder}/profile",
            f"--screenshot={whole}",
        ]
        command = [browser, *options, report.resolve().as_uri()]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        image = Image.open(whole).convert("RGB").quantize(COLOURS)
        image.save(PICTURE, optimize=True)
    print(f"{PICTURE}: {image.width} × {image.height}, {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name the report: python docs/picture.py demo-out/report.html")
    take(Path(sys.argv[1]))
