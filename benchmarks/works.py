"""What there is to do: one row a work."""

from __future__ import annotations

from dataclasses import dataclass, replace

_TRAINERS = (
    "bertolt",
    "bertolt-grouped",
    "bertolt-fp32",
    "peer-fp32",
    "peer-bf16",
    "peer-grouped",
    "peer-grouped-fp32",
    "peer-tuned",
)
# Where all texts are of one length there is nothing to group.
_EVEN = ("bertolt", "bertolt-fp32", "peer-fp32", "peer-bf16", "peer-tuned")
_BULK = (
    "bertolt",
    "bertolt-sorted",
    "bertolt-fp32",
    "bertolt-int8",
    "pipeline",
    "pipeline-sorted",
    "loop-fp32",
    "loop-bf16",
    "sentences",
    "ort-fp32",
    "ort-int8",
    "openvino-fp32",
    "openvino-bf16",
)
_SINGLE = (
    "bertolt",
    "bertolt-fp32",
    "bertolt-int8",
    "pipeline",
    "pipeline-bf16",
    "ort-fp32",
    "ort-int8",
    "openvino-fp32",
    "openvino-bf16",
)
_QUICK_TRAINERS = ("bertolt", "bertolt-grouped", "peer-grouped", "peer-tuned")
_QUICK_BULK = ("bertolt", "pipeline", "loop-bf16", "ort-int8", "openvino-bf16")
_QUICK_SINGLE = ("bertolt", "pipeline", "ort-fp32", "ort-int8", "openvino-bf16")
_COMMANDS = ("bertolt", "bertolt-grouped", "peer-grouped", "peer-tuned")


@dataclass(frozen=True, kw_only=True)
class Work:
    """One work.

    Attributes:
        name: what a person types.
        title: what the tables say.
        kind: "train", "mlm", "pretrain", "start" (until the first step has ended), "predict",
            "single" or "command" (whole, until the report lies there).
        texts: "movie", "zh" (Chinese reviews, with a long tail), "joined": movie sentences put
            together until each text has `max_length` tokens, or "corpus": Chinese news and reviews
            without labels.
        model: "mini" (6 layers, hidden 384, pretrained), "zh" (the same with a vocabulary of the
            Chinese reviews), "base" (12 layers, hidden 768, random weights), or "small" (4 layers,
            hidden 256, random weights).
        steps: timed steps, or batches of texts; for "single" each has one text.
        warmup: steps or batches before them, at least 1.
        batch_size: texts in each.
        contestants: names, in the order of the table.
        rows: most texts to train on. Who groups by length sorts a quarter of them at a time, of
            50 batches at most, so the timed steps are as many as such a window has, or all of
            its lengths would not be timed.
        max_length: most tokens of a text.
        epochs: of a command.
        quick: those that `--quick` measures; it leaves works without any out.
        asked: done only when it is asked for by name.
    """

    name: str
    title: str
    kind: str
    texts: str = "movie"
    model: str = "mini"
    steps: int
    warmup: int
    batch_size: int = 32
    contestants: tuple[str, ...]
    rows: int = 8000
    max_length: int = 512
    epochs: float = 1.0
    quick: tuple[str, ...] = ()
    asked: bool = False

    def with_steps(self, steps: int) -> Work:
        """With so many steps, and no more of them to warm up."""
        return replace(self, steps=steps, warmup=min(self.warmup, steps))

    def shortened(self) -> Work:
        """The quick form: a third of the steps, and the contestants that matter most."""
        return replace(
            self,
            steps=max(1, self.steps // 3),
            warmup=max(1, self.warmup // 2),
            contestants=self.quick,
        )


WORKS = {
    each.name: each
    for each in (
        Work(
            name="finetune-movie",
            title="Fine-tuning on short sentences (6 layers, batches of 32)",
            kind="train",
            steps=50,
            warmup=10,
            contestants=_TRAINERS,
            quick=_QUICK_TRAINERS,
        ),
        Work(
            name="finetune-zh",
            title="Fine-tuning on Chinese reviews with a long tail (6 layers, batches of 32)",
            kind="train",
            texts="zh",
            model="zh",
            steps=30,
            warmup=5,
            contestants=_TRAINERS,
            rows=3840,
            quick=_QUICK_TRAINERS,
        ),
        Work(
            name="finetune-512",
            title="Fine-tuning on texts of 512 tokens (6 layers, batches of 8)",
            kind="train",
            texts="joined",
            steps=16,
            warmup=3,
            batch_size=8,
            contestants=_EVEN,
        ),
        Work(
            name="finetune-base",
            title="Fine-tuning a 12-layer base-size model on short sentences (batches of 32)",
            kind="train",
            model="base",
            steps=12,
            warmup=3,
            contestants=_TRAINERS,
            rows=1536,
        ),
        Work(
            name="mlm",
            title="Masked language modelling on texts of 128 tokens (6 layers, batches of 32)",
            kind="mlm",
            texts="joined",
            steps=16,
            warmup=3,
            contestants=_EVEN,
            max_length=128,
        ),
        Work(
            name="pretrain-zh",
            title="Pretraining on Chinese text, 4,096 tokens a step (4 layers of 256, bf16)",
            kind="pretrain",
            texts="corpus",
            model="small",
            steps=40,
            warmup=10,
            contestants=("bertolt", "hand-sdpa", "hand-eager"),
            max_length=128,
        ),
        Work(
            name="predict-movie",
            title="Answering short sentences in bulk (6 layers)",
            kind="predict",
            steps=60,
            warmup=8,
            contestants=_BULK,
            quick=_QUICK_BULK,
        ),
        Work(
            name="predict-zh",
            title="Answering Chinese reviews in bulk (6 layers)",
            kind="predict",
            texts="zh",
            model="zh",
            steps=24,
            warmup=4,
            contestants=_BULK,
        ),
        Work(
            name="single-movie",
            title="Answering short sentences one at a time (6 layers)",
            kind="single",
            steps=300,
            warmup=30,
            batch_size=1,
            contestants=_SINGLE,
            quick=_QUICK_SINGLE,
        ),
        Work(
            name="first-step",
            title="From the start of the process to the end of its first step (8,000 texts)",
            kind="start",
            steps=1,
            warmup=1,
            contestants=("bertolt", "peer-grouped", "peer-tuned"),
        ),
        Work(
            name="command",
            title="The whole of a fine-tuning: 2,000 sentences, one epoch, measured and saved",
            kind="command",
            steps=0,
            warmup=0,
            contestants=_COMMANDS,
            rows=2000,
        ),
        Work(
            name="accuracy",
            title="Accuracy of three epochs over all movie sentences; each repeat has its own seed",
            kind="command",
            steps=0,
            warmup=0,
            contestants=("bertolt", "bertolt-grouped", "peer-bf16", "peer-grouped"),
            rows=1_000_000,
            epochs=3.0,
            asked=True,
        ),
    )
}
"""By name, in the order in which they are done."""
