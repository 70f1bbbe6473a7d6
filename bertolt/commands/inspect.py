"""What `bertolt inspect` does: tell what a model folder holds, or walk a text through the model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertolt.base import torch_private
from bertolt.base.console import info
from bertolt.base.errors import CheckpointError, UsageError
from bertolt.base.format import percent, plural
from bertolt.base.json_files import read_json
from bertolt.base.paths import has_file
from bertolt.checkpoint import huggingface
from bertolt.checkpoint.contract import Contract
from bertolt.commands.arguments import require_model_first, require_output
from bertolt.commands.questions import require_text
from bertolt.commands.wording import options_called
from bertolt.data.describe import shown
from bertolt.models.families.base import read_config, saved_class
from bertolt.models.pretrained import PreTrainedModel
from bertolt.report.walk import Answer, Walk, walk_table, walk_through, write_walk
from bertolt.tasks.predictor import Predictor
from bertolt.tokenization import BertTokenizer


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a model folder holds.

    Attributes:
        folder: where it is.
        model: loaded, with its load report.
        tokens: of the tokenizer; None without a tokenizer.
        contract: how texts are prepared for it, or None.
        metrics: the content of `metrics.json`; empty without such a file.
    """

    folder: Path
    model: PreTrainedModel
    tokens: int | None
    contract: Contract | None
    metrics: dict[str, object]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        config = self.model.config
        yield str(self.folder)
        yield (
            f"  {type(self.model).__name__}: "
            f"{plural(config.num_hidden_layers, 'layer')}, hidden {config.hidden_size:,}, "
            f"{plural(config.num_attention_heads, 'head')}, {config.max_tokens:,} "
            f"positions, {self.model.num_parameters() / 1e6:.1f} M parameters"
        )
        yield f"  {_tokenizer_words(self.tokens, config.vocab_size)}"
        if self.contract is not None:
            yield (
                f"  {self.contract.task} of {_columns_words(self.contract)}; "
                f"up to {self.contract.max_length} tokens at once{_longer_words(self.contract)}"
            )
        if self.model.outputs_have_names:
            yield f"  {plural(config.num_labels, 'label')}: {_listed(config.id2label.values())}"
        measured = self.metrics.get("eval")
        if isinstance(measured, dict):
            yield from _measured_words(measured)
        yield from _load_table(self.model)
        yield from (f"  slower with this PyTorch: {each}" for each in torch_private.off())


def _longer_words(contract: Contract) -> str:
    """What is done with longer texts, where that is not what the task does."""
    words = {
        "error": "longer texts refused",
        "head-tail": "longer texts without their middle",
        "window": "longer texts in windows",
    }
    how = words.get(str(contract.long.get("how")))
    stride = contract.long.get("stride")
    overlap = "" if stride is None else f", each with {stride} of the one before"
    return f"; {how}{overlap}" if how else ""


def _columns_words(contract: Contract) -> str:
    texts = [name for role, names in contract.columns.items() if role != "label" for name in names]
    names = " and ".join(f"'{shown(name)}'" for name in texts)
    return f"the column{'s' * (len(texts) > 1)} {names}"


def _measured_words(measured: Mapping[str, object]) -> Iterator[str]:
    """The primary metric after training; older folders do not name it."""
    name = str(measured.get("primary", "accuracy"))
    value, rows = measured.get(name), measured.get("rows")
    if isinstance(value, int | float):
        number = percent(value) if 0 <= value <= 1 else f"{value:.4g}"
        on = f" on {plural(rows, 'row')}" if isinstance(rows, int) else ""
        yield f"  measured after training: {name} {number}{on}"


def _tokenizer_words(tokens: int | None, vocab_rows: int) -> str:
    if tokens is None:
        return f"no tokenizer here; word embedding: {vocab_rows:,} rows"
    unused = vocab_rows - tokens
    rest = f", {unused:,} of its rows have no token" if unused else ""
    return f"tokenizer: {tokens:,} tokens; word embedding: {vocab_rows:,} rows{rest}"


def _listed(names: Iterable[str], most: int = 20) -> str:
    words = [shown(name) for name in names]
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")


def _load_table(model: PreTrainedModel) -> Iterator[str]:
    assert model.load_report is not None
    rows = model.load_report.rows()
    yield f"  {len(model.load_report.loaded)} tensors loaded, each compared with the file:"
    width = max(len(name) for _, name, _, _ in rows)
    for status, name, count, note in rows:
        yield f"    {status:<11} {count:>3}  {name:<{width}}  {note}".rstrip()


def inspect_model(
    model: str,
    *,
    selftest: bool = False,
    text: str | None = None,
    pair: str | None = None,
    html: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Print what a model folder holds and how its weights load; 1 if a self-test fails.

    Args:
        model: folder of the model, or an id on the hub.
        selftest: answer the golden texts again and compare.
        text: walk this text through the model instead, and print what happens to it.
        pair: a second text for the walk.
        html: write the walk as a page to this file instead of printing it.
        overwrite: replace the file that has the name of `html`.

    Raises:
        CheckpointError: the model cannot be loaded, or has nothing to test itself with.
        UsageError: options that do not go together, a text with nothing in it, or a page that is
            there already.
        BertoltError: `html` cannot be written; nothing is then left there.
    """
    require_model_first("inspect", model, None)
    _check_walk(selftest, text, pair, html)
    if html is not None:
        require_output(html, "--html", overwrite=overwrite, inputs=(model,))
    if text is not None:
        walk = walk_text(model, text, pair)
        if html is None:
            _print(walk_table(walk))
        else:
            with options_called({"--out": "--html"}):
                write_walk(walk, html, replace=overwrite)
            info(f"Saved to {html}: {plural(len(walk.steps), 'step')} of {shown(text)!r}")
        return 0
    inspection = look_into(model)
    _print(str(inspection))
    return _run_selftest(inspection) if selftest else 0


def walk_text(model: str, text: str, pair: str | None = None) -> Walk:
    """Walk a text, or a pair of texts, through a model, with the answer of its task.

    Args:
        model: a folder, or an id on the hub.
        text: longer ones are cut where the model was trained to cut.
        pair: a second text.

    Raises:
        CheckpointError: the model cannot be loaded, or its tokenizer does not fit it.
        DataError: the input has segments that the model does not know.
    """
    inspection = look_into(model)
    tokenizer = BertTokenizer.from_pretrained(inspection.folder)
    tokenizer.check_fits(inspection.model.config.vocab_size)
    answer, remarks = _answer(inspection, tokenizer, text, pair)
    contract, limit = inspection.contract, inspection.model.config.max_tokens
    return walk_through(
        inspection.model,
        tokenizer,
        text,
        pair,
        name=model,
        limit=min(contract.max_length, limit) if contract else limit,
        answer=answer,
        remarks=remarks,
    )


def _answer(
    inspection: Inspection, tokenizer: BertTokenizer, text: str, pair: str | None
) -> tuple[Answer | None, list[str]]:
    """What the model's task says of the text, and what has to be known of it; None with a reason
    where there is a task and no answer."""
    model = inspection.model
    if not (model.outputs_have_names or model.answers_with_ends):
        return None, []
    if model.load_report is not None and model.load_report.initialised:
        return None, ["The head is new, so there is no answer to show."]
    cpu = torch.device("cpu")
    predictor = Predictor(model, tokenizer, inspection.contract, precision="fp32", device=cpu)
    if predictor.takes_pairs and pair is None:
        return None, ["The model answers pairs of texts: give the second one with --pair."]
    single = predictor.trained_on_pairs is False and pair is not None
    remarks = ["The model was trained on single texts, and this is a pair."] if single else []
    example = {"text": text} if pair is None else {"text": text, "text_pair": pair}
    (prediction,) = predictor.predict([example])
    answer = Answer(
        words=predictor.task.describe_answer(prediction.answer),
        blocks=predictor.task.answer_blocks(prediction.answer, example),
        tokens_cut=prediction.tokens_cut,
    )
    if prediction.truncated and predictor.long.how == "head-tail":
        remarks.append("The answer is to its first and its last part; its beginning is shown here.")
    return answer, remarks


def _check_walk(selftest: bool, text: str | None, pair: str | None, html: Path | None) -> None:
    for name, value in (("--pair", pair), ("--html", html)):
        if value is not None and text is None:
            raise UsageError(
                f"{name} belongs to a walk of a text, and no text was given",
                fix='give the text: --text "…"',
            )
    if text is not None and selftest:
        raise UsageError("--selftest and --text were both given", fix="give one of them")
    for name, value in (("--text", text), ("--pair", pair)):
        if value is not None:
            if not value or value.isspace():
                raise UsageError("the text is empty", place=name, fix="give it some words")
            require_text(value, name, "give it in UTF-8")


def look_into(model: str) -> Inspection:
    """Load all that a model folder holds.

    Raises:
        CheckpointError: a part is missing or broken, or does not fit the others.
    """
    folder = huggingface.resolve(model)
    config = read_config(folder)
    kind: Any = saved_class(config)
    model_here = kind.from_pretrained(folder, verbose=False)
    tokens = None
    if any(has_file(folder / name) for name in ("tokenizer.json", "vocab.txt")):
        tokenizer = BertTokenizer.from_pretrained(folder)
        tokenizer.check_fits(config.vocab_size)
        tokens = len(tokenizer)
    return Inspection(
        folder=folder,
        model=model_here,
        tokens=tokens,
        contract=Contract.read(folder),
        metrics=_read_metrics(folder / "metrics.json"),
    )


def _read_metrics(path: Path) -> dict[str, object]:
    if not has_file(path):
        return {}
    try:
        values = read_json(path)
    except ValueError as error:
        raise CheckpointError(
            f"not readable as JSON ({error})", place=str(path), fix="delete the file"
        ) from error
    return values if isinstance(values, dict) else {}


def _run_selftest(inspection: Inspection) -> int:
    golden = inspection.contract.golden if inspection.contract else []
    if not golden:
        raise CheckpointError(
            "there are no golden texts to test with",
            place=str(inspection.folder),
            fix="fine-tune with bertolt, which keeps some in bertolt.json",
        )
    faults = Predictor.as_saved(inspection.folder).selftest()
    for fault in faults:
        _print(f"  self-test: {fault}")
    texts = plural(len(golden), "golden text")
    _print(
        f"  self-test failed: {len(faults)} of {texts} answered otherwise than when saved"
        if faults
        else f"  self-test passed: {texts} answered as when saved"
    )
    return 1 if faults else 0


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
