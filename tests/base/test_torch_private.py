"""Names that PyTorch does not promise: in one module alone, and what happens where one is gone."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bertolt
from bertolt import BertForSequenceClassification, BertModel
from bertolt.base import distributed, torch_private
from bertolt.base.errors import UsageError
from bertolt.base.torch_private import SHORTCUTS, Shortcut
from bertolt.data.batch import PackedBatch
from bertolt.models.evaluating import evaluating
from bertolt.models.frozen import freeze
from bertolt.models.precision import choose_precision
from tests.private_names import NAMES, without

ROOT = Path(bertolt.__file__).parents[1]
FOLDERS = ("bertolt", "benchmarks", "examples")
HOME = "bertolt/base/torch_private.py"


# ---- no other module uses one ----


def private_attributes() -> set[str]:
    """What modules, tensors, optimizers and schedules of PyTorch call their own affairs."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    owners = [nn.Module(), nn.Linear(1, 1), weight, optimizer, schedule, torch.Generator()]
    names = {name for each in owners for name in dir(each)} | {torch_private.COMPILED_INSIDE}
    return {name for name in names if is_private(name)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(source: str, attributes: set[str]) -> Iterator[str]:
    """The uses of such names in a program; without PyTorch its own classes may have such names."""
    tree = ast.parse(source)
    roots = dict(torch_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                path = f"{module}.{alias.name}".strip(".").split(".")
                if path[0] == "torch" and any(map(is_private, path)):
                    yield ".".join(path)
        elif isinstance(node, ast.Attribute):
            path = dotted(node)
            if path and path[0] in roots:
                path = [*roots[path[0]].split("."), *path[1:]]
                if any(map(is_private, path)) or path[:2] == ["torch", "ops"]:
                    yield ".".join(path)
            elif node.attr in attributes and (roots or path[:1] != ["self"]):
                yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and node.value in attributes:
            yield repr(node.value)
        elif roots and isinstance(node, ast.FunctionDef) and node.name in attributes:
            yield f"def {node.name}"


def torch_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each name in a program that stands for a part of PyTorch, and which."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    yield alias.asname or "torch", alias.name if alias.asname else "torch"
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def dotted(node: ast.expr) -> list[str]:
    """a.b.c as its parts; empty where it begins with something else than a name."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return [*before, node.attr] if before else []
    return [node.id] if isinstance(node, ast.Name) else []


def test_one_module_alone_uses_private_names_of_pytorch() -> None:
    attributes = private_attributes()
    assert {"_modules", "_forward_hooks", "_apply", "_backward_hooks", "_version"} <= attributes
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    used = {
        name: sorted(set(private_uses(path.read_text(encoding="utf-8"), attributes)))
        for path in paths
        if (name := path.relative_to(ROOT).as_posix()) != HOME
    }
    assert len(used) > 200
    assert {name: uses for name, uses in used.items() if uses} == {}


@pytest.mark.parametrize(
    "program",
    [
        "import torch\ntorch._C.x",
        "import torch.distributed as dist\ndist.distributed_c10d._get_default_store()",
        "from torch import ops, nn\nnn.modules._functions",
        "from torch._C._distributed_c10d import TCPStore",
        "from torch.nn.functional import _verify_batch_size",
        "import torch._dynamo",
        "import torch\ntorch.ops.aten.mm",
        "model._modules['a']",
        "p.grad._version",
        "getattr(p, '_backward_hooks')",
        "vars(module)['_forward_hooks']",
        "from torch import nn\nclass A(nn.Module):\n    def _apply(self, fn): pass",
    ],
)
def test_the_search_sees(program: str) -> None:
    assert list(private_uses(program, private_attributes()))


# ---- where one is gone ----


def test_this_pytorch_has_them_all() -> None:
    assert torch_private.off() == []


def test_names_are_those_that_are_used() -> None:
    """Each private name that the module speaks of is looked up by a shortcut."""
    source = (ROOT / "bertolt/base/torch_private.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    looked_up = {part for name in NAMES for part in name.split(".")}
    own = {"_schema"}  # of an operator that is looked up, and so is that
    assert {name for name in used if is_private(name)} - looked_up == own


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_gone_is_told(name: str) -> None:
    with without(name) as reason:
        lines = torch_private.off()
        assert lines
        assert all(reason in line and torch.__version__ in line for line in lines)
        assert {line.rpartition("; ")[2] for line in lines} <= {each.instead for each in SHORTCUTS}
    assert torch_private.off() == []


@pytest.fixture
def model(tiny_config: Any, randomised: Callable[..., nn.Module]) -> BertForSequenceClassification:
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = randomised(BertForSequenceClassification(config))
    assert isinstance(model, BertForSequenceClassification)
    return model


@pytest.fixture
def batch(padded: Callable[..., dict[str, Tensor]]) -> PackedBatch:
    packed, _ = PackedBatch.from_padded(**padded([9, 2, 17]), labels=torch.tensor([0, 1, 0]))
    return packed


def answered(model: Any, batch: PackedBatch, precision: str) -> Tensor:
    choice = choose_precision(precision, torch.device("cpu"), answering=True)
    with torch.inference_mode(), evaluating(model), choice.autocast(model.device):
        logits: Tensor = freeze(model, precision)(batch).logits
        return logits.float()


def learned(model: Any, batch: PackedBatch) -> list[Tensor]:
    """The loss of a step, and its gradients."""
    torch.manual_seed(0)
    model.train()
    model.zero_grad()
    loss = model(batch).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_same_without_a_name(name: str, model: Any, batch: PackedBatch) -> None:
    answers = {each: answered(model, batch, each) for each in ("fp32", "bf16")}
    step = learned(model, batch)
    with without(name):
        for precision, tolerance in (("fp32", 1e-5), ("bf16", 3e-2)):
            found = answered(model, batch, precision)
            torch.testing.assert_close(found, answers[precision], atol=tolerance, rtol=tolerance)
        # Where memory lies decides the last bit of a product, from one call to the next.
        torch.testing.assert_close(learned(model, batch), step, rtol=1e-4, atol=1e-6)


PRODUCTS = [name for name in NAMES if "mkldnn" in name or name == "oneDNN"]


@pytest.mark.parametrize("name", PRODUCTS)
def test_without_the_fused_products_plain_ones_run(name: str, model: Any) -> None:
    with without(name):
        for precision in ("fp32", "bf16"):
            layer = freeze(model, precision).encoder.layers[0]  # type: ignore[union-attr]
            only_bf16 = "bf16" in name and precision == "fp32"
            assert (type(layer.wide).__name__ == "FusedProduct") is only_bf16


@pytest.mark.parametrize("name", [name for name in NAMES if "onednn" in name])
def test_without_products_in_8_bits_they_are_refused_with_the_reason(name: str) -> None:
    with without(name) as reason, pytest.raises(UsageError) as caught:
        choose_precision("int8", torch.device("cpu"), answering=True)
    assert reason in str(caught.value)


HOOKS = [name for name in NAMES if name in torch_private.MODULE_HOOKS.names]


@pytest.mark.parametrize("name", HOOKS)
def test_where_hooks_cannot_be_seen_every_module_is_called(name: str, model: Any) -> None:
    assert freeze(model, "fp32").encoder is not None
    with without(name):
        once = freeze(model, "fp32")
        assert once.encoder is None
        assert "hooks" in once.why_not


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_captured_only_where_all_that_they_would_leave_out_is_seen(name: str) -> None:
    shortcuts = torch_private.MODULE_PARTS, torch_private.MODULE_HOOKS, torch_private.UPDATE_HOOKS
    assert torch_private.can_capture()
    with without(name):
        assert torch_private.can_capture() is all(name not in each.names for each in shortcuts)


def test_every_module_of_a_model_comes(model: Any) -> None:
    found = set(torch_private.every_module(model))
    assert found == set(model.modules())
    with without("torch.nn.Module._modules"):
        assert set(torch_private.every_module(model)) == found


def test_without_a_store_each_process_says_what_ended_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_PATIENCE", 0.0)
    assert distributed._claim(False) is False  # there is no process group
    with without("torch.distributed.distributed_c10d._get_default_store"):
        assert torch_private.default_store() is None
        assert distributed._claim(False) is True


def test_a_model_inside_another_module_hears_of_a_move(
    tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[torch.device] = []
    monkeypatch.setattr(BertModel, "after_move", lambda self, before: heard.append(before))
    nn.Sequential(BertModel(tiny_config())).double()
    assert heard == [torch.device("cpu")]


# ---- where one has changed ----


@pytest.mark.parametrize(
    ("arguments", "results"), [("x y", 1), ("input other", 1), ("self", 1), ("self mat2", 2)]
)
def test_an_operator_that_takes_or_gives_something_else_is_not_called(
    arguments: str, results: int
) -> None:
    operator = torch.ops.aten.mm.default
    assert torch_private._taking(operator, "self mat2") is operator
    with pytest.raises(AttributeError, match="something else"):
        torch_private._taking(operator, arguments, results)


def test_arguments_behind_may_be_left_out_if_they_have_a_value() -> None:
    assert torch_private._taking(torch.ops.aten.add.Tensor, "self other")


@pytest.mark.parametrize("shortcut", ["FUSED_PRODUCTS", "INT8_PRODUCTS"])
def test_an_operator_that_computes_something_else_is_not_used(
    shortcut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours: Shortcut = getattr(torch_private, shortcut)
    maker = "fused_linear" if shortcut == "FUSED_PRODUCTS" else "int8_linear"
    operators = getattr(torch_private, maker)()

    def wrong(*given: Any) -> Tensor:
        found: Tensor = operators.multiply(*given)
        return 2 * found

    monkeypatch.setattr(torch_private, maker, lambda: operators._replace(multiply=wrong))
    changed = dataclasses.replace(ours)
    assert not changed.on
    assert "computes something else" in changed.why_not


def test_an_operator_that_fails_is_not_used() -> None:
    def fails() -> bool:
        raise RuntimeError("no kernel for this processor\nand more")

    ours = dataclasses.replace(torch_private.FUSED_PRODUCTS, proof=fails)
    assert "(no kernel for this processor)" in ours.why_not


# ---- what the user is told ----


def test_inspect_says_what_is_slower(bertolt: Callable[..., Any], tiny_folder: Path) -> None:
    assert "slower" not in bertolt("inspect", tiny_folder).out
    with without("torch.nn.Module._compiled_call_impl") as reason:
        said = bertolt("inspect", tiny_folder)
    (line,) = [line for line in said.out.splitlines() if "slower with this PyTorch" in line]
    assert torch_private.MODULE_HOOKS.what in line
    assert reason in line


def test_bench_says_what_is_slower() -> None:
    from bertolt.commands.bench import BenchResult, Rate

    rate = Rate(texts_per_second=1.0, tokens_per_second=1.0, share=0.1)
    names = SimpleNamespace(machine="m", model="m", texts="t", precision="fp32")
    result = BenchResult(
        **vars(names),
        products={"fp32": 1.0},
        training=rate,
        prediction=rate,
        milliseconds=1.0,
        milliseconds_95=1.0,
        peak_memory=None,
        slower_with=["fused products: gone; plain ones"],
    )
    assert str(result).splitlines()[-1].split(maxsplit=1) == [
        "slower",
        "fused products: gone; plain ones",
    ]
