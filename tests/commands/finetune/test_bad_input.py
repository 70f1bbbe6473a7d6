"""Every kind of bad input through the real command: exit code 2, the thing, the place, the fix.

Nothing may be left: neither a folder nor a temporary file beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def require_refusal(said: Any, tmp_path: Path, *parts: str, left: set[str]) -> None:
    """The command failed with all of `parts` in its message, and left only `left` behind."""
    message = said.err[said.err.rindex("bertolt: error:") :]
    assert said.code == 2, said.err
    for part in parts:
        assert part in message
    assert "\n  fix: " in message
    assert "Traceback" not in said.err
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_missing_file_and_the_nearest(finetune_command: Run, tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n")
    said = finetune_command(tmp_path / "review.csv")
    require_refusal(
        said, tmp_path, "review.csv", "there is no such file", "reviews.csv", left={"reviews.csv"}
    )


def test_a_missing_column_names_those_there_are_and_the_nearest(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv(good_rows, header=("remark", "mark"))
    said = finetune_command(path, "--text", "remarks", "--label", "mark")
    require_refusal(
        said, tmp_path, "'remarks'", "'remark', 'mark'", "--text 'remark'", left={"data.csv"}
    )


def test_columns_that_cannot_be_told(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv([(*row, 1) for row in good_rows], header=("a", "b", "c"))
    said = finetune_command(path)
    require_refusal(said, tmp_path, "'a', 'b', 'c'", "--text", left={"data.csv"})


def test_an_empty_file(finetune_command: Run, tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    said = finetune_command(tmp_path / "data.csv")
    require_refusal(said, tmp_path, "data.csv", "there is nothing in it", left={"data.csv"})


def test_a_header_only(finetune_command: Run, write_csv: Any, tmp_path: Path) -> None:
    said = finetune_command(write_csv([]))
    require_refusal(said, tmp_path, "data.csv", "no rows", left={"data.csv"})


def test_one_label_only(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    said = finetune_command(write_csv([(text, "same") for text, _ in good_rows]))
    require_refusal(
        said, tmp_path, "column 'label'", "only one label, 'same'", "--label", left={"data.csv"}
    )


def test_an_evaluation_label_that_training_never_had(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    train = write_csv(good_rows)
    held_out = write_csv([*good_rows[:4], ("so so", "neutral"), ("x", "p")], name="eval.csv")
    said = finetune_command(train, "--eval", held_out)
    require_refusal(
        said,
        tmp_path,
        "eval.csv, row 5 (line 6)",
        "'neutral'",
        "'n', 'p'",
        left={"data.csv", "eval.csv"},
    )


def test_an_empty_text_as_an_error(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv([*good_rows[:2], ("", "p"), *good_rows[2:]])
    said = finetune_command(path, "--on-bad-row", "error")
    require_refusal(
        said,
        tmp_path,
        "row 3 (line 4)",
        "column 'text' is empty",
        "--on-bad-row drop",
        left={"data.csv"},
    )


def test_bad_rows_are_dropped_counted_and_reported(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv([*good_rows[:2], ("", "p"), ("  ", "n"), ("x", ""), *good_rows[2:]])
    with path.open("a") as file:
        file.write("one,two,three\na\0b,p\n")
    said = finetune_command(path)
    assert said.code == 0
    assert "45 rows read" in said.err
    assert "dropped 2 rows: empty text (rows 3, 4; lines 4, 5)" in said.err
    assert "dropped 1 row: empty label (row 5; line 6)" in said.err
    assert "dropped 1 row: ragged row (row 44; line 45)" in said.err
    assert "dropped 1 row: NUL byte (row 45; line 46)" in said.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "5 rows dropped" in page
    assert "NUL byte" in page


def test_text_that_is_not_utf8_names_the_row_the_byte_and_the_option(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv(good_rows)
    before = path.stat().st_size
    path.write_bytes(path.read_bytes() + "un café,p\n".encode("latin-1"))
    said = finetune_command(path)
    require_refusal(
        said,
        tmp_path,
        f"line 42, byte offset {before + 6}",
        "0xe9",
        "--encoding latin-1",
        left={"data.csv"},
    )
    assert finetune_command(path, "--encoding", "latin-1").code == 0


@pytest.mark.parametrize(
    ("line", "place", "problem"),
    [
        ("one,two,three\n", "row 41 (line 42)", "3 cells where the header has 2"),
        ("only one\n", "row 41 (line 42)", "1 cell where the header has 2"),
        ("a\0b,p\n", "row 41 (line 42)", "a NUL byte in column 'text'"),
        ('"never closed,p\n', "line 42", "never closed"),
    ],
)
def test_a_broken_row_as_an_error(
    finetune_command: Run,
    write_csv: Any,
    good_rows: Any,
    tmp_path: Path,
    line: str,
    place: str,
    problem: str,
) -> None:
    path = write_csv(good_rows)
    with path.open("a") as file:
        file.write(line)
    said = finetune_command(path, "--on-bad-row", "error")
    require_refusal(said, tmp_path, place, problem, left={"data.csv"})


def test_a_cell_of_ten_megabytes_is_cut_and_counted(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    words = 10_000_000 // 5
    path = write_csv([*good_rows, ("good " * words, "p")])
    said = finetune_command(path)
    assert said.code == 0
    cut = words + 2 - 160
    assert f"{cut:,} of" in said.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "1 text cut" in page
    assert len(page) < 1_000_000


def test_duplicate_column_names(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv([(*row, "x") for row in good_rows], header=("text", "label", "label"))
    said = finetune_command(path)
    require_refusal(said, tmp_path, "data.csv", "same name: 'label'", left={"data.csv"})


def test_a_label_column_that_is_nearly_unique(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv([(text, number) for number, (text, _) in enumerate(good_rows)])
    said = finetune_command(path)
    require_refusal(
        said, tmp_path, "column 'label'", "40 different values in 40 rows", left={"data.csv"}
    )


@pytest.mark.parametrize(("size", "part"), [("0.001", "no test rows"), ("0.999", "no training")])
def test_a_test_size_that_leaves_nothing(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path, size: str, part: str
) -> None:
    said = finetune_command(write_csv(good_rows), "--test-size", size)
    require_refusal(said, tmp_path, "--test-size", part, "--eval", left={"data.csv"})


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--test-size", "2"), ("--test-size is 2", "from 0 to below 1")),
        (("--epochs", "0"), ("--epochs is 0", "above 0")),
        (("--epochs", "three"), ("--epochs is 'three'", "give a number")),
        (("--batch-size", "0"), ("--batch-size is 0", "1 or more")),
        (("--lr", "nan"), ("--lr is nan", "0 or more")),
        (("--lr", "inf"), ("--lr is inf", "0 or more")),
        (("--seed", "-1"), ("--seed is -1", "0 or more")),
        (("--max-length", "2"), ("--max-length is 2", "from 3 to 160")),
        (("--max-length", "161"), ("--max-length is 161", "from 3 to 160")),
        (("--schedule", "zigzag"), ("--schedule", '"zigzag"', '"linear"')),
        (("--encoding", "klingon"), ("--encoding", "'klingon'", "utf-8")),
        (("--nope", "1"), ("there is no option --nope", "bertolt finetune --help")),
        (("--text", "label", "--label", "label"), ("--text, --label", "'label'")),
    ],
)
def test_an_option_that_cannot_be_honoured(
    finetune_command: Run,
    write_csv: Any,
    good_rows: Any,
    tmp_path: Path,
    words: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    said = finetune_command(write_csv(good_rows), *words)
    require_refusal(said, tmp_path, *parts, left={"data.csv"})


@pytest.fixture
def broken_model(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    return folder


def test_a_model_folder_without_a_config(
    finetune_command: Run, write_csv: Any, good_rows: Any, broken_model: Path, tmp_path: Path
) -> None:
    (broken_model / "config.json").unlink()
    said = finetune_command(write_csv(good_rows), "--model", broken_model)
    require_refusal(
        said, tmp_path, str(broken_model), "no config.json here", left={"data.csv", "model"}
    )


@pytest.mark.parametrize("damage", ["truncated header", "truncated data", "garbage", "empty"])
def test_weights_that_are_truncated_or_corrupted(
    finetune_command: Run,
    write_csv: Any,
    good_rows: Any,
    broken_model: Path,
    tmp_path: Path,
    damage: str,
) -> None:
    path = broken_model / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "truncated header": whole[:100],
            "truncated data": whole[:-1000],
            "garbage": b"\xff" * 64 + whole[64:],
            "empty": b"",
        }[damage]
    )
    said = finetune_command(write_csv(good_rows), "--model", broken_model)
    require_refusal(
        said,
        tmp_path,
        "model.safetensors",
        "truncated or corrupted",
        "again",
        left={"data.csv", "model"},
    )


def test_a_vocabulary_that_does_not_match_the_embedding(
    finetune_command: Run, write_csv: Any, good_rows: Any, broken_model: Path, tmp_path: Path
) -> None:
    with (broken_model / "vocab.txt").open("a") as file:
        file.write("another\nandonemore\nandathird\n")
    said = finetune_command(write_csv(good_rows), "--model", broken_model)
    require_refusal(said, tmp_path, "97 rows", "tokenizer", left={"data.csv", "model"})


def test_a_vocabulary_much_smaller_than_the_embedding_is_a_caution(
    finetune_command: Run, write_csv: Any, good_rows: Any, tiny_config: Any, tmp_path: Path
) -> None:
    from bertolt import BertModel

    folder = tmp_path / "model"
    BertModel(tiny_config(vocab_size=1000)).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "good", "bad"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    said = finetune_command(write_csv(good_rows), "--model", folder)
    assert said.code == 0
    assert "Caution: the tokenizer has 10 tokens and the word embedding 1,000 rows" in said.err


def test_a_config_of_another_kind_of_model(
    finetune_command: Run, write_csv: Any, good_rows: Any, broken_model: Path, tmp_path: Path
) -> None:
    (broken_model / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    said = finetune_command(write_csv(good_rows), "--model", broken_model)
    require_refusal(said, tmp_path, "config.json", "'gpt2'", left={"data.csv", "model"})


def test_a_model_folder_that_is_not_there(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    said = finetune_command(write_csv(good_rows), "--model", "./nowhere at all")
    require_refusal(said, tmp_path, "nowhere at all", "no such folder", left={"data.csv"})


def test_several_columns_of_words_are_refused_not_read_by_half(
    finetune_command: Any, write_csv: Any, tmp_path: Path
) -> None:
    path = write_csv([("good", "yes", "no"), ("bad", "no", "yes")] * 6, ("text", "a", "b"))
    said = finetune_command(path, "--label", "a,b")
    assert said.code == 2
    assert "reads one column of labels" in said.err
    assert "multi-label-classification" in said.err
    assert not (tmp_path / "out").exists()


def test_a_column_that_is_named_twice_is_one(finetune_command: Any, write_csv: Any) -> None:
    path = write_csv([("good", 1, 0), ("bad", 0, 1)] * 6, ("text", "a", "b"))
    said = finetune_command(path, "--label", "a,b,a")
    assert said.code == 0
    assert "2 columns of 0 and 1" in said.err


def test_an_empty_cell_among_flags_leaves_its_row_out(
    finetune_command: Any, write_csv: Any
) -> None:
    rows = [("good", 1, 0), ("bad", 0, 1), ("film", 0, "")] * 6
    said = finetune_command(write_csv(rows, ("text", "a", "b")), "--label", "a,b")
    assert said.code == 0
    assert "2 columns of 0 and 1" in said.err
    assert "dropped 6 rows: label neither 0 nor 1" in said.err


@pytest.mark.parametrize("flag", ["--seed", "--split-seed"])
def test_a_seed_that_no_generator_takes(
    flag: str, finetune_command: Any, reviews_csv: Path, tmp_path: Path
) -> None:
    said = finetune_command(reviews_csv, flag, 2**70)
    assert said.code == 2
    assert f"{flag} is" in said.err
    assert not (tmp_path / "out").exists()


def test_the_greatest_seed_is_taken(finetune_command: Any, reviews_csv: Path) -> None:
    most = 2**63 - 1
    assert finetune_command(reviews_csv, "--seed", most, "--split-seed", most).code == 0


def test_other_columns_in_the_file_to_evaluate_on_are_to_be_renamed(
    finetune_command: Any, reviews_csv: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("review,verdict\ngood,pos\nbad,neg\n", encoding="utf-8")
    said = finetune_command(reviews_csv, "--eval", other)
    assert said.code == 2
    assert "call its columns as in" in said.err
    assert "'review', 'label'" in said.err
    other.write_text("review,label\ngood,pos\nbad,neg\n", encoding="utf-8")
    assert finetune_command(reviews_csv, "--eval", other).code == 0


def test_pairs_are_not_evaluated_on_by_a_model_of_single_texts(
    finetune_command: Any, reviews_csv: Path, tmp_path: Path
) -> None:
    pairs, singles = tmp_path / "pairs.csv", tmp_path / "singles.csv"
    pairs.write_text("premise,hypothesis,label\n" + "good,bad,pos\nbad,good,neg\n" * 6, "utf-8")
    singles.write_text("text,label\n" + "good,pos\nbad,neg\n" * 6, "utf-8")
    for train, other in ((singles, pairs), (pairs, singles)):
        said = finetune_command(train, "--eval", other)
        assert said.code == 2
        assert "call its columns as in" in said.err


def test_a_model_of_pairs_is_tried_with_a_pair(
    finetune_command: Any, reviews_csv: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("premise,hypothesis,label\n" + "good,bad,pos\nbad,good,neg\n" * 6, "utf-8")
    assert '--text "…" --pair "…"' in finetune_command(pairs).err
    assert "--pair" not in finetune_command(reviews_csv, "--overwrite").err


def test_all_endings_that_are_read_are_named(finetune_command: Any, tmp_path: Path) -> None:
    path = tmp_path / "table.docx"
    path.write_bytes(b"PK")
    assert ".conll" in finetune_command(path).err


def test_the_result_may_not_take_the_place_of_the_model(
    finetune_command: Any, write_csv: Any, good_rows: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    words = ["--model", str(model), "--out", str(tmp_path / "model"), "--overwrite"]
    said = finetune_command(write_csv(good_rows), *words)
    assert said.code == 2
    assert "it would replace the folder" in said.err
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_number_of_windows_where_none_are_chosen_among(
    finetune_command: Run, write_csv: Any, good_rows: Any, tmp_path: Path
) -> None:
    path = write_csv(good_rows, header=("text", "label"))
    said = finetune_command(path, "--windows", 3)
    parts = "--windows", "longer texts are not read in windows", "add --long window"
    require_refusal(said, tmp_path, *parts, left={"data.csv"})
    tags = tmp_path / "tags.jsonl"
    tags.write_text('{"tokens": ["good", "film"], "tags": ["B-X", "O"]}\n' * 9, encoding="utf-8")
    said = finetune_command(tags, "--windows", 3)
    parts = "--windows", "learns from each window by itself", "leave it out"
    require_refusal(said, tmp_path, *parts, left={"data.csv", "tags.jsonl"})
