"""What a user sets for `serve`. Only light modules are imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bertolt.base.errors import UsageError
from bertolt.base.options import above, at_least, check_options
from bertolt.commands.file_options import FileOptions
from bertolt.data.long import Long
from bertolt.models.config import AnswerPrecision, EngineName

_DRAIN = 5.0
_OF_A_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@dataclass(frozen=True, kw_only=True)
class ServeOptions(FileOptions):
    """Settings of `serve`; the text below each field is the command's help. How files
    are read is of the file of --score-on.

    Raises:
        UsageError: a value out of its range; the message names the option.
    """

    host: str = "127.0.0.1"
    """Address to listen at: this machine alone, unless told; 0.0.0.0 is every address."""
    port: int = field(default=8000, metadata=at_least(0))
    """Port to listen at; 0 takes a free one, and says which."""
    allowed_hosts: str | None = None
    """Names by which the server may be asked beside its addresses, localhost and --host, with
    commas between them. Without --keys any other name is refused, so that no page of the web reads
    answers here by a name of its own."""
    models_dir: Path | None = None
    """Folder whose folders are models too, by their own names; they are loaded when asked for."""
    keys: Path | None = None
    """File of the keys that may ask, one a line; "admin KEY" may load and unload models too."""
    check: bool = False
    """Say what the server would do and with what memory, and end."""
    selftest: bool = False
    """Answer the golden texts of each model first, and refuse to start when one differs."""
    precision: AnswerPrecision = "auto"
    """Number format: auto measures whether bfloat16 is faster here."""
    engine: EngineName | None = None
    """What answers: torch, onnxruntime or openvino; auto measures all that are installed, and takes
    the fastest that keeps the score. Default: torch, or what the folder was exported for."""
    score_on: Path | None = None
    """File with answers that are known, which --engine auto scores each engine on: without it int8,
    which could lose some, is left out."""
    text: str | None = None
    """Column of the texts in the file of --score-on. Default: as in training, or found by its
    name."""
    label: str | None = None
    """Column of the labels in the file of --score-on. Default: as in training, or found by its
    name."""
    long: Long | None = None
    """What is done with a text beyond the limit: error, truncate, head-tail or window. Default: as
    in training."""
    stride: int | None = field(default=None, metadata=at_least(0))
    """Tokens that a window repeats of the one before it. Default: as in training."""
    token_ids: Path | None = None
    """File of the vocabulary whose ids clients send to /v1/embeddings, as tiktoken keeps it: for
    LangChain's default cl100k_base.tiktoken. Default: ids are of the model's own tokenizer."""
    max_body: int = field(default=8, metadata=at_least(1))
    """Most megabytes of a request."""
    max_file: int = field(default=256, metadata=at_least(1))
    """Most megabytes of a file that is sent to /v1/files, of which four are answered at a time."""
    max_texts: int = field(default=2048, metadata=at_least(1))
    """Most texts of a request."""
    max_characters: int = field(default=200_000, metadata=at_least(1))
    """Most characters of a text."""
    max_waiting: int = field(default=20_000, metadata=at_least(1))
    """Most texts that wait, of all requests; then the server answers 503."""
    timeout: float = field(default=60.0, metadata=above(0))
    """Seconds in which a request is answered, or given up; so long may the server's end take."""
    drain: float | None = field(default=None, metadata=at_least(0))
    """Seconds after SIGTERM in which requests are still taken while /ready is 503, so that a
    balancer turns away before the port closes; a part of --timeout. Default: 5, or half of it."""
    rate: float | None = field(default=None, metadata=above(0))
    """Requests a second of a client, on average. Default: as many as it likes."""
    connections: int = field(default=2048, metadata=at_least(1))
    """Most connections at a time."""
    log: Literal["json", "off"] = "json"
    """A line for each request on standard error, or none."""

    @property
    def host_names(self) -> list[str]:
        """The names of `allowed_hosts`."""
        return [each.strip() for each in (self.allowed_hosts or "").split(",") if each.strip()]

    @property
    def drain_seconds(self) -> float:
        """`drain`, or its default."""
        return min(_DRAIN, self.timeout / 2) if self.drain is None else self.drain

    def __post_init__(self) -> None:
        check_options(self)
        if self.score_on is not None and self.engine != "auto":
            raise UsageError(
                "a score is measured to choose an engine, and none is chosen",
                place="--score-on",
                fix="add --engine auto, or leave --score-on out",
            )
        columns = [name for name in ("text", "label") if getattr(self, name) is not None]
        for name in columns + self.named():
            if self.score_on is None:
                raise UsageError(
                    "it is said how a file is read, and there is no file",
                    place=f"--{name.replace('_', '-')}",
                    fix="add --engine auto --score-on FILE, or leave it out",
                )
        if self.engine == "auto" and self.precision != "auto":
            raise UsageError(
                "--engine auto chooses the number format too",
                place="--precision",
                fix="leave --precision out, or name the engine",
            )
        if self.drain is not None and self.drain > self.timeout:
            raise UsageError(
                f"--timeout {self.timeout:g} ends before {self.drain:g} seconds are over",
                place="--drain",
                fix="use a shorter one, or a longer --timeout",
            )
        for name in self.host_names:
            if not set(name.lower()) <= _OF_A_HOST:
                raise UsageError(
                    f"{name!r} is no name of a host",
                    place="--allowed-hosts",
                    fix="give it as bertolt.example.org, without a scheme, a port or a path",
                )
        if self.port > 65_535:
            raise UsageError(f"there is no port {self.port}", place="--port", fix="use 8000")
