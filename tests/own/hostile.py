"""Files as nobody should bring them, and good ones to make them from."""

import io
import json
import struct
import zipfile

import numpy as np
from PIL import Image


def npz(**arrays) -> bytes:
    """Arrays as ``numpy.savez_compressed`` writes them."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these names and contents, as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def image(seed: int, size: tuple[int, int] = (8, 8), mode: str = "L", form: str = "PNG") -> bytes:
    """A random image of width × height."""
    channels = () if mode == "L" else (3,)
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def images(count: int = 30, **how) -> list[tuple[str, bytes]]:
    """Entries of a zip: so many images in two classes."""
    return [(f"{'cat' if i % 2 else 'dog'}/{i:02d}.png", image(i, **how)) for i in range(count)]


def linked(target: str = "/etc/passwd") -> bytes:
    """A zip with a symbolic link among its images."""
    link = zipfile.ZipInfo("cat/link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, target)
    return file.getvalue()


def twice() -> bytes:
    """A zip with one name twice; the second is renamed in the bytes, zipfile would warn."""
    return zipped([("cat/1.png", image(1)), ("cat/2.png", image(2))]).replace(b"cat/2.png", b"cat/1.png")


def npy(header: dict, content: bytes = b"") -> bytes:
    """An array whose head says what it likes."""
    text = repr(header).encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def tensors(entries: dict[str, object], content: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file whose head says what it likes."""
    head = json.dumps(entries).encode()
    return (len(head) if length is None else length).to_bytes(8, "little") + head + content
