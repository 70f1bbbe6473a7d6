"""`bertolt migrate`: programs are read, never run, and only their imports are changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.errors import DataError
from bertolt.commands import migrate as module
from bertolt.commands.migrate import Differences, migrate


def differences(tmp_path: Path, text: str, *, write: bool = False) -> Differences:
    file = tmp_path / "program.py"
    file.write_bytes(text.encode())
    return migrate(file, write=write)


def changed(tmp_path: Path, text: str) -> str:
    differences(tmp_path, text, write=True)
    return (tmp_path / "program.py").read_bytes().decode()


SAME = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import Trainer, TrainingArguments, DataCollatorWithPadding

tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
model = AutoModelForSequenceClassification.from_pretrained("bert-base-uncased", num_labels=3)
rows = tokenizer(["good", "bad"], truncation=True, max_length=128)
args = TrainingArguments("out", learning_rate=2e-5, num_train_epochs=1)
trainer = Trainer(model, args, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
trainer.train()
print(model.bert.embeddings)
"""


def test_a_program_that_only_imports(tmp_path: Path) -> None:
    result = differences(tmp_path, SAME)
    assert result.differences == []
    assert len(result.same) == 5
    assert "nothing else has to change" in str(result)


def test_a_program_that_is_done_has_nothing_to_change(tmp_path: Path, bertolt: Any) -> None:
    """What stays with the peer is told, and is no reason to end with 1."""
    path = tmp_path / "program.py"
    path.write_text("from transformers import (\n    BertModel,\n    GPT2Model,\n)\n")
    for words in ((), ("--write",), ()):
        said = bertolt("migrate", path, *words)
        assert (said.code, "nothing else has to change, 1 stays with the peer" in said.out) == (
            0,
            True,
        )
    path.write_text("import transformers as t\n\nt.logging.set_verbosity_error()\nt.Trainr()\n")
    said = bertolt("migrate", path)
    assert said.code == 1
    assert "line    3  transformers.logging.set_verbosity_error" in said.out


def test_several_programs_and_folders_of_them(tmp_path: Path, bertolt: Any) -> None:
    folder = tmp_path / "scripts"
    (folder / ".venv").mkdir(parents=True)
    (folder / ".venv" / "theirs.py").write_text("from transformers import Trainr\n")
    (folder / "other.py").write_text("# of transformers\nimport json\n")
    (folder / "one.py").write_text("from transformers import Trainer\n")
    two = tmp_path / "two.py"
    two.write_text("from transformers import BertModel, Trainr\n")
    said = bertolt("migrate", folder, two, folder / "one.py", "--json")
    assert said.code == 1
    assert [Path(each["file"]).name for each in json.loads(said.out)] == ["one.py", "two.py"]
    broken = tmp_path / "broken.py"
    broken.write_text("from transformers import (\n")
    assert bertolt("migrate", two, broken, "--write").code == 2
    assert two.read_text() == "from transformers import BertModel, Trainr\n", "read before written"
    said = bertolt("migrate", tmp_path / "scripts" / ".venv", tmp_path / "nothing", "--write")
    assert said.code == 2
    assert bertolt("migrate", folder, "--write").code == 0
    assert (folder / "one.py").read_text() == "from bertolt import Trainer\n"
    said = bertolt("migrate", folder)
    assert said.code == 2
    assert "no program in it imports from transformers" in said.err


def test_the_version_of_the_peer_stays_the_version_of_the_peer(tmp_path: Path) -> None:
    text = "import transformers\nprint(transformers.__version__ > '4', transformers.Trainer)\n"
    assert changed(tmp_path, text) == text
    said = str(differences(tmp_path, text, write=True))
    assert "imports are changed" not in said
    assert "Its imports stay as they are" in said
    text = "from transformers import Trainer, __version__\n"
    result = differences(tmp_path, text)
    assert [(each.name, each.instead.split(":")[0]) for each in result.differences] == [
        ("__version__", "keep it with the peer")
    ]
    assert result.to_change == []
    both = "from bertolt import Trainer\nfrom transformers import __version__\n"
    assert changed(tmp_path, text) == both


@pytest.mark.parametrize(
    ("text", "line", "name", "words"),
    [
        ("from transformers import Trainr\n", 1, "Trainr", "Trainer is the nearest"),
        ("from transformers import GPT2Model\n", 1, "GPT2Model", "keep it with the peer"),
        ("import transformers as t\n\nt.Seq2SeqTrainer()\n", 3, "Seq2SeqTrainer", "encoders alone"),
        ("def f():\n    from transformers import *\n", 2, "import *", "name what is imported"),
        (
            "from transformers import TrainingArguments as A\nA(\n    output_dir='x',\n"
            "    evaluation_strategy='epoch', use_mps_device=True)\n",
            *(4, "TrainingArguments(use_mps_device=…)", "use use_cpu"),
        ),
        (
            "from transformers import TrainingArguments\nTrainingArguments('x', fp16=quick(),\n"
            "    logging_dir='y', optim='adamw_torch', push_to_hub=False)\n",
            *(2, "TrainingArguments(fp16=…)", "use bf16=True"),
        ),
        (
            "from transformers import AutoModel\nbits = 1\n"
            "AutoModel.from_pretrained('x', from_tf=False, token=bits, quantization_config=bits)\n",
            *(3, "AutoModel.from_pretrained(quantization_config=…)", "answer in 8 bits"),
        ),
        (
            "from transformers import BertModel\nmodel = BertModel.from_pretrained('x')\n"
            "model.own_part(1)\nmodel.prune_heads({0: [1]})\n",
            *(4, "BertModel.prune_heads", "zero the columns of a head"),
        ),
        (
            "import transformers\ntransformers.logging.set_verbosity_error()\n",
            *(2, "logging.set_verbosity_error", "messages go to standard error"),
        ),
        (
            "from transformers import BertTokenizer\ntok = BertTokenizer.from_pretrained('x')\n"
            "tok('a', verbose=False, pad_to_max_length=True, text_target='b')\n",
            *(3, "BertTokenizer.__call__(text_target=…)", "in a call of their own"),
        ),
        (
            "from transformers import BertTokenizer\nfor t in [1]:\n"
            "    tok: object = BertTokenizer.from_pretrained('x')\n    tok.frobnicate('a')\n",
            *(4, "BertTokenizer.frobnicate", "it has no frobnicate"),
        ),
        (
            "from transformers import AutoTokenizer as A\nt = A.from_pretrained('x', use_fast=1,\n"
            "    mask_token='m', proxies={})\n",
            *(3, "AutoTokenizer.from_pretrained(proxies=…)", "HTTPS_PROXY"),
        ),
        (
            "from transformers import BertTokenizerFast\n"
            "t = BertTokenizerFast.from_pretrained('x')\n"
            "t.encode_plus('a', pad_to_max_length=True)\nt.apply_chat_template([])\n",
            *(4, "BertTokenizerFast.apply_chat_template", "format the messages yourself"),
        ),
        (
            "from transformers import Trainer\nclass T(Trainer):\n    def compute_loss(self): ...\n"
            "    def _save(self): ...\n",
            *(4, "T._save", "define save_model"),
        ),
        (
            "from transformers import Trainer\nclass T(Trainer): ...\nT(model=1, nonsense=2)\n",
            *(3, "Trainer(nonsense=…)", "leave it out"),
        ),
        (
            "import transformers\ntransformers.get_scheduler('a', 1, 2, 3, 4, 5)\n",
            *(2, "get_scheduler(…)", "takes 5 values without a name"),
        ),
    ],
)
def test_each_difference_has_its_line_and_its_replacement(
    tmp_path: Path, text: str, line: int, name: str, words: str
) -> None:
    (found,) = differences(tmp_path, text).differences
    assert (found.line, found.name.removeprefix("transformers.")) == (line, name)
    assert words in found.instead


def test_what_was_made_by_others_is_left_alone(tmp_path: Path) -> None:
    text = (
        "from transformers import Trainer\nfrom datasets import load_dataset\n"
        "trainer = Trainer(model=1)\ntrainer = load_dataset('x')\ntrainer.anything(really=1)\n"
    )
    assert differences(tmp_path, text).differences == []


@pytest.mark.parametrize(
    "text",
    [
        "from transformers import TrainerCallback\nclass Stop(TrainerCallback):\n"
        "    def __init__(self, step): ...\n    def tell(self, loud): ...\n"
        "class Later(Stop): ...\nlater = Later(3)\nlater.tell(loud=1)\n",
        "from transformers import AutoTokenizer\ntok = AutoTokenizer.from_pretrained('x')\n"
        "rows = tok(['a'])\nrows.items()\n",
        "from transformers import AutoModelForTokenClassification as M\n"
        "M.from_pretrained('x', id2label={0: 'a'}, label2id={'a': 0})\n",
        "from transformers import AutoConfig\nconfig = AutoConfig.from_pretrained('x')\n"
        "config.update({'num_labels': 3})\nconfig.save_pretrained('y')\n",
    ],
    ids=["what a class of its own defines", "what an object gives", "labels by name", "a config"],
)
def test_what_is_the_same_is_not_listed(tmp_path: Path, text: str) -> None:
    assert differences(tmp_path, text).differences == []


def test_imports_alone_are_changed(tmp_path: Path) -> None:
    assert changed(tmp_path, SAME) == SAME.replace("from transformers", "from bertolt")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import transformers as t\nt.Trainer\n", "import bertolt as t\nt.Trainer\n"),
        ("import os, transformers\n", "import os, bertolt as transformers\n"),
        (
            "import transformers\ntransformers.GPT2Model\n",
            "import transformers\ntransformers.GPT2Model\n",
        ),
        (
            "if True:\n    from transformers import Trainer, GPT2Model  # both\n",
            "if True:\n    from bertolt import Trainer\n"
            "    from transformers import GPT2Model  # both\n",
        ),
        (
            "x = 1; from transformers.models.bert import BertModel as B, GPT2Model; y = 2\n",
            "x = 1; from bertolt import BertModel as B; from transformers.models.bert import "
            "GPT2Model; y = 2\n",
        ),
        (
            "'''中文\x0c\u2028'''\r\nfrom transformers import (\r\n  Trainer,\r\n)\r\n"
            "z = '\x85'\r\n",
            "'''中文\x0c\u2028'''\r\nfrom bertolt import Trainer\r\nz = '\x85'\r\n",
        ),
        (
            "import a, transformers; from transformers import Trainer; import transformers as t\n",
            "import a, bertolt as transformers; from bertolt import Trainer; import bertolt as t\n",
        ),
        ("\ufefffrom transformers import Trainer\n", "\ufefffrom bertolt import Trainer\n"),
        ("from .transformers import Trainer\n", "from .transformers import Trainer\n"),
    ],
)
def test_how_imports_are_changed(tmp_path: Path, before: str, after: str) -> None:
    assert changed(tmp_path, before) == after
    # What is changed already stays.
    assert changed(tmp_path, after) == after


def test_the_mode_of_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(SAME, encoding="utf-8")
    file.chmod(0o755)
    migrate(file, write=True)
    assert file.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"def f(:\n", "line 1"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a\0b", "no Python"),
        (b"(" * 100_000, "no Python"),
        (None, "No such file"),
    ],
)
def test_what_is_no_program_is_refused(tmp_path: Path, data: bytes | None, words: str) -> None:
    file = tmp_path / "program.py"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(DataError, match=words):
        migrate(file, write=True)


def test_the_program_never_runs_and_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(f"from transformers import Trainr\nopen({str(tmp_path / 'x')!r}, 'w')\n")
    command = [sys.executable, "-m", "bertolt.migrate", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["differences"][0]["name"] == "Trainr"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "deep",
    ["x = " + "+".join(["1"] * 900), "if x: pass\n" + "elif x: pass\n" * 900, "-" * 9000 + "1"],
    ids=["operators", "elif", "signs"],
)
def test_what_is_nested_too_deeply_is_refused(tmp_path: Path, deep: str) -> None:
    file = tmp_path / "deep.py"
    file.write_text(f"from transformers import BertModel\n{deep}\n")
    with pytest.raises(DataError, match="nested too deeply"):
        migrate(file, write=False)


def test_a_name_is_looked_up_once_however_often_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a program of 100,000 lines takes a minute."""
    looked_up: list[object] = []
    real = module._arguments_of
    monkeypatch.setattr(module, "_arguments_of", lambda it: looked_up.append(it) or real(it))
    file = tmp_path / "long.py"
    file.write_text("from transformers import BertModel\n" + "BertModel(1, foo=2)\n" * 500)
    assert len(migrate(file, write=False).differences) >= 500
    assert len(looked_up) == 1


def test_what_a_call_gives_is_not_the_module(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("import transformers\ntransformers.trainer.make(1).part.walk()\n")
    names = [each.name for each in migrate(file, write=False).differences]
    assert "transformers.walk" not in names
