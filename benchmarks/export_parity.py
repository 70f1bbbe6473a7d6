"""How far graphs are from their models: every task × engine, over shapes and answers.

The first two layers of the demo's checkpoint, with a head of each task that is drawn by a seed:
`python -m benchmarks.export_parity OUT.md`. What does not agree ends it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.commands.export import export_model
from bertolt.commands.export_options import ExportOptions
from bertolt.models.families.base import read_config
from bertolt.tasks.registry import SHIPPED
from bertolt.tokenization import BertTokenizer

FORMATS = ("onnx", "openvino")


def main(out: Path) -> None:
    """Export every task to every format, and write the table."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for kind in SHIPPED:
            folder = Path(work) / kind.name
            config = read_config(demo_checkpoint())
            task = kind.restore(config.changed(id2label={0: "a", 1: "b", 2: "c"}), {})
            named = {**task.config_changes(), "num_hidden_layers": 2}
            model = task.head.from_pretrained(demo_checkpoint(), verbose=False, **named)
            model.save_pretrained(folder)
            BertTokenizer.from_pretrained(demo_checkpoint()).save_pretrained(folder)
            for form in FORMATS:
                options = ExportOptions(
                    out=Path(work) / f"{kind.name}-{form}",
                    format=form,  # type: ignore[arg-type]
                    task=kind.name,
                )
                result = export_model(str(folder), options)
                card, measured = result.card, result.card.measured
                outputs = ", ".join(
                    f"{name} {' × '.join(map(str, dims))}" for name, dims in card.outputs.items()
                )
                rows.append(
                    f"| {kind.name} | {card.engine} | {measured['outputs']:.1e} | "
                    f"{measured['answers']:.1e} | {outputs} |"
                )
                print(rows[-1], flush=True)
    shapes = ", ".join(f"{size}×{length}" for size, length in measured["shapes"])
    versions = ", ".join(f"{name} {version}" for name, version in card.versions.items())
    head = [
        "# Graphs beside their models",
        "",
        "Largest difference of outputs, beside their size where that is above 1, over the shapes",
        f"{shapes} (batch × length),",
        f"and of the numbers in answers to {measured['texts']} texts. fp32 on both sides;",
        "`python -m benchmarks.export_parity`, with the versions of the last row:",
        f"{versions}.",
        "",
        "| Task | Engine | Outputs | Answers | Gives |",
        "| --- | --- | --- | --- | --- |",
    ]
    out.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
