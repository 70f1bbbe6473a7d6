"""The drawings of the page on how it works, as SVG in both languages: `python docs/drawings.py`.

They are put into the page itself and take its colours, so that they follow its light and dark.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
LENGTHS = (7, 3, 5, 2)  # tokens of the four texts that are drawn
TEXTS = ("a", "b", "c", "d")  # their classes of colour
CELL = 22
WIDTH = 720  # of every drawing, so that letters have one size
Words = Callable[[str, str], str]  # the English or the Chinese words


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle."""
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="3"/>'


def label(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text."""
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str = "line") -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """A straight arrow, to the right or down."""
    wing = (-6, -4, -6, 4) if to_x > x else (-4, -6, 4, -6)
    points = f"{to_x},{to_y} {to_x + wing[0]},{to_y + wing[1]} {to_x + wing[2]},{to_y + wing[3]}"
    return line(x, y, to_x, to_y) + f'<polygon class="point" points="{points}"/>'


def drawing(width: int, height: int, title: str, parts: list[str]) -> str:
    """An SVG without an empty line in it, as it stands inside a page of Markdown."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def packing(words: Words) -> str:
    """Four texts padded to the longest, and end to end."""
    parts = [
        label(0, 16, words("padded: 28 places for 17 tokens", "填充：17 个 token 占 28 个位置"))
    ]
    for row, (length, text) in enumerate(zip(LENGTHS, TEXTS, strict=True)):
        y = 28 + row * (CELL + 4)
        for place in range(max(LENGTHS)):
            kind = text if place < length else "empty"
            parts.append(box(place * (CELL + 2), y, CELL, CELL, kind))
    y = 176
    parts.append(label(0, y - 12, words("packed: the tokens, end to end", "打包：token 首尾相接")))
    place = 0
    for length, text in zip(LENGTHS, TEXTS, strict=True):
        parts.append(label(place * (CELL + 2), y + CELL + 18, str(place), "small"))
        for _ in range(length):
            parts.append(box(place * (CELL + 2), y, CELL, CELL, text))
            place += 1
    parts.append(label(place * (CELL + 2), y + CELL + 18, str(place), "small"))
    parts.append(label(0, y + CELL + 40, "cu_seqlens = [0, 7, 10, 15, 17]", "code"))
    x = 200
    parts.append(label(x, 76, words("Every place is computed:", "每个位置都要计算："), "small"))
    note = words("padding costs as much as words.", "填充与词同样费时。")
    parts.append(label(x, 94, note, "small"))
    return drawing(WIDTH, 242, words("Padded and packed texts", "填充与打包"), parts)


def attention(words: Words) -> str:
    """Which token looks at which: blocks along the diagonal, and nothing between texts."""
    size, start = 14, 0
    total = sum(LENGTHS)
    parts = [box(0, 0, total * size, total * size, "empty")]
    for length, text in zip(LENGTHS, TEXTS, strict=True):
        edge = start * size
        parts.append(box(edge, edge, length * size, length * size, text))
        count = f"{length} × {length}"
        if length > 2:
            middle = edge + length * size / 2
            parts.append(label(middle - 16, middle + 5, count, "small"))
        start += length
    x = total * size + 24
    for row, sentence in enumerate(
        (
            words("a row: a token that looks", "一行：一个在看的 token"),
            words("a column: a token that is looked at", "一列：一个被看的 token"),
            words("coloured: computed, 87 products", "有色：要计算，87 个乘积"),
            words("empty: between texts, never computed", "空白：文本之间，从不计算"),
            words("padded and masked: 4 × 7 × 7 = 196", "填充加掩码：4 × 7 × 7 = 196"),
        )
    ):
        parts.append(label(x, 30 + row * 26, sentence, "small"))
    title = words("Attention within each text", "注意力只在各文本之内")
    return drawing(WIDTH, total * size + 4, title, parts)


def resume(words: Words) -> str:
    """A run that is killed and goes on beside one that is not."""

    def steps(y: int, first: int, last: int, kind: str) -> list[str]:
        row = []
        for step in range(first, last + 1):
            x = 110 + (step - 1) * 56
            row += [box(x, y, 40, CELL, kind), label(x + 15, y + 16, str(step), "small")]
        return row

    parts = [label(0, 32, words("never killed", "从未被杀"), "small"), *steps(16, 1, 8, "a")]
    parts += [label(0, 92, words("killed", "被杀"), "small"), *steps(76, 1, 5, "a")]
    parts += [box(390, 76, 40, CELL, "c"), label(401, 92, "kill", "small")]
    parts += [arrow(298, 100, 298, 128), label(308, 120, "checkpoint-4", "code")]
    parts += [label(0, 152, "--resume", "code"), *steps(136, 5, 8, "b")]
    parts += [line(556, 27, 580, 27), line(556, 147, 580, 147), line(580, 27, 580, 147)]
    parts += [
        label(588, 84, words("the same weights,", "权重相同，"), "small"),
        label(588, 102, words("bit for bit", "逐位一致"), "small"),
    ]
    title = words("A killed run goes on to the same weights", "被杀的训练接着跑，得到相同的权重")
    return drawing(WIDTH, 170, title, parts)


def loading(words: Words) -> str:
    """What becomes of the tensors of a file, and where the model's come from."""
    rows = (
        ("bert.encoder.…", "bert.encoder.…", words("copied, then compared", "复制，再比对"), "a"),
        ("", "classifier.weight", words("new: normal, std 0.02", "新的：正态，标准差 0.02"), "b"),
        ("cls.predictions.…", "", words("left over: listed", "多出来的：列出"), "c"),
        ("…position_ids", "", words("excused: by its pattern", "可忽略：符合规则"), "d"),
    )
    parts = [
        label(0, 16, words("in the file", "文件里")),
        label(300, 16, words("in the model", "模型里")),
        label(500, 16, words("in the report", "报告里")),
    ]
    for number, (left, right, said, kind) in enumerate(rows):
        y = 30 + number * 40
        parts += [box(0, y, 190, 28, kind if left else "empty"), label(8, y + 19, left, "code")]
        parts += [
            box(300, y, 190, 28, kind if right else "empty"),
            label(308, y + 19, right, "code"),
        ]
        parts.append(label(500, y + 19, said, "small"))
    parts.append(arrow(194, 44, 296, 44))
    title = words("Every tensor is accounted for", "每个张量都有交代")
    return drawing(WIDTH, 190, title, parts)


def path(words: Words) -> str:
    """From a file to a number, and the parts that training and answering share."""
    names = (
        (words("rows of a file", "文件的行"), "data/"),
        (words("tokens", "token"), "tasks/"),
        ("PackedBatch", "data/"),
        (words("encoder", "编码器"), "models/"),
        (words("head", "头"), "models/"),
    )
    parts = []
    for number, (name, room) in enumerate(names):
        x = number * 140
        parts += [box(x, 40, 112, 34, "a"), label(x + 10, 62, name, "small")]
        parts.append(label(x + 10, 30, room, "code"))
        if number:
            parts.append(arrow(x - 28, 57, x, 57))
    parts += [arrow(616, 74, 616, 110), box(560, 110, 150, 34, "b")]
    parts.append(label(570, 132, words("loss, train_step", "损失，train_step"), "small"))
    parts += [box(360, 110, 130, 34, "c"), line(616, 92, 425, 92), arrow(425, 92, 425, 110)]
    parts.append(label(370, 132, words("answer, score", "答案，分数"), "small"))
    parts += [box(130, 110, 180, 34, "d")]
    parts += [line(360, 127, 310, 127), label(140, 132, "run.json → report.html", "small")]
    return drawing(WIDTH, 150, words("From a file to a report", "从文件到报告"), parts)


DRAWINGS = (packing, attention, resume, loading, path)


def drawings() -> dict[str, str]:
    """Every drawing by the name of its file."""
    languages: dict[str, Words] = {"en": lambda en, _: en, "zh": lambda _, zh: zh}
    return {
        f"{make.__name__}.{language}.svg": make(words)
        for make in DRAWINGS
        for language, words in languages.items()
    }


if __name__ == "__main__":
    for name, text in drawings().items():
        (ASSETS / name).write_text(text, encoding="utf-8")
