"""The report of a run: `run.json` holds its facts, `write_report` draws them as one HTML page."""

from bertolt.report.build import render_report, write_report
from bertolt.report.facts import FORMAT, RUN, plain, read_facts, write_facts

__all__ = ["FORMAT", "RUN", "plain", "read_facts", "render_report", "write_facts", "write_report"]
