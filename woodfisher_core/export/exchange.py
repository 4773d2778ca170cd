"""Networks as ONNX, which other engines read; needs the extra ``export``."""

import copy
import logging
import warnings
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from woodfisher_core.errors import InputError

NEEDED = ("onnx", "onnxscript")
HOW_TO_INSTALL = 'pip install -e ".[export]"'


def onnx_missing() -> tuple[str, ...]:
    """The packages that :func:`onnx_bytes` needs and that are not installed."""
    return tuple(name for name in NEEDED if find_spec(name) is None)


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """``model`` in eval mode as one ONNX file, weights inside; its zeros are numbers like any other.

    Input ``images``, outputs ``logits``, with any number of images a batch. ``example`` (n, ...) says their size. The file passed
    ONNX's own check.

    Raises:
        InputError: The extra is not installed, or the network cannot be written as ONNX.
    """
    if missing := onnx_missing():
        raise InputError(f"ONNX: {' and '.join(missing)} not installed. In the project's folder: {HOW_TO_INSTALL}")
    import onnx

    network = copy.deepcopy(model).cpu().eval()
    # Two at least: an example of one would fix the batch at one.
    inputs = example[:1].detach().cpu().repeat(2, *[1] * (example.ndim - 1))
    log = logging.getLogger("torch.onnx")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # The exporter talks about its own inside, in words nobody who exports a network can act on.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (inputs,),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"ONNX: {type(model).__name__} cannot be written as ONNX by this PyTorch: {reason}") from error
    finally:
        log.setLevel(level)
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
