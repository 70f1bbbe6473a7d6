"""Models that a server answers with: loaded, taken over, unloaded, and not ready after a fault."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import socket
import threading
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from bertolt import Predictor
from bertolt.base.console import StatusLine, info
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.checkpoint.sentence_files import SentenceFiles
from bertolt.commands import engines
from bertolt.commands import serve as command
from bertolt.commands.serve_options import ServeOptions
from bertolt.serve import models as served
from bertolt.serve.app import Server
from bertolt.serve.clients import Keys
from bertolt.serve.errors import RefusedError
from bertolt.serve.limits import Limits
from bertolt.serve.models import Models, version_of
from bertolt.serve.run import _Process, configured
from bertolt.tasks.base import NotFiniteError
from tests.serve.opened import RULER, fp32

TEXTS = ["a fine film", "dull", "it is well"]


def change(folder: Path) -> None:
    """Another version, which is sure of its first label."""
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] += 9
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def asked(client: TestClient, *texts: str) -> dict[str, Any]:
    answer = client.post("/v1/text-classification", json={"input": list(texts)})
    assert answer.status_code == 200, answer.text
    values: dict[str, Any] = answer.json()
    return values


def test_answers_are_those_of_predict(client: TestClient, folder: Path) -> None:
    answers = asked(client, *TEXTS)["answers"]
    for told, prediction in zip(answers, fp32(str(folder)).predict(TEXTS), strict=True):
        account = {name: told.pop(name) for name in ("tokens", "tokens_cut", "truncated")}
        assert told.pop("windows") == 1
        assert account == {"tokens": prediction.tokens, "tokens_cut": 0, "truncated": False}
        assert told.pop("probability") == pytest.approx(prediction.probability, abs=1e-6)
        assert told.pop("probabilities") == pytest.approx(prediction.probabilities, abs=1e-6)
        assert told == {"label": prediction.label}


def test_who_loads_a_model_ends_with_that(folder: Path) -> None:
    """OpenMP lets threads wait awake only while all have a core, those of the loader too."""
    loaders = []

    def load(name: str) -> Predictor:
        loaders.append(threading.current_thread())
        return fp32(name)

    Models({"mine": str(folder)}, load, selftest=True).load("mine")
    assert loaders[0] is not threading.current_thread()
    assert not loaders[0].is_alive()


def test_empty_texts_are_refused_by_themselves(client: TestClient) -> None:
    *others, last = asked(client, "", " \u200b\n", TEXTS[0])["answers"]
    assert [each["error"]["message"] for each in others] == ["the text is empty"] * 2
    assert last["label"] in ("neg", "pos")
    alone = client.post("/v1/text-classification", json={"input": ""})
    error = alone.json()["error"]
    assert (alone.status_code, error["fix"]) == (422, "give a text that shows something")
    assert client.post("/v1/text-classification", json={"input": [""]}).json()["answers"][0][
        "error"
    ] == {**error, "param": "input[0]", "fix": "leave it out"}


def test_a_new_version_is_taken_over_and_a_broken_one_is_not(
    client: TestClient, folder: Path
) -> None:
    before = asked(client, TEXTS[0])
    assert client.post("/v1/models/mine/load").json()["version"] == before["version"]
    change(folder)
    assert asked(client, TEXTS[0]) | {"time": 0} == before | {"time": 0}  # until it is loaded
    taken = client.post("/v1/models/mine/load")
    assert taken.status_code == 200, taken.text
    after = asked(client, TEXTS[0])
    assert after["version"] == version_of(str(folder)) != before["version"]
    (label, share), *_ = after["answers"][0]["probabilities"].items()
    assert share > 0.99 > before["answers"][0]["probabilities"][label]
    (folder / "model.safetensors").write_bytes(b"no weights")
    refused = client.post("/v1/models/mine/load")
    assert refused.status_code == 409
    assert refused.json()["error"]["fix"]
    assert asked(client, TEXTS[0])["version"] == after["version"]


def relabel(folder: Path, *names: str) -> None:
    """Another version, whose labels have other names."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "bertolt.json").unlink(missing_ok=True)  # which has golden answers of the old ones


def test_a_version_with_other_labels_is_taken_over_only_when_it_is_said(folder: Path) -> None:
    models, log = Models({"mine": str(folder)}, fp32), list[dict[str, Any]]()
    models.load("mine")
    server = Server(
        models,
        keys=Keys([], [RULER]),
        log=lambda event, **values: log.append({"event": event, **values}),
    )
    said = "its answers are others than those of the version that is served: labels neg, pos -> "
    with TestClient(server.app()) as client:
        client.headers["Authorization"] = f"Bearer {RULER}"
        before = asked(client, TEXTS[0])
        relabel(folder, "bad", "good")
        refused = client.post("/v1/models/mine/load")
        assert refused.status_code == 409
        assert refused.json()["error"]["message"] == f"{said}bad, good"
        assert "/v1/models/mine/load?changed=yes" in refused.json()["error"]["fix"]
        server.take_over()  # by SIGHUP, which can say nothing
        told = [each for each in log if each["event"] == "not loaded"]
        assert [said in each["error"] and "changed=yes" in each["fix"] for each in told] == [
            True
        ] * 2
        assert asked(client, TEXTS[0])["version"] == before["version"]
        assert client.post("/v1/models/mine/load?changed=perhaps").status_code == 400
        taken = client.post("/v1/models/mine/load?changed=yes")
        assert (taken.status_code, taken.json()["labels"]) == (200, ["bad", "good"])
        assert asked(client, TEXTS[0])["answers"][0]["label"] in ("bad", "good")
        told = [each for each in log if each["event"] == "answers changed"]
        assert [each["changes"] for each in told] == ["labels neg, pos -> bad, good"]
        relabel(folder, "good", "bad")  # the same names, in another order, are read by name
        assert client.post("/v1/models/mine/load").status_code == 200


def test_what_is_hidden_beside_models_is_none(folder: Path, client: TestClient) -> None:
    shutil.copytree(folder, folder.with_name(".mine.12345678.part"))  # as an export fills it
    told = client.post("/v1/models/.mine.12345678.part/load")
    assert told.status_code == 404
    assert told.json()["error"]["fix"] == "the server knows mine"


def test_another_pooling_is_another_version(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    shutil.copytree(tiny_folder, folder)
    SentenceFiles().write(folder, 32)
    before = version_of(str(folder))
    SentenceFiles(pooling="cls").write(folder, 32)
    assert version_of(str(folder)) != before
    modules = (folder / "modules.json").read_text(encoding="utf-8")
    (folder / "modules.json").write_text(modules.replace("1_Pooling", "../1_Pooling"), "utf-8")
    with pytest.raises(CheckpointError, match="no folder beside it"):
        version_of(str(folder))
    with pytest.raises(CheckpointError, match="no folder beside it"):
        SentenceFiles.read(folder)


def test_a_version_of_another_task_is_no_new_version(folder: Path) -> None:
    (folder / "bertolt.json").unlink()  # which names its task
    models = Models({"mine": str(folder)}, fp32)
    models.load("mine")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["problem_type"] = "multi_label_classification"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError) as refused:
        models.load("mine")
    assert "task text-classification -> multi-label-classification" in refused.value.problem
    (served,) = models.served
    assert served.predictor.task.name == "text-classification"


def test_a_version_with_other_labels_is_refused_before_its_weights_are_read(folder: Path) -> None:
    opened: list[str] = []

    def load(name: str) -> Predictor:
        opened.append(name)
        return fp32(name)

    models = Models({"mine": str(folder)}, load)
    models.load("mine")
    relabel(folder, "bad", "good")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="labels neg, pos -> bad, good"):
        models.load("mine")
    assert opened == [str(folder)]


def test_labels_that_change_while_a_version_is_loaded_are_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models({"mine": str(folder)}, fp32)
    before = models.load("mine")

    def late(name: str) -> Any:
        relabel(folder, "bad", "good")
        return before.promise

    monkeypatch.setattr(served, "promise_in", late)
    with pytest.raises(CheckpointError, match="labels neg, pos -> bad, good"):
        models.load("mine")
    assert models.served == [before]


def test_a_folder_that_changes_while_it_is_read_is_not_taken(folder: Path) -> None:
    def load(path: str) -> Predictor:
        predictor = fp32(path)
        if models.served:
            change(folder)  # once more, so that nobody knows which of both was read
        return predictor

    models = Models({"mine": str(folder)}, load)
    before = models.load("mine")
    change(folder)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        models.load("mine")
    assert models.served == [before]


def test_a_version_that_does_not_answer_is_not_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models({"mine": str(folder)}, fp32)
    before = models.load("mine")
    change(folder)
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "predict", lambda *given: [][0])
        with pytest.raises(IndexError):
            models.load("mine")
    assert models.served == [before]
    assert models.load("mine") is not before


def test_an_id_of_a_hub_is_not_asked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models({"mine": "someone/model"}, lambda name: fp32(folder))
    before = models.load("mine")
    monkeypatch.setattr(served, "promise_in", lambda name: pytest.fail("the hub is asked"))
    assert models.load("mine") is before


@pytest.mark.parametrize("selftest", [True, False])
def test_nothing_stays_of_a_version_that_is_refused_once_it_is_loaded(
    folder: Path, selftest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while the error is there, whose frames held all that they had worked with."""
    kept: list[weakref.ref[Any]] = []

    def load(name: str) -> Predictor:
        predictor = fp32(name)
        kept.append(weakref.ref(predictor.model))
        return predictor

    def refuse(*given: Any) -> Any:
        raise CheckpointError("it does not answer") from DataError("because of this")

    models = Models({"mine": str(folder)}, load, selftest=selftest)
    models.load("mine")
    change(folder)  # so that its golden answers are others
    if not selftest:
        monkeypatch.setattr("bertolt.serve.models.answer", refuse)
    with pytest.raises(CheckpointError, match=r"differ|does not answer"):
        models.load("mine")
    before, after = kept
    assert before() is not None
    assert after() is None


def test_nothing_stays_of_a_model_that_is_unloaded_or_taken_over(folder: Path) -> None:
    models = Models({"mine": str(folder)}, fp32)
    models.load("mine")
    with TestClient(Server(models, keys=Keys([], [RULER])).app()) as client:
        client.headers["Authorization"] = f"Bearer {RULER}"
        for way in ("load", "unload"):
            asked(client, *TEXTS)  # the threads that answered it wait for the next request now
            kept = weakref.ref(models.named("mine").predictor.model)
            change(folder)
            assert client.post(f"/v1/models/mine/{way}").status_code == 200
            assert kept() is None, way


def test_the_command_holds_no_version_while_it_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []

    def listen(server: Server, app: Any, listener: socket.socket, *_: Any) -> None:
        kept.append(weakref.ref(server.models.named("mine").predictor.model))
        server.models.unload("mine")
        kept.append(kept[0]())
        server.queue.close(1)
        listener.close()

    monkeypatch.setattr("bertolt.serve.run.listen", listen)
    command.serve([str(folder)], ServeOptions(port=0, selftest=True))
    assert kept[1:] == [None]


def test_all_that_is_told_while_it_serves_is_in_the_form_of_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listen(server: Server, app: Any, listener: socket.socket, *_: Any) -> None:
        capsys.readouterr()
        info("Engine: the fastest")
        line = StatusLine()
        line.show("Reading: 8 rows")
        line.end()
        told.append(capsys.readouterr().err)
        server.queue.close(1)
        listener.close()

    told: list[str] = []
    monkeypatch.setattr("bertolt.serve.run.listen", listen)
    for log in ("json", "off"):
        command.serve([str(folder)], ServeOptions(port=0, log=log))  # type: ignore[arg-type]
    (line,) = told[0].splitlines()
    assert json.loads(line)["message"] == "Engine: the fastest"
    assert told[1] == ""


def test_a_model_is_unloaded_and_loaded_again(client: TestClient) -> None:
    assert client.post("/v1/models/mine/unload").json()["unloaded"]
    answer = client.post("/v1/text-classification", json={"input": "text"})
    assert answer.status_code == 404
    assert client.get("/ready").status_code == 503
    assert client.get("/v1/models").json()["data"] == []
    assert client.post("/v1/models/mine/load").status_code == 200
    assert client.post("/v1/models/other/load").status_code == 404
    assert asked(client, "text")["answers"]


@pytest.mark.parametrize("when", ["before its turn", "while it is loaded"])
def test_what_is_unloaded_while_all_are_taken_over_does_not_come_back(
    folder: Path, when: str
) -> None:
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    unloaded = "other" if when == "before its turn" else "mine"
    taking = False

    def load(path: str) -> Predictor:
        if taking and Path(path) == folder:  # whose turn is the first
            models.unload(unloaded)
        return fp32(path)

    models, log = Models({"mine": str(folder), "other": str(other)}, load), list[Any]()
    for name in ("mine", "other"):
        models.load(name)
    for each in (folder, other):
        change(each)
    taking = True
    server = Server(models, log=lambda event, **values: log.append((event, values["model"])))
    server.take_over()
    assert server.queue.close(10)
    (kept,) = {"mine", "other"} - {unloaded}
    assert [model.name for model in models.served] == [kept]
    assert sorted(log) == [("loaded", kept), ("not loaded", unloaded)]


def test_it_is_not_ready_after_a_failed_pass_until_a_probe_is_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models({"mine": str(folder)}, fp32)
    model = models.load("mine")
    broken = [True]
    answer = Predictor.answer

    def answers(self: Predictor, *given: Any) -> Any:
        if broken[0]:
            raise MemoryError
        return answer(self, *given)

    monkeypatch.setattr(Predictor, "answer", answers)
    with TestClient(Server(models).app(), raise_server_exceptions=False) as client:
        assert client.get("/ready").status_code == 200
        failed = client.post("/v1/text-classification", json={"input": "text"})
        assert failed.status_code == 500
        assert failed.json()["error"]["type"] == "server_error"
        assert model.error == "MemoryError"
        assert client.get("/ready").status_code == 503
        broken[0] = False
        with monkeypatch.context() as patched:  # a probe that comes back without an answer
            patched.setattr(
                Predictor, "answer", lambda *given: iter([NotFiniteError("not finite")])
            )
            assert client.get("/ready").status_code == 503
        assert client.get("/ready").status_code == 200
        assert model.error is None


def test_a_folder_that_goes_while_it_is_served_is_told_and_answers_go_on(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models({"mine": str(folder)}, fp32)
    models.load("mine")
    read = Path.open

    def vanishing(path: Path, *given: Any, **named: Any) -> Any:
        if path.name == "config.json":
            raise FileNotFoundError(2, "No such file or directory")
        return read(path, *given, **named)

    with monkeypatch.context() as patched:  # a file that is there when the folder is listed
        patched.setattr(Path, "open", vanishing)
        refused = client.post("/v1/models/mine/load")
    assert refused.status_code == 409, refused.text
    assert refused.json()["error"]["fix"] == "load it once it is whole"
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])  # in place: what is served was read whole
    assert asked(client, TEXTS[0])["answers"]
    shutil.rmtree(folder)
    assert asked(client, TEXTS[0])["answers"]
    assert client.post("/v1/models/mine/load").status_code == 404  # of --models-dir
    with pytest.raises(CheckpointError, match="the folder is gone"):
        models.load("mine")


def test_answers_of_a_port_go_at_once() -> None:
    async def delays() -> int:
        seen = asyncio.get_running_loop().create_future()

        class Seen(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                taken = transport.get_extra_info("socket")
                seen.set_result(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        listener = command._bound("127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(Seen, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.close()
            return int(await seen)

    assert asyncio.run(delays())


def test_of_two_servers_that_took_one_port_the_second_is_told() -> None:
    with command._bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with command._bound("127.0.0.1", port) as second:  # while the first one loads its models
            command._open_port(first)
            with pytest.raises(UsageError, match=f"{port} cannot be had"):
                command._open_port(second)
        with pytest.raises(UsageError, match="cannot be had"):
            command._bound("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("192.0.2.1", None),  # of no machine
        ("a..b", None),
        ("my.host.invalid", socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
        ("::1", OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")),
    ],
)
def test_an_address_that_is_none_of_this_machine_is_no_matter_of_the_port(
    monkeypatch: pytest.MonkeyPatch, host: str, error: OSError | None
) -> None:
    def refuses(*given: Any) -> None:
        raise error  # type: ignore[misc]

    if error is not None:
        monkeypatch.setattr(command, "_listener", refuses)
    with pytest.raises(UsageError, match="is no address of this machine") as refused:
        command._bound(host, 0)
    assert refused.value.place == "--host"


def test_a_folder_of_models_that_nobody_can_load_from_is_refused(tmp_path: Path) -> None:
    for folder, words in (("none", "there is no folder"), (".", "nobody could load")):
        options = ServeOptions(models_dir=tmp_path / folder, check=True)
        with pytest.raises(UsageError, match=words) as refused:
            command.serve([], options)
        assert refused.value.place == "--models-dir"
    (keys := tmp_path / "keys").write_text("a-key-of-those-who-ask\n")
    said = command._conditions(ServeOptions(keys=keys, max_file=7), 64, 4, rules=False)
    assert "nobody may load models" in said[0]
    assert "Files: 7 MB each, 4 answered at a time" in said
    said = command._conditions(ServeOptions(host="0.0.0.0"), 64, 4, rules=False)
    assert any("asked by its addresses and as 'localhost'; other" in line for line in said)


def test_a_name_that_no_request_could_have_is_refused_as_a_name(tmp_path: Path) -> None:
    for wrong in ("good/bad=folder", "a?b=folder", "=folder"):
        with pytest.raises(UsageError, match="is no name") as refused:
            command._folders([wrong])
        assert "without / ? #" in str(refused.value)
    with pytest.raises(UsageError, match="two models have the name 'x'"):
        command._folders(["x=a", "b/x"])
    (tmp_path / "lr=3").mkdir()
    assert command._folders([str(tmp_path / "lr=3")]) == {"lr=3": str(tmp_path / "lr=3")}


def test_too_many_connections_are_refused_in_the_server_s_own_words(folder: Path) -> None:
    models = Models({"mine": str(folder)}, fp32)
    models.load("mine")
    log: list[Any] = []
    server = Server(models, Limits(connections=2), log=lambda event, **_: log.append(event))
    app = server.app()
    process = _Process(configured(server, app), server, drain=0)
    assert process.config.limit_concurrency is None  # which answers without the app
    with TestClient(app) as client:
        assert client.get("/v1/models").status_code == 200
        process.server_state.connections |= {object() for _ in range(3)}  # type: ignore[misc]
        refused = client.get("/v1/models")
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] == "too many connections are open"
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert client.get("/health").status_code == 200
    assert log == ["request", "request"]


def test_an_answer_of_a_server_that_leaves_closes_its_connection(folder: Path) -> None:
    models = Models({"mine": str(folder)}, fp32)
    models.load("mine")
    server = Server(models)
    with TestClient(server.app()) as client:
        before = client.post("/v1/text-classification", json={"input": TEXTS[0]})
        server.leave()
        after = client.post("/v1/text-classification", json={"input": TEXTS[0]})
    assert (before.status_code, before.headers.get("connection")) == (200, None)
    assert (after.status_code, after.headers.get("connection")) == (200, "close")


def test_golden_answers_that_differ_are_refused(folder: Path) -> None:
    Models({"mine": str(folder)}, fp32, selftest=True).load("mine")
    contract = json.loads((folder / "bertolt.json").read_text(encoding="utf-8"))
    for entry in contract["golden"]:
        entry["answer"]["probability"] = 0.123
        names = list(entry["answer"]["probabilities"])
        entry["answer"]["probabilities"] = dict.fromkeys(names, 1 / len(names))
    (folder / "bertolt.json").write_text(json.dumps(contract), encoding="utf-8")
    with pytest.raises(CheckpointError, match="golden answers differ"):
        Models({"mine": str(folder)}, fp32, selftest=True).load("mine")


def test_a_request_names_one_of_several_models_of_a_task(folder: Path) -> None:
    models = Models({"one": str(folder), "two": str(folder)}, fp32)
    for name in ("one", "two"):
        models.load(name)
    assert models.of_task("text-classification", "two").name == "two"
    with pytest.raises(RefusedError, match="2 models do text-classification") as several:
        models.of_task("text-classification", None)
    assert "'one', 'two'" in several.value.fix
    with pytest.raises(RefusedError, match="no model does fill-mask"):
        models.of_task("fill-mask", None)


def test_the_fastest_engine_is_chosen_where_that_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[Path | None] = []
    contestants: list[Any] = []

    def choose(
        model: str, work: Path, file: Path | None, *, by: str, **columns: Any
    ) -> engines.Choice:
        contestants.append(columns.pop("contestants"))
        assert columns.pop("reading").encoding == "cp1252"
        assert (by, columns) == ("serving", {"text": "what", "label": None})
        files.append(file)
        return engines.Choice(engine="torch", precision="int8", folder=model, reason="it is fast")

    monkeypatch.setattr(engines, "choose", choose)
    options = ServeOptions(
        engine="auto", score_on=Path("known.csv"), text="what", encoding="cp1252"
    )
    opened = command._Opener(options)
    predictor = opened(str(folder))
    assert (predictor.engine.name, predictor.precision.name) == ("torch", "int8")
    assert files == [Path("known.csv")]
    assert command._Opener(ServeOptions(precision="fp32"))(str(folder)).precision.name == "fp32"
    opened(str(folder))  # a new version: the one that was chosen, beside what it is held against
    assert contestants == [engines.CONTESTANTS, (engines.CONTESTANTS[0], ("torch", "int8"))]


def test_answers_of_another_number_format_are_tested_as_they_were_saved(folder: Path) -> None:
    def bf16(name: str) -> Predictor:
        return Predictor.from_pretrained(name, precision="bf16")

    model = Models({"mine": str(folder)}, bf16, selftest=True).load("mine")
    told = command._tested("mine", model.predictor)
    assert "golden answers are as they were saved; by torch in bf16 numbers are up to 0.0" in told


def test_texts_that_are_compared_are_each_read_in_one_window(real_checkpoint: Path) -> None:
    models = Models({"similar": str(real_checkpoint)}, partial(fp32, task="sentence-similarity"))
    models.load("similar")
    asks = [{"text": "It is good.", "text_pair": "good " * 2000}, "It is good."]
    with TestClient(Server(models).app()) as client:
        told = [client.post("/v1/sentence-similarity", json={"input": each}) for each in asks]
    pair, single = (each.json()["answers"][0] for each in told)
    assert (pair["windows"], single["windows"]) == (1, 1)  # two texts, and neither in several
    assert (pair["truncated"], single["truncated"]) == (True, False)
    assert pair["tokens"] > 2000 > single["tokens"]
