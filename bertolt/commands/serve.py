"""What `bertolt serve` does: load the models, say what will be served, and serve it."""

from __future__ import annotations

import errno
import importlib.util
import math
import os
import socket
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertolt.base.console import info, told_to
from bertolt.base.errors import BertoltError, UsageError
from bertolt.base.format import gibibytes, plural
from bertolt.base.machine import memory_bytes, resident_bytes
from bertolt.base.threads import in_a_thread_of_its_own
from bertolt.commands.serve_options import ServeOptions
from bertolt.data.table_file import listing
from bertolt.models.config import AnswerPrecision, EngineName
from bertolt.tasks.answers import difference
from bertolt.tasks.predictor import Predictor

if TYPE_CHECKING:
    from bertolt.serve.limits import Limits
    from bertolt.serve.models import Models

_NEEDED = ("starlette", "uvicorn", "prometheus_client")
_BACKLOG = 2048  # connections that wait to be taken
_WAITING_BYTES = 16  # of a character, and of the tokens that it may be
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    models: list[str], options: ServeOptions, hung_up: Callable[[], bool] = lambda: False
) -> None:
    """Load models and serve them until SIGTERM or Ctrl-C.

    Args:
        models: folders, or NAME=FOLDER.
        options: settings.
        hung_up: whether SIGHUP came before the server takes it: what it asks for is done then.

    Raises:
        UsageError: a name twice, no model, a port that is taken, or something is not installed.
        CheckpointError: a model cannot be loaded, or does not answer as it was saved with.
        BertoltError: the time was over before all was answered.
    """
    _require_installed()
    from bertolt.commands.file_answers import FileAnswers
    from bertolt.serve.app import Server
    from bertolt.serve.clients import Keys
    from bertolt.serve.embeddings import OtherVocabulary
    from bertolt.serve.files import MOST, file_routes
    from bertolt.serve.hosts import Hosts
    from bertolt.serve.log import log_nothing, log_to_stderr
    from bertolt.serve.models import Models
    from bertolt.serve.run import listen

    folders = _folders(models)
    if not folders and options.models_dir is None:
        raise UsageError("there is no model to serve", fix="name a folder: bertolt serve MODEL")
    if options.models_dir is not None:
        _require_loadable(options.models_dir, options.keys)
    keys = None if options.keys is None else Keys.read(options.keys)
    named = keys is None or options.host_names  # who has a key is no page of somebody's
    hosts = Hosts([options.host, *options.host_names]) if named else None
    vocabulary = None if options.token_ids is None else OtherVocabulary.read(options.token_ids)
    limits = _limits(options)
    address = None if options.check else _bound(options.host, options.port)
    served = Models(folders, _Opener(options), selftest=options.selftest, parent=options.models_dir)
    _load_all(served, folders, selftest=options.selftest)
    rules = keys is not None and keys.rules
    for line in _conditions(options, limits.waiting_characters, MOST, rules=rules):
        info(line)
    if options.check or address is None:
        return
    log = log_to_stderr if options.log == "json" else log_nothing
    server = Server(served, limits, keys, log, vocabulary, hosts)
    host, port = address.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _open_port(address)
    info(f"Serving at http://{shown}:{port}, with a page to try it; end with Ctrl-C")
    with told_to(lambda message: log("told", message=message)):  # one form for all that it says
        app = server.app(file_routes(server, FileAnswers))
        listen(server, app, address, options.drain_seconds, hung_up)
    if server.unanswered:
        raise BertoltError(
            f"the time was over before {plural(server.unanswered, 'request')} had a whole answer",
            place="the end of the server",
            fix="give it more: --timeout",
        )
    info("The server has answered what was there, and ends")


def _limits(options: ServeOptions) -> Limits:
    """What is refused, and when, as the options say."""
    from bertolt.serve.limits import Limits

    return Limits(
        body_bytes=options.max_body << 20,
        file_bytes=options.max_file << 20,
        texts=options.max_texts,
        characters=options.max_characters,
        waiting=options.max_waiting,
        seconds=options.timeout,
        rate=options.rate,
        connections=options.connections,
    )


def _load_all(served: Models, folders: Iterable[str], *, selftest: bool) -> None:
    """Load models and tell of them; by themselves, so that nothing here holds a version of one."""
    for name in folders:
        before = resident_bytes()
        model = served.load(name)
        model.predictor.tell_long()
        info(_told(model.to_dict(), served.folders[name], resident_bytes() - before))
    if selftest:
        for model in served.served:
            info(in_a_thread_of_its_own(partial(_tested, model.name, model.predictor)))


class _Opener:
    """Opens folders by the engine that is asked for, or by the fastest that keeps the score.

    A new version of a folder gets the engine of the one before, if that keeps its score too: to
    measure all of them would take the cores from those that are asking.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._how: dict[str, Any] = {"long": options.long, "stride": options.stride}
        self._chosen: dict[str, tuple[EngineName, AnswerPrecision]] = {}

    def __call__(self, folder: str) -> Predictor:
        """The predictor of a folder.

        Raises:
            BertoltError: it cannot be opened.
        """
        options = self._options
        if options.engine == "auto":
            return self._fastest(folder)
        engine = options.engine or "auto"
        return Predictor.from_pretrained(
            folder, precision=options.precision, engine=engine, **self._how
        )

    def _fastest(self, folder: str) -> Predictor:
        from bertolt.commands.engines import CONTESTANTS, choose

        options, contestants = self._options, CONTESTANTS
        if folder in self._chosen:
            contestants = tuple(dict.fromkeys((CONTESTANTS[0], self._chosen[folder])))
        with tempfile.TemporaryDirectory(prefix="bertolt-engines-") as work:
            choice = choose(
                folder,
                Path(work),
                options.score_on,
                text=options.text,
                label=options.label,
                reading=options,
                by="serving",
                contestants=contestants,
            )
            info(str(choice))
            self._chosen.setdefault(folder, (choice.engine, choice.precision))
            return Predictor.from_pretrained(
                choice.folder, precision=choice.precision, engine=choice.engine, **self._how
            )


def _require_installed() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the server needs {listing(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed",
            fix="pip install 'bertolt[serve]'",
        )


def _require_loadable(folder: Path, keys: Path | None) -> None:
    """Refuse a folder of models that there is not, or that nobody could load one of."""
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {str(folder)!r}",
            place="--models-dir",
            fix="name a folder of model folders, or leave --models-dir out",
        )
    if keys is None:
        raise UsageError(
            "nobody could load a model of this folder: that takes the key of an administrator",
            place="--models-dir",
            fix='add --keys FILE with a line "admin KEY", or name the models: bertolt serve MODEL',
        )


def _folders(models: list[str]) -> dict[str, str]:
    """The folders by name: the name that is given, or the last part of the path."""
    folders: dict[str, str] = {}
    for model in models:
        name, equals, folder = model.partition("=")
        if not equals or (os.sep in name and Path(model).exists()):  # a path may have a "=" too
            name, folder = Path(model).name or Path(model).resolve().name, model
        if (
            not name
            or not folder
            or any(character in name for character in "/?#%\\")
            or name in folders
        ):
            twice = name in folders
            raise UsageError(
                f"two models have the name {name!r}" if twice else f"{name!r} is no name",
                place=model,
                fix="give each a name of its own: NAME=FOLDER"
                if twice
                else "give NAME=FOLDER, with a name without / ? # % and \\",
            )
        folders[name] = folder
    return folders


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before anything is loaded.

    Raises:
        UsageError: the address or the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _listener(family, (host, port))
    except (OSError, UnicodeError) as error:  # a name that no name may be is no text of IDNA
        raise _taken(host, port, error) from error


def _listener(family: int, address: tuple[str, int]) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        OSError, UnicodeError: it cannot be.
    """
    # Named, for asyncio lets small parts go at once on such sockets alone; without that, each
    # answer waits 40 ms for the client to confirm its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def _open_port(listener: socket.socket) -> None:
    """Have a socket take connections; till then another server may have taken its port.

    Raises:
        UsageError: it has.
    """
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _taken(host, port, error) from error


def _taken(host: str, port: int, error: OSError | UnicodeError) -> UsageError:
    """What to raise where an address cannot be had: by its host, or by its port."""
    reason = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) not in (errno.EADDRINUSE, errno.EACCES):
        return UsageError(
            f"{host} is no address of this machine: {reason}",
            place="--host",
            fix="use 127.0.0.1 for programs of this machine, or 0.0.0.0 for every address",
        )
    return UsageError(
        f"{host}:{port} cannot be had: {reason}",
        place="--port",
        fix="use another one, as --port 8001, or --port 0 for any that is free",
    )


def _told(model: dict[str, object], folder: str, size: int) -> str:
    labels = model["labels"]
    has = f", {plural(len(labels), 'label')}" if isinstance(labels, list) else ""
    return (
        f"{model['id']}: {model['task']}{has}, from {folder}, version {model['version']}; "
        f"{model['precision']} by {model['engine']}, up to {model['max_length']:,} tokens "
        f"(longer: {model['long']}), {gibibytes(max(0, size))} of memory"
    )


def _tested(name: str, predictor: Predictor) -> str:
    """What the self-test has shown, and how far answers are in the number format that serves."""
    golden = predictor.contract.golden if predictor.contract else []
    if not golden:
        return f"{name}: no golden answers were saved with it, so that none were tested"
    told = f"{name}: {plural(len(golden), 'golden answer')} are as they were saved"
    if predictor.precision.name == "fp32":
        return told
    again = predictor.predict([entry.example for entry in golden])
    gap = max(
        difference(entry.answer, predictor.task.public(prediction.answer))
        for entry, prediction in zip(golden, again, strict=True)
    )
    how = f"by {predictor.engine.name} in {predictor.precision.name}"
    away = f"numbers are up to {gap:.2g} away" if math.isfinite(gap) else "some are others"
    return f"{told}; {how} {away}"


def _conditions(options: ServeOptions, waiting: int, files: int, *, rules: bool) -> list[str]:
    """Who may ask, how much, and with what memory."""
    lines = []
    if options.keys is None:
        who = (
            "Anybody who reaches this address may ask"
            if options.host not in _LOOPBACK
            else ("Programs of this machine may ask")
        )
        lines.append(f"{who}, without a key; nobody may load or unload models")
    else:
        who = f"Who has a key of {options.keys} may ask"
        lines.append(who if rules else f'{who}; none is "admin KEY", so nobody may load models')
    if options.host not in _LOOPBACK and options.keys is None:
        lines.append("--keys FILE would ask for a key; without TLS in front, texts go in the clear")
        names = listing(["localhost", *options.host_names])
        lines.append(
            f"It is asked by its addresses and as {names}; other names are refused: "
            "--allowed-hosts NAME"
        )
    rate = f", {options.rate:g} requests a second of a client" if options.rate else ""
    lines.append(
        f"Limits: {options.max_body} MB and {options.max_texts:,} texts a request, "
        f"{options.max_characters:,} characters a text, {options.max_waiting:,} texts waiting, "
        f"{options.timeout:g} s for an answer{rate}"
    )
    lines.append(f"Files: {options.max_file} MB each, {files} answered at a time")
    total = memory_bytes()
    of_all = f" of {gibibytes(total)}" if total else ""
    lines.append(
        f"Memory: {gibibytes(resident_bytes())} now{of_all}; texts that wait take up to "
        f"{gibibytes(_WAITING_BYTES * waiting)} more"
    )
    return lines
