"""Which samples a run uses: a public contract."""

import re

import numpy as np
import pytest
import torch

from woodfisher_core.errors import InputError
from woodfisher_core.sampling import choose_samples, held_out_samples, label_uniforms, read_indices, sample_order


def test_order_is_the_documented_permutation():
    """``RandomState(seed).permutation(n)``, in full and without repeats."""
    assert (sample_order(50, 3) == np.random.RandomState(3).permutation(50)).all()
    assert sorted(sample_order(50, 3)) == list(range(50))


def test_an_order_is_its_callers_own():
    """Whatever is done to one, the next is as it was."""
    sample_order(50, 3)[:] = 0
    assert sample_order(50, 3).tolist() == np.random.RandomState(3).permutation(50).tolist()


def test_fewer_samples_are_a_prefix():
    """N samples are the first N of one order; another seed is another order."""
    assert (choose_samples(100, 10, 0) == choose_samples(100, 60, 0)[:10]).all()
    assert (choose_samples(100, 60, 0) != choose_samples(100, 60, 1)).any()
    assert torch.equal(label_uniforms(5, 0), label_uniforms(50, 0)[:5])


def test_labels_and_order_use_different_streams():
    """Sampled labels do not depend on the numbers that ordered the samples, at the largest seed too."""
    for seed in (0, 2**32 - 1):
        own = np.random.RandomState(seed).random_sample(20)
        assert not np.isin(label_uniforms(20, seed).numpy(), own).any()


@pytest.mark.parametrize(("used", "count", "found"), [(30, 20, 20), (90, 20, 10), (100, 20, 0), (10, 0, 0)])
def test_held_out_samples_are_others(used, count, found):
    """Held-out samples never meet the used ones, however few are left."""
    chosen = choose_samples(100, used, 0)
    others = held_out_samples(100, chosen, count, 0)
    assert len(others) == len(set(others)) == found
    assert not set(others) & set(chosen)


def test_given_indices_are_used_as_they_come():
    """Indices keep their order and repeats."""
    indices = np.array([7, 3, 7])
    assert choose_samples(10, 3, 0, indices) is indices


@pytest.mark.parametrize(
    ("count", "indices", "message"),
    [
        (0, None, "expected at least 1, got 0"),
        (11, None, r"expected at most 10 \(the training set\), got 11"),
        (3, [1, 2], "expected 3 .* got 2"),
        (2, [1, 10], "expected values from 0 to 9, got 1 to 10"),
        (2, [-1, 1], "expected values from 0 to 9, got -1 to 1"),
    ],
)
def test_bad_choices(count, indices, message):
    """Too few, too many, and indices that do not fit, with the numbers."""
    with pytest.raises(InputError, match=message):
        choose_samples(10, count, 0, None if indices is None else np.array(indices))


def test_index_file(tmp_path):
    """One whole number a line; blank lines and spaces are allowed."""
    (tmp_path / "i.txt").write_text("3\n\n  12 \r\n0")
    assert read_indices(tmp_path / "i.txt").tolist() == [3, 12, 0]


BAD_INDEX_FILES = {
    "letters": (b"3\nx7\n", "line 2: expected a whole number, got 'x7'"),
    "negative": (b"3\n-1\n", "line 2: expected a whole number, got '-1'"),
    "decimal": (b"1.5\n", "line 1: expected a whole number, got '1.5'"),
    "other digits": ("٣\n".encode(), "line 1: expected a whole number"),
    "empty": (b"\n \n", "is empty; expected one whole number a line"),
    "binary": (bytes(range(128, 256)), "is no text file"),
    "huge": (b"9" * 5000, "is more than any data set holds"),
    "above int64": (b"9223372036854775808", "is more than any data set holds"),
}


@pytest.mark.parametrize(("content", "message"), BAD_INDEX_FILES.values(), ids=BAD_INDEX_FILES)
def test_bad_index_files(tmp_path, content, message):
    """Whatever a file holds, the message names it, the line and what came."""
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"bad.txt.*{re.escape(message)}"):
        read_indices(tmp_path / "bad.txt")


def test_missing_index_file(tmp_path):
    """A missing file, or a folder in its place, is named."""
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match=f"expected a text file at '{path}', found none"):
            read_indices(path)
