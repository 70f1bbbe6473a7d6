"""`README.md` of an exported folder: what its graph takes and gives, and how far it was tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertolt.base.files import write_text
from bertolt.checkpoint.exported import Exported

FILE = "README.md"


def write_card(card: Exported, folder: Path) -> None:
    """Write `export.json`, and the same for people."""
    card.write(folder)
    write_text(folder / FILE, card_text(card))


def card_text(card: Exported) -> str:
    """The page of an exported model, in Markdown."""
    opset = f", opset {card.opset}" if card.opset is not None else ""
    lines = [
        f"# {card.task}, {card.format} in {card.precision}",
        "",
        f"`{card.graph}`{opset} is run by {card.engine}. It was exported by Bertolt; "
        "`export.json` has the same for programs.",
        "",
        *_table("Input", card.inputs, "int64"),
        "",
        *_table("Output", card.outputs, "float32"),
        "",
        _said_of_inputs(card),
        "",
        "## How far it was tried",
        "",
        *_tried(card),
        "",
        "## Written with",
        "",
        *(f"- {name} {version}" for name, version in card.versions.items()),
    ]
    return "\n".join(lines) + "\n"


def _table(title: str, values: dict[str, list[str | int]], kind: str) -> list[str]:
    rows = [
        f"| `{name}` | {' × '.join(map(str, dims))} | {kind} |" for name, dims in values.items()
    ]
    return [f"| {title} | Shape | Numbers |", "| --- | --- | --- |", *rows]


def _said_of_inputs(card: Exported) -> str:
    said = (
        "`attention_mask` is 1 where there is a token and 0 at the padding, which is on the right."
    )
    if "places" in card.inputs:
        said += (
            " `places` are the tokens whose words are asked for, counted row by row: that of row b "
            "and column l is b · length + l."
        )
    return said


def _tried(card: Exported) -> list[str]:
    measured, tolerance = card.measured, card.tolerance
    shapes = ", ".join(f"{size}×{length}" for size, length in measured.get("shapes", []))
    lines = [
        f"- Outputs in fp32 differ from the model's by {measured.get('outputs', 0):.2g} at most, "
        f"where {tolerance['outputs']:g} is allowed; batch × length: {shapes}.",
    ]
    if measured.get("answers") is not None:
        lines.append(
            f"- Answers to {measured['texts']} texts differ by {measured['answers']:.2g} at most, "
            f"where {tolerance['answers']:g} is allowed."
        )
    if (int8 := measured.get("int8")) is not None:
        answers = answers_in_int8(int8, measured["texts"])
        lines.append(
            f"- In int8, outputs differ from the model's by {int8['outputs']:.2g} at most; "
            f"{answers}. What is allowed is the loss of score."
        )
    if card.score:
        score = card.score
        lines.append(
            f"- In int8, {score['metric']} on {score['rows']:,} rows of {score['file']} is "
            f"{score['after']:.4f}; it was {score['before']:.4f}, and a loss of "
            f"{score['max_loss']:g} is allowed. It was {calibration(score)}."
        )
    return lines


def answers_in_int8(int8: Mapping[str, Any], texts: int) -> str:
    """How far answers of a graph in 8 bits are from those of the model, in words."""
    others = int8["others"]
    said = [] if int8["answers"] is None else [f"within {int8['answers']:.1e}"]
    said += [f"{others} of another form"] if others else []
    return f"answers to {texts} texts {', '.join(said) or 'were not compared'}"


def calibration(score: Mapping[str, Any]) -> str:
    """What int8 was calibrated on, in words."""
    rows, file = score["calibrated"]["rows"], score["calibrated"]["file"]
    if not rows:
        return "calibrated on no rows: inputs of products are scaled as they come"
    other = "other " if file == score["file"] else ""
    return f"calibrated on {rows:,} {other}rows of {file}"
