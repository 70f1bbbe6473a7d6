"""The pages of the reference, one for each part of the library: `python docs/reference.py`.

Each public name is on one page, in both languages; what it says is its docstring, which the site
puts there. A new name needs this program to run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import bertolt

DOCS = Path(__file__).parent


class Part(NamedTuple):
    """A page: its file, titles and first lines, and the names that come first."""

    file: str
    english: tuple[str, str]
    chinese: tuple[str, str]
    first: str = ""


PARTS = (
    Part(
        "models",
        (
            "Models",
            "Models, their configs, and the report of what was loaded. Shapes: B sequences,\n"
            "T packed tokens, L padded length, H hidden size, N heads, D head size,\n"
            "V vocabulary, C classes.",
        ),
        (
            "模型",
            "模型、配置，以及加载报告。形状用的字母：B 序列数，T 打包后的 token 数，\n"
            "L 填充后的长度，H 隐藏维度，N 头数，D 每头维度，V 词表大小，C 类别数。",
        ),
        "PreTrainedModel LoadReport BertConfig RobertaConfig XLMRobertaConfig",
    ),
    Part(
        "bert",
        ("BERT", "The classes of the BERT family: the backbone and its heads."),
        ("BERT", "BERT 家族的类：主干网络和各种头。"),
        "BertModel",
    ),
    Part(
        "roberta",
        ("RoBERTa and XLM-RoBERTa", "The same heads in two more families."),
        ("RoBERTa 与 XLM-RoBERTa", "同样的头，另外两个家族。"),
        "RobertaModel",
    ),
    Part(
        "training",
        (
            "Training",
            "The Trainer and its arguments, callbacks, the step, the optimizer and the schedules;\n"
            "and estimators for scikit-learn, which answer too.",
        ),
        (
            "训练",
            "Trainer 及其参数、回调、训练步、优化器和学习率调度；\n"
            "以及 scikit-learn 估计器，也用来作答。",
        ),
        "Trainer TrainingArguments EvalPrediction train_step AdamW parameter_groups get_scheduler",
    ),
    Part(
        "data",
        ("Data", "Batches, collators, and a prepared corpus."),
        ("数据", "批次、collator，以及处理好的语料。"),
        "PackedBatch PackingCollator",
    ),
    Part(
        "tokenizers",
        ("Tokenizers", "One tokenizer, under the names that it has elsewhere."),
        ("分词器", "只有一种分词器，各种名字都能用。"),
        "AutoTokenizer BertTokenizer",
    ),
    Part(
        "answers",
        ("Answers and metrics", "Using a model, and measuring it."),
        ("答案与指标", "使用模型、衡量模型。"),
        "Predictor",
    ),
    Part(
        "errors",
        (
            "Exceptions",
            "What is raised on purpose: the place, the problem, and the fix. The commonest are\n"
            "explained on [Errors](../errors.md).",
        ),
        ("异常", "有意抛出的异常：位置、问题和改法。常见的见[报错](../errors.md)。"),
        "BertoltError",
    ),
)

INDEX = {
    "en": """# Reference

Every public name of `from bertolt import …`, from its docstring. The pages are made from the
source: they say what this version does. The command line explains itself:
`bertolt COMMAND --help`.

""",
    "zh": """# 参考

`from bertolt import …` 的全部公开名称，内容取自源码里的 docstring（英文），与这个版本一致。
命令行的说明见 `bertolt COMMAND --help`。

""",
}


def part_of(name: str) -> str:
    """The page of a public name, by the room in which it lives."""
    room = bertolt._HOME[name].split(".")[1]
    if "errors" in bertolt._HOME[name]:
        return "errors"
    if room == "models":
        if name.startswith(("Roberta", "XLMRoberta")) and not name.endswith("Config"):
            return "roberta"
        if name.startswith("Bert") and name not in ("BertConfig", "BertPreTrainedModel"):
            return "bert"
        return "models"
    return {
        "base": "training",
        "commands": "training",
        "train": "training",
        "checkpoint": "models",
        "tokenization": "tokenizers",
        "tasks": "answers",
        "metrics": "answers",
    }.get(room, "data")


def names_of(part: Part) -> list[str]:
    """The names of a page: those that come first, and then the others by the alphabet."""
    first = part.first.split()
    names = [
        name for name in bertolt.__all__ if name != "__version__" and part_of(name) == part.file
    ]
    return [*first, *sorted(set(names) - set(first))]


def entry(name: str) -> str:
    """What tells the site to put a docstring here."""
    inherited = "\n    options:\n      inherited_members: true" if name == "Trainer" else ""
    return f"::: bertolt.{name}{inherited}\n"


def pages() -> dict[str, str]:
    """Every page of the reference, by its file below docs/."""
    texts = {}
    for language, comma in (("en", ", "), ("zh", "、")):
        index = INDEX[language]
        for part in PARTS:
            title, opening = part.english if language == "en" else part.chinese
            names = names_of(part)
            body = "".join(map(entry, names))
            texts[f"{language}/api/{part.file}.md"] = f"# {title}\n\n{opening}\n\n{body}"
            shown = comma.join(f"`{name}`" for name in names[:4]) + ("…" if len(names) > 4 else "")
            index += f"- [{title}]({part.file}.md): {shown}\n"
        texts[f"{language}/api/index.md"] = index
    return texts


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
