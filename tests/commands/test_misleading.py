"""What a newcomer mistypes: each message has the cause, the place, and a fix that can be typed."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bertolt.cli import app
from tests.running import Said

Run = Callable[..., Said]
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_PYTHON = re.compile(
    r"Traceback|NoneType|KeyError|TypeError|ValueError|float\(\)|codec can't|unable to convert"
    r"|Unused Tokens|Literal\[|object has no|<class"
)

# A command line, words that must be in its message (with | between), and words that must not.
ROWS = [
    ("finetune train.csv --learning-rate 1e-4", "type --lr", ""),
    ("finetune train.csv --num_train_epochs 2", "type --epochs", ""),
    ("finetune train.csv --per_device_train_batch_size 8", "type --batch-size", ""),
    ("finetune train.csv --output_dir o", "type --out ", ""),
    ("finetune train.csv --model_name_or_path enc", "type --model ", ""),
    ("finetune train.csv --max_seq_length 128", "type --max-length", ""),
    ("finetune train.csv --text_column_name review", "type --text ", ""),
    ("finetune train.csv --per_device_eval_batch_size 8", "leave it out", ""),
    ("finetune train.csv --bf16", "--precision bf16", ""),
    ("finetune train.csv --cpu", "CUDA_VISIBLE_DEVICES", "--out"),
    ("finetune train.csv --device cuda", "a GPU is used if there is one", "--overwrite"),
    ("finetune train.csv --threads 3", "bertolt finetune --help", "--task"),
    ("finetune train.csv --dropout 0.2", "bertolt finetune --help", "--out"),
    ("finetune train.csv --do_train", "leave it out", ""),
    ("finetune --train_file train.csv", "without the option", ""),
    ("finetune train.csv -o o", "type --out ", ""),
    ("finetune train.csv --epoch 3", "did you mean --epochs", ""),
    ("finetune train.csv --batchsize 3", "did you mean --batch-size", ""),
    ("finetune train.csv --lr", "--lr lacks its value", "parameter"),
    ("finetune train.csv --lr abc", "--lr is 'abc'|give a number", "float"),
    ("finetune train.csv --lr -1", "--lr is -1|0 or more", ""),
    ("finetune train.csv --lr nan", "--lr is nan", ""),
    ("finetune train.csv --batch-size 8.5", "'8.5'|a whole number", ""),
    ("finetune train.csv --batch-size 1e3", "'1e3'|in digits", " int"),
    ("finetune train.csv --batch-size auto", "'auto'|a whole number", " int"),
    ("finetune train.csv --batch-size 0", "1 or more", ""),
    ("finetune train.csv --batch-size -4", "1 or more", ""),
    ("finetune train.csv --seed 1.5", "'1.5'|a whole number", ""),
    ("finetune train.csv --save-every epoch", "'epoch'|a whole number", " int"),
    ("finetune train.csv --keep all", "'all'|or best", "int"),
    ("finetune train.csv --test-size 20%", "0.1 for 10%", "float"),
    ("finetune train.csv --epochs three", "'three'|give a number", "float"),
    ("finetune train.csv --epochs 0", "above 0", ""),
    ("finetune train.csv --lr 1e-4 --lr 2e-4", "--lr is there more than once|give --lr once", ""),
    ("inspect enc --overwrite yes", "--overwrite takes no value|leave 'yes' out", "Unused"),
    ("inspect enc enc", "nothing is done with 'enc'", "["),
    ("finetune train.csv --resume=maybe", "--resume takes no value", "bool"),
    ("finetune train.csv --out ''", "--out is empty|shell", "folder is not"),
    ("finetune train.csv --model ''", "--model is empty", "config.json"),
    ("finetune train.csv --label-separator ''", "--label-separator is empty", ""),
    ("finetune train.csv --label ''", "--label is empty", ""),
    ("finetune ''", "is empty", "folder"),
    ("finetune -", "standard input|name a file", "Unknown"),
    ("finetune train.csv --model enc --text reviw --out o", "--text 'review'", ""),
    ("finetune train.csv --model enc --label lable --out o", "--label 'label'", ""),
    ("finetune train.csv --model enc --text review --label review --out o", "cannot be both", ""),
    ("finetune train.csv --model train.csv --out o", "this is a file", ""),
    ("finetune train.csv --model ./encc --out o", "no such folder|did you mean 'enc'", ""),
    ("finetune train.csv --model bert-base-uncasd --out o", "not in the cache", "snapshot"),
    ("finetune trian.csv --model enc --out o", "did you mean 'train.csv'", ""),
    ("finetune enc", "the folder of a model|bertolt finetune FILE --model enc", "No --model"),
    ("finetune train.csv enc", "bertolt finetune train.csv --model enc", "No --model"),
    ("finetune train.csv -", "standard input|name a file: bertolt finetune TRAIN", ""),
    ("evaluate enc -", "standard input|bertolt evaluate MODEL FILE", ""),
    ("evaluate train.csv", "FILE is missing|bertolt evaluate MODEL FILE", ""),
    ("evaluate enc/config.json train.csv", "bertolt evaluate enc train.csv", ""),
    ("predict", "MODEL is missing|type bertolt predict MODEL", ""),
    ("predict enc train.csv -", "read alone|bertolt predict MODEL -", "Unknown"),
    ("predict enc - train.csv", "read alone|bertolt predict MODEL -", "Unknown"),
    ("predict - enc", "behind the model|bertolt predict MODEL -", "name a file"),
    ("predict enc/config.json", "bertolt predict enc\n", "MODEL"),
    ("inspect enc/vocab.txt", "bertolt inspect enc\n", "MODEL"),
    ("inspect -", "bertolt inspect MODEL", "name a file"),
    ("report -", "bertolt report DIR", "name a file"),
    ("bench enc", "bertolt bench --model enc", ""),
    ("tokenizer enc --out o", "the folder of a model", "--text"),
    ("prepare enc --tokenizer enc --out o", "the folder of a model", "--text"),
    ("prepare train.csv --tokenizer train.csv --out o", "train.csv: the vocabulary has no", ""),
    ("pretrain -", "bertolt pretrain SHARDS", "name a file"),
    ("migrate -", "name a file: bertolt migrate FILE.py", ""),
    ("data fetch", "NAME is missing|bertolt data fetch NAME", ""),
    ("evaluate train.csv enc", "bertolt evaluate enc train.csv", ""),
    ("evaluate enc", "FILE is missing", "parameter"),
    ("evaluate --model enc train.csv", "bertolt evaluate MODEL FILE", ""),
    ("evaluate enc train.csv --column review", "type --text ", ""),
    ("evaluate enc train.csv --fp16", "--precision bf16", ""),
    ("predict train.csv enc", "bertolt predict enc train.csv", ""),
    ("predict enc 'a good film'", "--text 'a good film'", ""),
    ("predict enc '好电影 很棒'", "--text '好电影 很棒'", ""),
    ("predict --model enc --file train.csv", "bertolt predict MODEL FILE", ""),
    ("predict enc --pair b", "--text is given 0 times", "--texts"),
    ("predict enc train.csv --text-pair label", "type --pair-column", ""),
    ("predict enc train.csv --output o.csv", "type --out ", ""),
    ("predict enc train.csv --out ''", "--out is empty", ""),
    ("predict enc --text a --column review", "--column", "--label"),
    ("inspect enc --pair b", '--text "…"', ""),
    ("inspect train.csv", "the folder of the model|bertolt inspect MODEL\n", "MODEL train.csv"),
    ("report nope", "no such folder", ""),
    ("bench train.csv --label review", "no score is measured", ""),
    ("bench train.csv --fp16", "--precision bf16", ""),
    ("tokenizer train.csv --vocab-size 1e4 --out o", "'1e4'|in digits", " int"),
    ("tokenizer train.csv --vocab-size 300.7 --out o", "'300.7'|a whole number", ""),
    ("tokenizer train.csv --vocab-size 100000000000 --out o", "10,000,000", ""),
    ("prepare train.csv --workers 2.5", "'2.5'|a whole number", ""),
    ("pretrain nope --max_steps 3.5", "type --steps", ""),
    ("pretrain nope --steps x", "'x'|a whole number", " int"),
    ("plan --batch-size 0", "--batch-size", ""),
]  # fmt: skip
FILES = {
    "zip": (b"PK\x03\x04\x14\0\0\0a.csv\xe2", "a ZIP archive"),
    "xlsx": (b"PK\x03\x04\x14\0\0\0[Content_Types].xml\xe2", "an Office file|.xlsx"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
    "png": (b"\x89PNG\r\n\x1a\n\xff", "a PNG image"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
    "parquet": (b"PAR1\x15\x04\xe2", "a Parquet file|.parquet"),
}


@pytest.fixture
def desk(
    tmp_path: Path, tiny_folder: Path, reviews_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder to type in, with an encoder and a table."""
    shutil.copytree(tiny_folder, tmp_path / "enc")
    shutil.copy(reviews_csv, tmp_path / "train.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@cache
def _options(command: str) -> frozenset[str]:
    names = (
        each for argument in app[command].assemble_argument_collection() for each in argument.names
    )
    return frozenset(names) | {"--help"}


def _require_plain(said: Said, line: str) -> None:
    """Exit code 2, nothing on standard output, no Python words, and only options that are there."""
    assert said.code == 2, said
    assert said.out == ""
    message = said.err[said.err.index("bertolt: error: ") :]
    problem, _, fix = message.partition("\n  fix: ")
    assert problem
    assert fix.strip()
    assert not _PYTHON.search(message), message
    # A command that is shown whole has options of its own.
    for part in re.split(r"bertolt (?=[a-z])", f"{shlex.split(line)[0]} {fix}"):
        command = part.split()[0]
        if command in {"finetune", "evaluate", "predict", "inspect", "bench", "tokenizer", "plan"}:
            assert _options(command) >= set(_OPTION.findall(part)), (part, fix)


@pytest.mark.parametrize(("line", "there", "absent"), ROWS, ids=[row[0] for row in ROWS])
def test_what_is_mistyped_is_told_plainly(
    bertolt: Run, desk: Path, line: str, there: str, absent: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in desk.rglob("*")}
    said = bertolt(*shlex.split(line))
    _require_plain(said, line)
    for words in there.split("|"):
        assert words in said.err
    assert not absent or absent not in said.err
    assert {path: path.stat().st_mtime_ns for path in desk.rglob("*")} == before


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_text_is_called_what_it_is(bertolt: Run, desk: Path, kind: str) -> None:
    content, there = FILES[kind]
    (desk / "rows.csv").write_bytes(content)
    said = bertolt("finetune", "rows.csv", "--model", "enc", "--out", "o")
    _require_plain(said, "finetune")
    assert "rows.csv" in said.err
    assert "--encoding" not in said.err
    for words in there.split("|"):
        assert words in said.err


@pytest.mark.parametrize(
    ("text", "name"),
    [("it’s “fine” – ok", "cp1252"), ("café film", "latin-1"), ("房间很干净", "gb18030")],
)
def test_the_encoding_that_is_suggested_reads_the_text(
    bertolt: Run, desk: Path, text: str, name: str
) -> None:
    (desk / "rows.csv").write_bytes(f"text,label\n{text},a\n".encode(name))
    said = bertolt("finetune", "rows.csv", "--model", "enc", "--out", "o")
    _require_plain(said, "finetune")
    assert f"--encoding {name}" in said.err
    assert "fix: let its bytes tell its encoding: --encoding auto; or name the" in said.err


def test_a_folder_of_another_library_is_told_what_to_do(bertolt: Run, desk: Path) -> None:
    for name, kept, there in (
        ("peft", "peft/adapter_config.json", "merge_and_unload"),
        ("sentences", "sentences/0_Transformer/config.json", "sentences/0_Transformer"),
    ):
        (desk / kept).parent.mkdir(parents=True)
        (desk / kept).write_text("{}", encoding="utf-8")
        said = bertolt("finetune", "train.csv", "--model", name, "--out", "o")
        _require_plain(said, "finetune")
        assert there in said.err
        assert not (desk / "o").exists()
