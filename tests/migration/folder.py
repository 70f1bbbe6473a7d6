"""The folder that every program runs in: small random models, their vocabulary, and plain texts."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).parent / "texts"


def write_folder(folder: Path) -> None:
    """Write the texts and the models `tiny-bert`, `tiny-bert-reviews` and so on into a folder.

    The models have 2 layers, a hidden size of 32, and no dropout, so that two libraries whose
    random streams differ train alike. Every parameter is noise, so that none of them is idle.
    """
    from bertolt import (
        BertConfig,
        BertForPreTraining,
        BertForQuestionAnswering,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertTokenizer,
    )

    shutil.copytree(TEXTS, folder, dirs_exist_ok=True)
    _write_roberta(folder / "tiny-roberta")
    tokenizer = BertTokenizer.train([_words()], vocab_size=400, min_frequency=1)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
    heads = {
        "tiny-bert": (BertForPreTraining, ["LABEL_0", "LABEL_1"]),
        "tiny-bert-reviews": (BertForSequenceClassification, ["negative", "positive"]),
        "tiny-bert-tags": (BertForTokenClassification, tags),
        "tiny-bert-questions": (BertForQuestionAnswering, ["LABEL_0", "LABEL_1"]),
        "tiny-bert-score": (BertForSequenceClassification, ["LABEL_0"]),
        "tiny-bert-topics": (BertForSequenceClassification, ["sport", "money", "weather"]),
    }
    for seed, (name, (kind, labels)) in enumerate(heads.items()):
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=128,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(labels)),
        )
        model = _randomised(kind(config), seed)
        model.save_pretrained(folder / name)
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
        lines = "".join(f"{token}\n" for token, _ in vocabulary)
        (folder / name / "vocab.txt").write_text(lines, encoding="utf-8")
        settings = {"do_lower_case": True, "model_max_length": 128}
        text = json.dumps(settings)
        (folder / name / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _randomised(model: Any, seed: int) -> Any:
    """The model with noise in every parameter, so that none of them is idle."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0.0, 0.15, generator=generator)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1.0)
    return model


def _write_roberta(folder: Path) -> None:
    """A RoBERTa with the head of its pretraining, and a byte-level tokenizer learnt here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    from bertolt import RobertaConfig, RobertaForMaskedLM

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_words(), trainer)
    around = ("</s>", 2), ("<s>", 0)
    backend.post_processor = processors.RobertaProcessing(*around, add_prefix_space=False)
    config = RobertaConfig(
        vocab_size=backend.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=130,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    _randomised(RobertaForMaskedLM(config), 0).save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 128}
    named = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"}
    named |= {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    text = json.dumps(settings | named)
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _words() -> list[str]:
    """All texts, a line each, for the vocabulary."""
    with (TEXTS / "reviews.csv").open(encoding="utf-8", newline="") as file:
        lines = [row["text"] for row in csv.DictReader(file)]
    for name in ("plain.txt", "pairs.tsv", "tags.txt"):
        lines += (TEXTS / name).read_text(encoding="utf-8").splitlines()
    for article in json.loads((TEXTS / "questions.json").read_text(encoding="utf-8"))["data"]:
        lines += [paragraph["context"] for paragraph in article["paragraphs"]]
    return lines
