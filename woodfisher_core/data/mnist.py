"""MNIST through torchvision, checked for truncated files before anything is trusted."""

from functools import lru_cache
from pathlib import Path

from torchvision import datasets

from woodfisher_core.data.base import DataSet, DataSetSpec, Split
from woodfisher_core.errors import InputError

MEAN, STD = 0.1307, 0.3081  # of the training pixels; the official code's values
# File sizes of the four uncompressed IDX files: header plus one byte a pixel or label.
SIZES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 784,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
# Unsigned bytes in three dimensions, or in one.
MAGIC = {"images": b"\0\0\x08\x03", "labels": b"\0\0\x08\x01"}


def _present(root: Path) -> bool:
    return all((root / "MNIST" / "raw" / name).is_file() for name in SIZES)


@lru_cache(maxsize=2)
def _load(root: Path | None) -> DataSet:
    for name, expected in SIZES.items():
        path = root / "MNIST" / "raw" / name
        got = path.stat().st_size
        problem = f"expected {expected:,} bytes, got {got:,}" if got != expected else None
        with path.open("rb") as file:
            if problem is None and file.read(4) != MAGIC[name.split("-")[1]]:
                problem = "its first four bytes are not those of an IDX file"
        if problem:
            raise InputError(
                f"MNIST: {name} is damaged: {problem}. Remove {root / 'MNIST'} and "
                "download again with: python -m woodfisher_core data download mnist"
            )

    def split(train: bool) -> Split:
        raw = datasets.MNIST(root=str(root), train=train, download=False)
        return Split(raw.data.unsqueeze(1), raw.targets, 1.0 / 255.0, MEAN, STD)

    return DataSet("mnist", split(True), split(False), tuple("0123456789"))


def _download(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    try:
        datasets.MNIST(root=str(root), train=True, download=True)
    except (RuntimeError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(
            f"MNIST: the download failed ({why}). Check the network, or copy the four raw files to {root / 'MNIST' / 'raw'}."
        ) from None


SPEC = DataSetSpec(
    name="mnist",
    label="MNIST",
    description="70,000 handwritten digits of 28×28 pixels: 60,000 to train on, 10,000 to test on.",
    load=_load,
    train_size=60_000,
    test_size=10_000,
    present=_present,
    files=("MNIST/raw",),
    download=_download,
    download_bytes=11_594_722,
    source="Y. LeCun, C. Cortes, C. Burges",
)
