"""Files of graphs: ONNX and OpenVINO, written of one traced program, and quantised."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bertolt.base.errors import BertoltError
from bertolt.base.threads import ignored_warnings
from bertolt.export.graph import Graph
from bertolt.models.engine import Feed
from bertolt.models.runtimes import import_openvino, missing, said_by

OPSET = 18
GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
CALIBRATED = ("openvino",)
"""Formats whose int8 needs rows to be calibrated on: their inputs of products are scaled
beforehand. ONNX Runtime scales them as they come."""
FREE = {"batch": 0, "length": 1}
"""Dimensions of each padded input, by name, that have to be free."""
_MOST_IN_ONE_FILE = 1_900_000_000
"""Bytes of weights: a file of ONNX may not be larger than 2 GiB, weights beside it may."""

Dimensions = dict[str, list[str | int]]


def require_installed(format: str, *, int8: bool) -> None:
    """Refuse before the work begins what cannot be written here.

    Raises:
        UsageError: a package of the extra is not installed.
    """
    try:
        if format == "onnx":
            import onnx
            import onnxruntime
            import onnxscript

            del onnx, onnxruntime, onnxscript
        else:
            import_openvino()
            if int8:
                import nncf

                del nncf
    except ImportError as error:
        raise missing(error.name or format, error, "--format") from error


def versions(format: str) -> dict[str, str]:
    """Of all that has a part in a file of this format."""
    import importlib.metadata

    names = ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ("openvino", "nncf")
    return {name: importlib.metadata.version(name) for name in ("bertolt", "torch", *names)}


def write_graph(format: str, graph: Graph, folder: Path) -> str:
    """Trace a model and write it in fp32.

    Args:
        format: "onnx" or "openvino".
        graph: the model.
        folder: that is there.

    Returns:
        The name of the file.

    Raises:
        BertoltError: the packages that write it could not.
    """
    with _quiet(), _told(folder, 2 * graph.size):
        program = graph.program()
        write = _write_onnx if format == "onnx" else _write_openvino
        write(program, graph, folder / GRAPHS[format])
    return GRAPHS[format]


def _write_onnx(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    import onnx

    torch.onnx.export(
        program,
        f=str(path),
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        external_data=graph.size > _MOST_IN_ONE_FILE,
        input_names=list(graph.inputs),
        output_names=list(graph.outputs),
    )
    model = onnx.load(str(path), load_external_data=False)
    _name_dimensions(model.graph, graph)
    # Whoever needs shapes inside infers them. Those that are noted are of weights as they were
    # before the exporter turned them round, and the quantiser refuses what it infers otherwise.
    del model.graph.value_info[:]
    onnx.save(model, str(path))


def _name_dimensions(proto: Any, graph: Graph) -> None:
    """Call the free dimensions by what they count, in place of the tracer's own symbols."""
    names: dict[str, str] = {}
    for each in proto.input:
        dims = each.type.tensor_type.shape.dim
        for place, dim in graph.shapes()[each.name].items():
            names[dims[place].dim_param] = dim.__name__
    symbol = re.compile(r"[A-Za-z_]\w*")
    for each in (*proto.input, *proto.output):
        for dim in each.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = symbol.sub(lambda m: names.get(m[0], m[0]), dim.dim_param)


def _write_openvino(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    openvino = import_openvino()
    model = openvino.convert_model(program)
    for name, port in zip(graph.outputs, model.outputs, strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(model, path, compress_to_fp16=False)


def read_dimensions(format: str, path: Path) -> tuple[Dimensions, Dimensions]:
    """Names and dimensions of what a written graph takes and gives; a free one is a name.

    Raises:
        BertoltError: a dimension is fixed that has to be free.
    """
    inputs, outputs = (_of_onnx if format == "onnx" else _of_openvino)(path)
    for name, dims in inputs.items():
        if fixed := [each for each in dims if isinstance(each, int)]:
            raise BertoltError(
                f"the graph takes {name} of {fixed[0]} alone, where any number has to do",
                place=str(path),
                fix="report it, with the config of the model: nothing was exported",
            )
    return inputs, outputs


def _of_onnx(path: Path) -> tuple[Dimensions, Dimensions]:
    import onnx

    proto = onnx.load(str(path), load_external_data=False).graph

    def dims(value: Any) -> list[str | int]:
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    return {x.name: dims(x) for x in proto.input}, {x.name: dims(x) for x in proto.output}


def _of_openvino(path: Path) -> tuple[Dimensions, Dimensions]:
    openvino = import_openvino()
    model = openvino.Core().read_model(path)

    def dims(name: str, port: Any, first: Sequence[str]) -> list[str | int]:
        free = ("places",) if name == "places" else (*first, "size")
        return [
            free[min(place, len(free) - 1)] if dim.is_dynamic else int(dim.get_length())
            for place, dim in enumerate(port.partial_shape)
        ]

    inputs = {port.any_name: dims(port.any_name, port, tuple(FREE)) for port in model.inputs}
    rows = ("places",) if "places" in inputs else tuple(FREE)
    return inputs, {port.any_name: dims(port.any_name, port, rows) for port in model.outputs}


def quantise(format: str, path: Path, feeds: Sequence[Feed]) -> None:
    """Put a graph whose products are in 8 bits in the place of one in fp32.

    Args:
        format: "onnx" or "openvino".
        path: of the graph.
        feeds: padded inputs, as the engine gives them; by what they lead to inputs of products are
            scaled in a format of `CALIBRATED`.
    """
    size = sum(each.stat().st_size for each in path.parent.glob(f"{path.stem}.*"))
    with _quiet(), _told(path.parent, size):
        (_quantise_onnx if format == "onnx" else _quantise_openvino)(path, feeds)


def _quantise_onnx(path: Path, feeds: Sequence[Feed]) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_suffix(".int8")
    quantize_dynamic(
        path,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        # The tracer leaves types of tensors inside to be inferred, which the quantiser cannot.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
    target.replace(path)


def _quantise_openvino(path: Path, feeds: Sequence[Feed]) -> None:
    openvino = import_openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    quantised = nncf.quantize(
        openvino.Core().read_model(path),
        nncf.Dataset(list(feeds)),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(feeds),
    )
    target = path.with_name("int8.xml")
    openvino.save_model(quantised, target, compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        target.with_suffix(suffix).replace(path.with_suffix(suffix))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is told inside: exporters advise what was done, and draw bars on standard output."""
    with ignored_warnings():
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            logging.disable(level)


@contextlib.contextmanager
def _told(folder: Path, size: int) -> Iterator[None]:
    """Turn what goes wrong in the packages that write graphs into an error with a fix.

    Args:
        folder: that is written to.
        size: bytes that may be needed. OpenVINO says of a full disk that there was an error.
    """
    try:
        yield
    except (BertoltError, OSError, MemoryError):
        raise
    except ImportError as error:  # of a package for an older PyTorch
        raise BertoltError(
            f"the packages that write graphs do not fit this PyTorch ({error})",
            fix="pip install --upgrade 'bertolt[export]'",
        ) from error
    except Exception as error:  # each package has its own
        if shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise BertoltError(
            f"the graph cannot be written ({said_by(error)})",
            place=str(folder),
            fix="try the other --format, and report it with the model's config",
        ) from error
