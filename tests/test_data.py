"""Data sets in files: read exactly, checked before they are trusted, and every refusal says what to do."""

import functools
import hashlib
import io
import pickle
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from woodfisher_core.cli import main
from woodfisher_core.data import DATASETS, DataSet, Split, cifar10, find_root, get_dataset
from woodfisher_core.errors import InputError

CLASSES = cifar10.CLASSES


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """An empty cache, no folder named by the environment, nothing loaded before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("WOODFISHER_DATA", raising=False)
    for load in (cifar10._load, cifar10._jpeg_load):
        load.cache_clear()
    yield
    for load in (cifar10._load, cifar10._jpeg_load):
        load.cache_clear()


# Normalising.


def test_each_channel_is_normalised_by_its_own_numbers():
    """(raw · scale − mean) / std, a channel each; one number serves all channels."""
    images = torch.randint(256, (4, 3, 2, 2), generator=torch.Generator().manual_seed(0)).byte()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    got = Split(images, torch.arange(4), 1 / 255, mean, std).samples([2, 0])
    for channel in range(3):
        expected = (images[[2, 0], channel].numpy().astype(float) / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(got.inputs[:, channel].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert got.targets.tolist() == [2, 0]
    single = Split(images, torch.arange(4), 1 / 255, 0.1, 0.5).samples()
    assert torch.equal(single.inputs[:, 0], Split(images, torch.arange(4), 1 / 255, mean, std).samples().inputs[:, 0])


def test_the_hash_tells_normalisations_apart():
    images, targets = torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.arange(2)
    splits = [Split(images, targets, 1 / 255, mean, 0.5) for mean in (0.1, (0.1, 0.1, 0.1), (0.1, 0.1, 0.2))]
    assert len({DataSet("x", split, split, ("a", "b")).hash for split in splits}) == 3


# The original CIFAR-10.


def write_original(root, monkeypatch, each: int = 2) -> dict[str, np.ndarray]:
    """The original's files with ``each`` images a batch, torchvision told their checksums; returns their pixels."""
    rng, folder = np.random.default_rng(0), root / cifar10.FOLDER
    folder.mkdir(parents=True)
    pixels, sums = {}, {}
    for number, name in enumerate(cifar10.BATCHES):
        pixels[name] = rng.integers(0, 256, (each, 3072), dtype=np.uint8)
        content = {"data": pixels[name], "labels": [number] * each, "label_names": list(CLASSES)}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    known = [[name, sums[name]] for name in cifar10.BATCHES[:-1]]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", known[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", known[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]})
    return pixels


def test_original_is_read_in_order(tmp_path, monkeypatch):
    """Batch after batch, channels first as the files hold them, labels beside."""
    pixels = write_original(tmp_path, monkeypatch)
    data = get_dataset("cifar10").load(find_root(get_dataset("cifar10"), tmp_path))
    expected = np.concatenate([pixels[name] for name in cifar10.BATCHES[:5]]).reshape(-1, 3, 32, 32)
    assert np.array_equal(data.train.images.numpy(), expected)
    assert data.train.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert np.array_equal(data.test.images.numpy().reshape(2, -1), pixels["test_batch"])
    assert data.classes == CLASSES
    assert len({*data.train.mean}) == 3


def test_damaged_original_is_refused(tmp_path, monkeypatch):
    """One changed byte is enough."""
    write_original(tmp_path, monkeypatch)
    file = tmp_path / cifar10.FOLDER / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match=r"damaged.*data download cifar10"):
        get_dataset("cifar10").load(tmp_path)


@pytest.fixture
def server(tmp_path):
    """Address of a web server on this machine for the folder ``web``."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    handler.log_message = lambda *arguments: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_download(tmp_path, monkeypatch, server, capsys):
    """Fetched, unpacked, found afterwards; a second time there is nothing to do."""
    write_original(tmp_path / "source", monkeypatch)
    archive = tmp_path / "web" / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(tmp_path / "source" / cifar10.FOLDER, arcname=cifar10.FOLDER)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server}/cifar.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    command = ["data", "download", "cifar10", "--data-dir", str(tmp_path / "new")]
    assert main(command) == 0
    assert find_root(get_dataset("cifar10"), tmp_path / "new") == tmp_path / "new"
    assert main(command) == 0
    assert "already" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"something else"])
def test_failed_download_says_what_to_do(tmp_path, monkeypatch, server, capsys, content):
    """Nothing at the address, or another file."""
    if content is not None:
        (tmp_path / "web" / "cifar.tar.gz").write_bytes(content)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{server}/cifar.tar.gz")
    assert main(["data", "download", "cifar10", "--data-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "the download failed" in error
    assert cifar10.FOLDER in error


# Its copy in JPEG.


def jpeg(shade: int, size: int = 32) -> bytes:
    """A grey JPEG file with a bright left half."""
    pixels = np.full((size, size, 3), shade, dtype=np.uint8)
    pixels[:, : size // 2] = 250
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def members(split: str, each: int) -> dict[str, bytes]:
    return {f"{split}/{name}/{i}.jpg": jpeg(10 * k + i) for k, name in enumerate(CLASSES) for i in range(each)}


def write_archive(path, files: dict[str, bytes], order=sorted) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in order(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            archive.addfile(info, io.BytesIO(files[name]))


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, key=lambda n: n[::-1])])
def test_archive_is_read_in_the_order_of_its_names(tmp_path, order):
    """Whatever order the members lie in; pixels as decoded."""
    files = members("test", 3)
    write_archive(tmp_path / "a.tar.gz", files, order)
    images, targets = cifar10.read_archive(tmp_path / "a.tar.gz", "test", 3)
    assert targets.tolist() == [k for k in range(10) for _ in range(3)]
    expected = np.stack([np.asarray(Image.open(io.BytesIO(files[name]))) for name in sorted(files)])
    assert np.array_equal(images.numpy(), expected.transpose(0, 3, 1, 2))
    assert abs(int(images[4, 0, 20, 31]) - 11) <= 2  # class 1, image 1: its shade
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test/cat/0.jpg": None}, "expected 1 images in each"),
        ({"test/zebra/0.jpg": jpeg(3)}, "test/zebra"),
        ({"../../outside.jpg": jpeg(3)}, "expected 1 images in each"),
        ({"test/cat/0.jpg": b"no picture"}, "test/cat/0.jpg is no JPEG image"),
        ({"test/cat/0.jpg": jpeg(3)[:300]}, "test/cat/0.jpg is no JPEG image"),
        ({"test/cat/0.jpg": jpeg(3, size=16)}, "16 × 16 pixels, expected 32 × 32"),
        ({"test/cat/0.jpg": bytes(1 << 17)}, "131,072 bytes"),
    ],
)
def test_other_archives_are_refused(tmp_path, change, message):
    """A file missing, one too many, names that lead elsewhere, no image, another size."""
    files = {name: content for name, content in {**members("test", 1), **change}.items() if content is not None}
    (tmp_path / "in").mkdir()
    write_archive(tmp_path / "in" / "a.tar.gz", files)
    with pytest.raises(InputError, match=message):
        cifar10.read_archive(tmp_path / "in" / "a.tar.gz", "test", 1)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["in", "in/a.tar.gz"]


@pytest.mark.parametrize("kept", [0, 200, -50])
def test_truncated_archive_is_refused(tmp_path, kept):
    path = tmp_path / "a.tar.gz"
    write_archive(path, members("test", 1))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"a\.tar\.gz is damaged"):
        cifar10.read_archive(path, "test", 1)


@pytest.fixture
def small_jpeg(tmp_path, monkeypatch):
    """A folder with both archives, one image a class to test on and two to train on."""
    monkeypatch.setattr(cifar10, "EACH", {"train": 2, "test": 1})
    for split, name in cifar10.ARCHIVES.items():
        write_archive(tmp_path / name, members(split, cifar10.EACH[split]))
    return tmp_path


def load_again(root) -> DataSet:
    cifar10._jpeg_load.cache_clear()
    return get_dataset("cifar10-jpeg").load(root)


def test_decoded_once(small_jpeg, monkeypatch):
    """The second load reads one file in the cache; a damaged one is made again, bit for bit."""
    first = load_again(small_jpeg)
    (cached,) = (small_jpeg / "cache" / "woodfisher").iterdir()
    content = cached.read_bytes()

    def refuse(*arguments):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(cifar10, "read_archive", refuse)
        second = load_again(small_jpeg)
    assert second.hash == first.hash
    assert (len(second.train), len(second.test)) == (20, 10)
    for damaged in (content[:100], content[:-1], b""):
        cached.unlink()
        cached.write_bytes(damaged)
        assert load_again(small_jpeg).hash == first.hash
        assert cached.read_bytes() == content
    assert list((small_jpeg / "cache" / "woodfisher").iterdir()) == [cached]


def test_other_archives_have_another_cache(small_jpeg):
    first = load_again(small_jpeg)
    write_archive(small_jpeg / cifar10.ARCHIVES["test"], {n: jpeg(77) for n in members("test", 1)})
    second = load_again(small_jpeg)
    assert not torch.equal(first.test.images, second.test.images)
    assert torch.equal(first.train.images, second.train.images)
    assert len(list((small_jpeg / "cache" / "woodfisher").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_done_without(small_jpeg, monkeypatch):
    (small_jpeg / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_jpeg / "file"))
    assert len(load_again(small_jpeg).train) == 20


def test_real_archives(shared_data, monkeypatch):
    """All of them, 5,000 and 1,000 a class; the channels' means are CIFAR-10's to a thousandth."""
    monkeypatch.delenv("XDG_CACHE_HOME")  # decoded once for all sessions
    data = load_again(shared_data)
    assert torch.bincount(data.train.targets).tolist() == [5000] * 10
    assert torch.bincount(data.test.targets).tolist() == [1000] * 10
    spec = get_dataset("cifar10-jpeg")
    assert (len(data.train), len(data.test)) == (spec.train_size, spec.test_size)
    means = data.train.images.sum((0, 2, 3), dtype=torch.int64) / (255 * 50_000 * 32 * 32)
    assert (means - torch.tensor(cifar10.MEAN)).abs().max() < 1e-3


# What is said where a data set is missing.


def test_missing_data_sets_say_what_to_do(tmp_path, capsys):
    """A command where there is a download; the files to bring where there is none."""
    with pytest.raises(
        InputError, match=r"download it \(170 MB\) with: python -m woodfisher_core data download cifar10"
    ):
        find_root(get_dataset("cifar10"), tmp_path)
    with pytest.raises(InputError, match=r"no download for it.*cifar10_jpeg_test\.tar\.gz.*--data-dir"):
        find_root(get_dataset("cifar10-jpeg"), tmp_path)
    assert main(["data", "list", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{said}" for name in DATASETS)
    assert "cifar10_jpeg_train.tar.gz" in said


def test_what_has_no_download_cannot_be_downloaded(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["data", "download", "cifar10-jpeg"])
    assert "choose from" in capsys.readouterr().err


def test_the_copy_is_never_called_the_original():
    """Its name, label and description all say JPEG."""
    copy = get_dataset("cifar10-jpeg")
    assert all("jpeg" in text.lower() for text in (copy.name, copy.label, copy.description, copy.source))
    assert "ten points" in copy.description
