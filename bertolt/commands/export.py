"""What `bertolt export` does: a model as a graph, held to the model's answers, with all beside it.

The folder is filled beside its place and takes it when everything agrees.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.console import hushed, info
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.files import disk_errors, require_apart, staged_folder
from bertolt.checkpoint import contract, exported, huggingface, sentence_files
from bertolt.checkpoint.exported import Exported
from bertolt.commands import calibration
from bertolt.commands.arguments import require_model_first
from bertolt.commands.bench import generate_texts
from bertolt.commands.evaluate import WITHOUT_MAP, evaluate_file, rows_to_measure
from bertolt.commands.evaluate_options import EvaluateOptions
from bertolt.commands.export_options import ExportOptions
from bertolt.commands.wording import options_called
from bertolt.data.load import Table
from bertolt.export import card as cards
from bertolt.export import files
from bertolt.export.graph import Graph
from bertolt.export.parity import OUTPUTS, Parity, distance, require_parity
from bertolt.models.engine import Feed
from bertolt.tasks.answers import TOLERANCE
from bertolt.tasks.base import Example
from bertolt.tasks.evaluation import Scores
from bertolt.tasks.predictor import Predictor

CONFIG = "config.json"
_TOKENIZER = frozenset({"tokenizer.json", "tokenizer_config.json", "vocab.txt"})
WRITTEN = frozenset(
    {"model.onnx", "model.onnx.data", "model.xml", "model.bin", CONFIG, contract.FILE}
    | {exported.FILE, cards.FILE, *_TOKENIZER, *sentence_files.WRITTEN, "2_Normalize"}
)
"""What an exported folder may hold."""
ROUNDING = 1e-9
"""Of the difference of two scores: a loss that is just allowed is no more than that."""
_TEXTS = 8  # that are answered where no contract keeps any


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What `export` wrote.

    Attributes:
        folder: with everything.
        card: of it.
        size: bytes of the graph.
    """

    folder: Path
    card: Exported
    size: int

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values."""
        return {"folder": str(self.folder), "size": self.size, **asdict(self.card)}

    def __str__(self) -> str:
        card = self.card
        opset = "" if card.opset is None else f", opset {card.opset}"
        lines = [
            f"{self.folder}: {card.task} for {card.engine}, {card.graph} in {card.precision}"
            f"{opset}, {self.size / 1e6:,.1f} MB",
            f"takes {_told(card.inputs)}",
            f"gives {_told(card.outputs)}",
            *_distances(card),
        ]
        if score := card.score:
            lines.append(
                f"{score['metric']} on {score['rows']:,} rows of {score['file']}: "
                f"{score['before']:.4f} in fp32, {score['after']:.4f} in int8, "
                f"{cards.calibration(score)}"
            )
        lines.append(f"bertolt predict {self.folder} --text …")
        return "\n".join(lines)


def _distances(card: Exported) -> list[str]:
    """How far the graph is from the model; of one in 8 bits also how far that in fp32 was."""
    measured = card.measured
    shapes, texts = len(measured["shapes"]), measured["texts"]
    fp32 = (
        f"outputs within {measured['outputs']:.1e} of the model's over {shapes} shapes, "
        f"answers to {texts} texts within {measured['answers'] or 0:.1e}"
    )
    if (int8 := measured.get("int8")) is None:
        return [fp32]
    answers = cards.answers_in_int8(int8, texts)
    written = f"outputs within {int8['outputs']:.1e} of the model's over {shapes} shapes, {answers}"
    return [f"in int8, which was written: {written}", f"in fp32, before that: {fp32}"]


def _told(values: dict[str, list[str | int]]) -> str:
    return ", ".join(f"{name} ({' × '.join(map(str, dims))})" for name, dims in values.items())


def export_model(model: str, options: ExportOptions) -> ExportResult:
    """Write a model as a graph of another runtime.

    Args:
        model: folder of a fine-tuned model, or an id on the hub.
        options: settings.

    Raises:
        ParityError: the graph does not answer as the model; nothing is written then.
        UsageError: a package is not installed, the output is in use, or int8 loses too much.
        CheckpointError: the model cannot be used, or was exported already.
    """
    require_model_first("export", model, None)
    files.require_installed(options.format, int8=options.int8)
    folder = huggingface.resolve(model)
    if Exported.read(folder) is not None:
        raise CheckpointError(
            "it is an exported model already",
            place=str(folder),
            fix="name the folder that it was exported from",
        )
    require_apart(options.out, [str(folder)], "--out")
    predictor = Predictor.from_pretrained(
        folder, task=options.task, precision="fp32", device=torch.device("cpu"), engine="torch"
    )
    if options.int8:
        _check_files(predictor, options)
    staged = staged_folder(options.out, overwrite=options.overwrite, ours=WRITTEN)
    with staged as stage, disk_errors(options.out):
        card = _write(predictor, folder, stage, options)
        size = sum(path.stat().st_size for path in stage.glob("model.*"))
    return ExportResult(folder=options.out, card=card, size=size)


def _check_files(predictor: Predictor, options: ExportOptions) -> None:
    """Read the files of int8 as they will be measured, before a graph is written for minutes.

    Raises:
        BertoltError: one cannot be used: a column, a label or the task.
    """
    assert options.calibrate is not None
    settings = _settings(options)

    def part(table: Table) -> NDArray[np.int64]:
        if options.format in files.CALIBRATED and options.score_on is None:
            calibration.calibrating(table)  # which needs two texts
        return calibration.everything(table)

    with hushed(), options_called(WITHOUT_MAP):  # it is told where it is measured
        rows_to_measure(predictor, [options.calibrate], settings, part=part)
        if options.score_on is not None:
            rows_to_measure(predictor, [options.score_on], settings)


def _write(predictor: Predictor, folder: Path, stage: Path, options: ExportOptions) -> Exported:
    """Fill the folder; the card is written last, by which others know it."""
    info(f"Writing {options.format}")
    _copy(predictor, folder, stage)
    name = files.write_graph(options.format, Graph(predictor.model), stage)
    inputs, outputs = files.read_dimensions(options.format, stage / name)
    card = Exported(
        format=options.format,
        graph=name,
        precision="fp32",
        task=predictor.task.name,
        max_length=predictor.max_length,
        inputs=inputs,
        outputs=outputs,
        tolerance={"outputs": OUTPUTS, "answers": TOLERANCE},
        versions=files.versions(options.format),
        opset=files.OPSET if options.format == "onnx" else None,
    )
    card.write(stage)
    info("Holding its answers to the model's")
    graph = Predictor.from_pretrained(stage)
    examples = list(_examples(predictor))
    parity = require_parity(predictor, graph, examples)
    card = replace(card, measured=_measured(parity))
    if options.int8:
        card = _quantised(graph, stage, card, options)
        far = distance(predictor, Predictor.from_pretrained(stage), examples)
        card = replace(card, measured={**card.measured, "int8": asdict(far)})
    cards.write_card(card, stage)
    return card


def _measured(parity: Parity) -> dict[str, Any]:
    return {**asdict(parity), "shapes": [list(shape) for shape in parity.shapes]}


def _copy(predictor: Predictor, folder: Path, stage: Path) -> None:
    """All that prepares texts and reads answers, as it stands beside the weights."""
    predictor.tokenizer.save_pretrained(stage)
    for name in (CONFIG, contract.FILE):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, stage / name)
    vectors = sentence_files.SentenceFiles.read(folder)
    if vectors is not None:
        vectors.write(stage, predictor.model.config.hidden_size)


def _examples(predictor: Predictor) -> Iterator[Example]:
    """What is asked of both: the golden inputs of the contract, and texts of the vocabulary."""
    if predictor.contract is not None:
        yield from (golden.example for golden in predictor.contract.golden)
        if predictor.contract.golden:
            return
    task, texts = predictor.task, generate_texts(predictor.tokenizer, 3 * _TEXTS)
    mask = str(getattr(predictor.tokenizer, "mask_token", ""))
    for first, second, third in zip(texts[::3], texts[1::3], texts[2::3], strict=True):
        if task.several_pairs:
            yield {"text": first, "text_pair": [second, third]}
        elif predictor.takes_pairs:
            yield {"text": first, "text_pair": second}
        elif task.question_fault({"text": first}) is not None:
            yield {"text": f"{first} {mask} {second}"}
        else:
            yield {"text": first}


def _quantised(graph: Predictor, stage: Path, card: Exported, options: ExportOptions) -> Exported:
    """The card of the graph in 8 bits, which takes the place of the one in fp32."""
    assert options.calibrate is not None
    scored, feeds = options.score_on or options.calibrate, Feeds()
    part = calibration.Counted(calibration.everything)
    calibrated = {"file": options.calibrate.name, "rows": 0}
    if card.format in files.CALIBRATED:
        info("Reading the rows that int8 is calibrated on")
        apart = options.score_on is not None
        read = calibration.Counted(calibration.whole if apart else calibration.calibrating)
        _score(graph, options.calibrate, options, read, feeds)
        calibrated["rows"] = read.rows
        if options.score_on is None:
            part = calibration.Counted(calibration.measured)
    before = _score(graph, scored, options, part)
    info("Writing int8")
    files.quantise(card.format, stage / card.graph, feeds.kept)
    card = replace(card, precision="int8")
    card.write(stage)
    quantised = Predictor.from_pretrained(stage)
    after = _score(quantised, scored, options, part)
    primary = after.task.primary
    old, new = (float(each.scorer.values()[primary.name]) for each in (before, after))
    loss = old - new if primary.greater else new - old
    if not loss <= options.max_loss + ROUNDING:
        raise UsageError(
            f"int8 loses {loss:.4g} of {primary.title}: it is {old:.4f} in fp32 and {new:.4f} in "
            f"int8, and {options.max_loss:g} is allowed",
            place=str(scored),
            fix="leave --int8 out, or state with --max-loss what it may lose; nothing was exported",
        )
    if quantised.contract is not None:  # its answers are its own, and tests hold it to those
        asked = [entry.example for entry in quantised.contract.golden]
        replace(quantised.contract, golden=quantised.make_golden(asked)).write(stage)
    score = {
        "metric": primary.name,
        "before": old,
        "after": new,
        "file": scored.name,
        "rows": part.rows,
        "max_loss": options.max_loss,
        "calibrated": calibrated,
    }
    return replace(card, score=score)


class Feeds:
    """Some of what a graph is given, in small batches.

    Attributes:
        kept: the batches.
    """

    def __init__(self) -> None:
        self.kept: list[Feed] = []

    def __call__(self, feed: Feed) -> None:
        """Keep a batch, in parts; places count through all of its rows."""
        size = len(feed["input_ids"]) if "places" in feed else calibration.ROWS
        for start in range(0, len(feed["input_ids"]), size):
            if len(self.kept) < calibration.FEEDS:
                part = slice(start, start + size)
                self.kept.append({n: v if n == "places" else v[part] for n, v in feed.items()})


def _score(
    predictor: Predictor,
    file: Path,
    options: ExportOptions,
    part: calibration.Counted,
    watch: Callable[[Feed], None] | None = None,
) -> Scores:
    """Measure a graph on a file, or on a part of its rows; `watch` sees what the graph is given."""
    assert predictor.graph is not None
    predictor.graph.watch = watch
    with options_called(WITHOUT_MAP):
        return evaluate_file(predictor, file, _settings(options), part=part)


def _settings(options: ExportOptions) -> EvaluateOptions:
    """How the files are read and measured."""
    return EvaluateOptions(
        text=options.text,
        text_pair=options.text_pair,
        label=options.label,
        task=options.task,
        **options.plain(),
    )
