"""The report of a run: `RunRecord` says what happened, `write_report` draws it as one HTML page."""

from bertolt.report.build import render_report, write_report
from bertolt.report.record import (
    ClassScore,
    CurvePoint,
    DataAccount,
    DroppedRows,
    EvalPoint,
    Evaluation,
    LabelCount,
    LengthAccount,
    LoadRow,
    Machine,
    Measure,
    Mistake,
    ModelSummary,
    RunRecord,
    TrainingLog,
)

__all__ = [
    "ClassScore",
    "CurvePoint",
    "DataAccount",
    "DroppedRows",
    "EvalPoint",
    "Evaluation",
    "LabelCount",
    "LengthAccount",
    "LoadRow",
    "Machine",
    "Measure",
    "Mistake",
    "ModelSummary",
    "RunRecord",
    "TrainingLog",
    "render_report",
    "write_report",
]
