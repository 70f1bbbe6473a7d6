"""How far graphs are from their models: every task × engine × family, over shapes and answers.

`python -m benchmarks.export_parity OUT.md`: the whole checkpoint of the demo, with real weights,
and a RoBERTa of its size whose weights are drawn by a seed, each with a head of each task that is
drawn too. The golden inputs are sentences and a long text. What does not agree ends it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import RobertaProcessing

from bertolt import BertTokenizer, RobertaConfig, RobertaModel
from bertolt.checkpoint.contract import Contract
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.commands.export import export_model
from bertolt.commands.export_options import ExportOptions
from bertolt.models.families.base import read_config
from bertolt.tasks.base import Task
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.registry import SHIPPED

FORMATS = ("onnx", "openvino")
SENTENCES = [
    "A warm, funny and very human film that never loses its way.",
    "Too long by half.",
    "The plot is thin, but the two leads make every scene worth watching.",
    "Nobody in this town believes the old man, and nobody asks him twice.",
    "Dull.",
    "It opens well, drifts for an hour, and ends where it began.",
]


def main(out: Path) -> None:
    """Export every task of both families to every format, and write the table."""
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        bases = {"demo": demo_checkpoint(), "RoBERTa": roberta(Path(work) / "roberta")}
        for family, base in bases.items():
            for kind in SHIPPED:
                if family == "RoBERTa" and kind.name == "next-sentence-prediction":
                    continue  # no head of it
                folder = Path(work) / family / kind.name
                build(base, kind, folder)
                for form in FORMATS:
                    options = ExportOptions(
                        out=folder.with_name(f"{kind.name}-{form}"),
                        format=form,  # type: ignore[arg-type]
                        task=kind.name,
                    )
                    card = export_model(str(folder), options).card
                    assert Predictor.from_pretrained(options.out, task=kind.name).selftest() == []
                    measured, last = card.measured, card.versions
                    outputs = ", ".join(
                        f"{name} {' × '.join(map(str, dims))}"
                        for name, dims in card.outputs.items()
                    )
                    rows.append(
                        f"| {family} | {kind.name} | {card.engine} | {measured['outputs']:.1e} | "
                        f"{measured['answers']:.1e} | {measured['texts']} | {outputs} |"
                    )
                    print(rows[-1], flush=True)
    shapes = ", ".join(f"{size}×{length}" for size, length in measured["shapes"])
    versions = ", ".join(f"{name} {version}" for name, version in last.items())
    head = [
        "# Graphs beside their models",
        "",
        "Largest difference of outputs, beside their size where that is above 1, over the shapes",
        f"{shapes} (batch × length),",
        "and of the numbers in answers to so many texts. fp32 on both sides;",
        "`python -m benchmarks.export_parity`, with the versions of the last row:",
        f"{versions}.",
        "",
        "| Model | Task | Engine | Outputs | Answers | Texts | Gives |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    out.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


def roberta(folder: Path) -> Path:
    """An encoder of the demo's size, with a byte-level vocabulary learned from the sentences."""
    learned = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator(SENTENCES * 9, vocab_size=600, special_tokens=special)
    learned._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=learned.get_vocab_size(),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=514,
        type_vocab_size=1,
        initializer_range=0.05,
    )
    RobertaModel(config).save_pretrained(folder)
    learned.save(str(folder / "tokenizer.json"))
    return folder


def build(base: Path, kind: type[Task], folder: Path) -> None:
    """A model of a task on an encoder, with golden answers where it has a contract."""
    torch.manual_seed(0)
    config = read_config(base).changed(id2label={0: "a", 1: "b", 2: "c"})
    task = kind.restore(config, {})
    model = task.head.from_pretrained(base, verbose=False, **task.config_changes())
    model.has_learned = True
    model.save_pretrained(folder)
    tokenizer = BertTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder)
    if kind.taught_by:
        return
    roles = {"text": ["text"]} | ({"text_pair": ["pair"]} if task.needs_pair else {})
    contract = Contract(
        task=kind.name,
        columns=roles,
        settings=task.settings(),
        max_length=model.config.max_tokens,
        library_version="",
    )
    predictor = Predictor(model, tokenizer, contract, task=task, precision="fp32")
    golden = predictor.make_golden(list(examples(task)))
    replace(contract, golden=golden).write(folder)


def examples(task: Task) -> Iterator[dict[str, Any]]:
    """The sentences, and a text beyond the limit, as the task is asked."""
    texts = [*SENTENCES, " ".join(SENTENCES * 12)]
    for number, text in enumerate(texts):
        other = texts[number - 1]
        if task.several_pairs:
            yield {"text": text, "text_pair": [other, texts[number - 2]]}
        elif task.needs_pair:
            yield {"text": text, "text_pair": other}
        else:
            yield {"text": text}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
