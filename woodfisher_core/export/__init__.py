"""What can be taken home: files of weights and masks, ONNX, the command line, a notebook."""

from woodfisher_core.export.command import command_line
from woodfisher_core.export.exchange import HOW_TO_INSTALL, onnx_bytes, onnx_missing
from woodfisher_core.export.files import masks_bytes, pruned_bytes, run_bytes, save_pruned, smaller_bytes
from woodfisher_core.export.notebook import notebook_bytes

__all__ = [
    "HOW_TO_INSTALL",
    "command_line",
    "masks_bytes",
    "notebook_bytes",
    "onnx_bytes",
    "onnx_missing",
    "pruned_bytes",
    "run_bytes",
    "save_pruned",
    "smaller_bytes",
]
