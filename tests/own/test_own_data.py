"""Data that users bring: the same numbers again, both formats, and every hostile archive told kindly."""

import gc
import io
import os
import weakref
import zipfile

import numpy as np
import pytest
import torch
from hostile import image, images, linked, npy, npz, twice, zipped

from woodfisher_core.data import get_dataset
from woodfisher_core.data.brought import DATA, own_file
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.own import bring_data, bring_weights, keeping, remove, sample_data, sample_weights

RANDOM = np.random.RandomState(0)
PIXELS = RANDOM.randint(0, 256, (60, 8, 8), dtype=np.uint8)
LABELS = np.arange(60) % 4


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def loaded(name: str):
    return get_dataset(name).load(None)


def test_our_digits_brought_again_give_the_very_same_run():
    """Both weights and data through the door: accuracy, loss and mask are equal to the last bit."""
    data = bring_data(sample_data("digits"), "digits.npz")
    weights = bring_weights(sample_weights("digits-cnn"), "cnn.safetensors")
    space, config = Workspace(), PruneConfig(model="digits-cnn", sparsity=0.5, num_samples=50, device="cpu")
    own = PruneConfig.from_dict(config.replace(dataset=data.name, weights=weights.name).to_dict())
    expected, got = space.evaluation(config), space.evaluation(own)
    assert (got.accuracy, got.loss) == (expected.accuracy, expected.loss)
    assert torch.equal(space.outcome(own).mask.keep, space.outcome(config).mask.keep)
    assert space.resolve(own).weights_hash == space.resolve(config).weights_hash
    assert data.models == ("digits-mlp", "digits-cnn")


@pytest.mark.parametrize("layout", ["plain", "channel first", "channel last", "fortran", "big-endian"])
def test_layouts_mean_the_same(layout):
    """However the array lies in memory, the pixels are the same."""
    array = {
        "plain": PIXELS,
        "channel first": PIXELS[:, None],
        "channel last": PIXELS[..., None],
        "fortran": np.asfortranarray(PIXELS),
        "big-endian": PIXELS.astype(">f4"),
    }[layout]
    raw = npz(train_images=array, train_labels=LABELS, test_images=array[:12], test_labels=LABELS[:12])
    split = loaded(bring_data(raw, "a.npz").name).train
    assert torch.equal(split.images[:, 0].float(), torch.from_numpy(PIXELS).float())
    scaled = PIXELS.astype(np.float64) * (1 / 255 if array.dtype == np.uint8 else 1.0)
    expected = (scaled - scaled.mean()) / scaled.std()
    np.testing.assert_allclose(split.samples().inputs[:, 0].numpy(), expected, atol=2e-6)


def test_what_normalises_the_images_is_said():
    """Their own mean and deviation unless the file gives them."""
    found = bring_data(npz(images=PIXELS, labels=LABELS), "a.npz").said
    pixels = PIXELS / 255.0
    train = loaded(bring_data(npz(images=PIXELS, labels=LABELS), "a.npz").name).train.images.numpy() / 255.0
    assert train.shape[0] < len(pixels)
    assert any(f"mean {train.mean():.3g} and standard deviation {train.std():.3g}" in words for words in found)
    given = bring_data(npz(images=PIXELS, labels=LABELS, mean=np.zeros(1), std=np.ones(1)), "b.npz").said
    assert not any("Normalised" in words for words in given)


def test_a_heap_is_split_by_a_fixed_seed():
    """Eight of ten train; every image is in exactly one side; the same heap is the same data set."""
    first = bring_data(npz(images=PIXELS, labels=LABELS), "a.npz")
    data = loaded(first.name)
    assert (len(data.train), len(data.test)) == (48, 12)
    both = torch.cat([data.train.images, data.test.images])[:, 0].numpy()
    assert sorted(map(bytes, both)) == sorted(map(bytes, PIXELS))
    assert bring_data(npz(images=PIXELS, labels=LABELS), "b.npz").name == first.name
    assert "12 of 60 were set apart" in first.said[0]


def test_folders_of_images():
    """Classes are folders in the order of their names, on both sides; other files of operating systems are passed over."""
    entries = [(f"all/{'train' if i < 24 else 'test'}/{'ab'[i % 2]}/{i:02d}.png", image(i)) for i in range(36)]
    brought = bring_data(zipped([*entries, ("__MACOSX/all/._x", b"?"), ("all/train/a/.DS_Store", b"?")]), "pets.zip")
    data = loaded(brought.name)
    assert data.classes == ("a", "b")
    assert (len(data.train), len(data.test)) == (24, 12)
    assert data.train.targets.bincount().tolist() == [12, 12]
    expected = np.random.RandomState(2).randint(0, 256, (8, 8), dtype=np.uint8)
    assert torch.equal(data.train.images[1, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_progress_is_told_from_the_first_image(mode):
    """Of grey images as of colour ones."""
    told = []
    bring_data(zipped(images(300, mode=mode)), "a.zip", progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 300), (256, 300)]


def test_what_is_removed_is_not_in_memory():
    name = bring_data(npz(images=PIXELS, labels=LABELS), "a.npz").name
    data = weakref.ref(loaded(name).train.images)
    assert data() is not None
    assert remove("data", name)
    gc.collect()
    assert data() is None


def test_colour_becomes_grey_where_the_network_reads_grey():
    """And stays as it is where no network is named."""
    raw = zipped(images(60, mode="RGB"))
    grey, colour = bring_data(raw, "a.zip", model="digits-mlp"), bring_data(raw, "a.zip")
    assert "reads grey images: yours were converted" in " ".join(grey.said)
    own, plain = loaded(grey.name).train.images, loaded(colour.name).train.images
    assert (own.shape[1], plain.shape[1]) == (1, 3)
    expected = (plain.double() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    assert (own[:, 0].double() - expected).abs().max() <= 0.5001


def bomb(entries: int = 1) -> bytes:
    return zipped([(f"a/{i}.png", b"\0" * 60_000_000) for i in range(entries)])


def scaled_png() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (3000, 3000)).save(file, "PNG")
    return file.getvalue()


HUGE = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 40, 8)}
UINT8 = {"descr": "|u1", "fortran_order": False, "shape": (0,)}
# A million million strings of no letters, in no bytes.
NOTHING = {"descr": "<U0", "fortran_order": False, "shape": (10**12,)}
OBJECTS = np.array([{"a": 1}, [2]], dtype=object)
GOOD = npz(images=PIXELS, labels=LABELS)
HOSTILE = {
    "truncated": (GOOD[:-50], "truncated or no zip archive"),
    "text": (b"hello" * 100, "truncated or no zip archive"),
    "weights": (sample_weights("digits-mlp"), "goes to the field for weights"),
    "empty file": (b"", "truncated or no zip archive"),
    "empty zip": (zipped([]), "the archive is empty"),
    "bomb": (bomb(), "looks like a zip bomb, so nothing was unpacked"),
    "many": (zipped([(f"a/{i}.png", bytes(3_900_000)) for i in range(52)]), "looks like a zip bomb"),
    "up": (zipped([("../../etc/cron.d/x.png", image(1))]), "names a place outside of the archive"),
    "absolute": (zipped([("/etc/x.png", image(1))]), "names a place outside"),
    "drive": (zipped([("C:/x.png", image(1))]), "names a place outside"),
    "backslash": (zipped([("a\\..\\x.png", image(1))]), "names a place outside"),
    "link": (linked(), "is a symbolic link"),
    "twice": (twice(), "is in the archive twice"),
    "lzma": (zipped(images(4), zipfile.ZIP_LZMA), "packed in a way that is not read"),
    "checkpoint": (zipped([("archive/data.pkl", b"x")]), "a PyTorch checkpoint, with a pickle inside"),
    "text file": (zipped([("cat/notes.txt", b"hi")]), "“cat/notes.txt” is no .png or .jpg"),
    "no image": (zipped([*images(12), ("cat/99.png", b"MZ" * 50)]), "“cat/99.png” is no image, whatever its name says"),
    "cut image": (zipped([("cat/0.png", image(1)[:-40]), *images(12)]), "is damaged"),
    "two sizes": (zipped([*images(12), ("cat/99.png", image(1, (9, 8)))]), "Expected one size"),
    "vast image": (zipped([("cat/1.png", scaled_png())]), "3000×3000 pixels. Expected at most 512×512"),
    "no folder": (zipped([("1.png", image(1))]), "cannot tell the class of “1.png”"),
    "mixed depth": (zipped([*images(12), ("1.png", image(1))]), "cannot tell the class of “1.png”"),
    "new class": (zipped([("train/a/1.png", image(1)), ("test/b/1.png", image(2))]), "no training image has"),
    "one class": (npz(images=PIXELS, labels=LABELS * 0), "all training images are of one class"),
    "objects": (npz(images=PIXELS, labels=OBJECTS), "only a pickle could bring"),
    "huge array": (zipped([("images.npy", npy(HUGE)), ("labels.npy", npy(HUGE))]), "damaged, or made to harm"),
    "names of nothing": (
        zipped([("images.npy", npy(UINT8)), ("labels.npy", npy(UINT8)), ("classes.npy", npy(NOTHING))]),
        "classes: expected numbers or names in at most 4 dimensions, got <U0 in 1",
    ),
    "too many sides": (
        zipped([("images.npy", npy(UINT8 | {"shape": (1,) * 100}, b"a")), ("labels.npy", npy(UINT8))]),
        "images: expected numbers or names in at most 4 dimensions, got uint8 in 100",
    ),
    "vast beside none": (
        zipped([("images.npy", npy(UINT8 | {"shape": (0, 1 << 62, 1 << 62)})), ("labels.npy", npy(UINT8))]),
        "images has a shape that numpy cannot make",
    ),
    "names without end": (
        npz(images=PIXELS, labels=LABELS, classes=np.array(["a"] * 1001)),
        "expected at most 1,000 names, got 1,001",
    ),
    "bad head": (zipped([("images.npy", npy({})), ("labels.npy", npy(HUGE))]), "head of images is damaged"),
    "code head": (
        zipped([("images.npy", b"\x93NUMPY\x01\x00\x10\x00__import__('os')"), ("labels.npy", b"")]),
        "is damaged",
    ),
    "other names": (npz(x=PIXELS, y=LABELS), "expected the arrays train_images"),
    "too few": (npz(images=PIXELS[:11], labels=LABELS[:11]), "at least 10 training images"),
    "labels short": (
        npz(images=PIXELS, labels=LABELS[:9]),
        "expected a label for each image, got 60 images and 9 labels",
    ),
    "label high": (npz(images=PIXELS, labels=LABELS + 5000), "the labels go from 5000 to 5003"),
    "label negative": (npz(images=PIXELS, labels=LABELS - 1), "the labels go from -1 to 2"),
    "label unnamed": (npz(images=PIXELS, labels=LABELS, classes=np.array(["a", "b"])), "the 2 classes that are named"),
    "labels from 1": (npz(images=PIXELS, labels=np.arange(60) % 10 + 1), "labels count from 0"),
    "labels real": (npz(images=PIXELS, labels=LABELS / 2), "expected whole numbers in one dimension"),
    "nan": (npz(images=PIXELS * np.nan, labels=LABELS), "values that are NaN or infinite"),
    "flat": (npz(images=PIXELS.reshape(60, 64), labels=LABELS), "got 2 dimensions"),
    "channels": (npz(images=np.zeros((60, 5, 8, 8), np.uint8), labels=LABELS), "expected 1 or 3 channels"),
    "whole numbers": (npz(images=PIXELS.astype(int), labels=LABELS), "expected uint8 from 0 to 255"),
    "alike": (npz(images=PIXELS * 0, labels=LABELS), "expected training images that differ"),
    "mean alone": (npz(images=PIXELS, labels=LABELS, mean=np.array(0.5)), "expected mean and std both"),
    "std zero": (npz(images=PIXELS, labels=LABELS, mean=np.array(0.5), std=np.array(0.0)), "not above 0"),
    "no network": (npz(images=np.repeat(PIXELS[:, None], 3, 1)[:, :, :, :0], labels=LABELS), "1 to 512 pixels"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_kindly(case, tmp_path):
    raw, words = HOSTILE[case]
    with pytest.raises(InputError) as refusal:
        bring_data(raw, "mine.zip")
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 600
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_was_used_longest_ago_leaves_first(monkeypatch):
    """Room is bounded, the newcomer stays, and it is said."""
    sets = [npz(images=PIXELS + np.uint8(i), labels=LABELS) for i in range(3)]
    first, second = bring_data(sets[0], "0.npz"), bring_data(sets[1], "1.npz")
    os.utime(own_file(DATA, first.name), (1e9, 2e9))
    os.utime(own_file(DATA, second.name), (1e9, 1e9))
    monkeypatch.setattr(keeping, "KEPT_BYTES", 2 * first.nbytes + 100)
    third = bring_data(sets[2], "2.npz")
    assert second.name in " ".join(third.said)
    assert [own_file(DATA, b.name).is_file() for b in (first, second, third)] == [True, False, True]


def test_a_link_to_what_is_not_here_says_so():
    """A config that names it can be made and kept; only running it is an error, in words."""
    config = PruneConfig(model="digits-mlp", dataset="own-0123456789ab", num_samples=10, device="cpu")
    with pytest.raises(InputError, match="the data set is not on this machine: expected own-0123456789ab"):
        Workspace().problem(config)
    with pytest.raises(InputError, match="expected one of"):
        get_dataset("own-../../etc")


def test_a_changed_file_is_not_believed():
    """Contents that are not those of the name are refused."""
    names = [bring_data(npz(images=PIXELS + np.uint8(i), labels=LABELS), "a.npz").name for i in range(2)]
    own_file(DATA, names[0]).write_bytes(own_file(DATA, names[1]).read_bytes())
    with pytest.raises(InputError, match="its contents are not those of its name"):
        loaded(names[0])
    assert remove(DATA, names[0])
    assert not remove(DATA, names[0])


def test_data_of_another_shape_is_refused_by_the_network():
    name = bring_data(npz(images=PIXELS, labels=LABELS), "a.npz").name
    with pytest.raises(InputError, match="mlpnet cannot read images of 1×8×8"):
        PruneConfig(model="mlpnet", dataset=name)
