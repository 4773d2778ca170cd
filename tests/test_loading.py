"""The first samples of any loader: exact numbers, in order, as often as asked, and never beyond the limit."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from woodfisher_core.errors import InputError
from woodfisher_core.loading import Loaded

TOTAL = 30


def loader(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of these sizes whose inputs and targets both say which sample they are, from 0 on."""
    numbers = torch.arange(sum(sizes))
    return list(zip(numbers.float().unsqueeze(1).split(list(sizes)), numbers.split(list(sizes)), strict=True))


def read(loaded: Loaded, count: int, skip: int = 0) -> list[int]:
    """The numbers of the samples that came, after a check that inputs and targets came together."""
    batches = list(loaded.batches(count, skip))
    assert all(len(targets) for _, targets in batches)
    assert all(torch.equal(inputs.squeeze(1), targets.float()) for inputs, targets in batches)
    return [number for _, targets in batches for number in targets.tolist()]


@pytest.mark.parametrize("sizes", [(30,), (1,) * 30, (7, 7, 7, 7, 2), (29, 1), (0, 13, 0, 17, 0)], ids=str)
@pytest.mark.parametrize("limit", [None, 1, 12, 30, 100])
def test_counts_and_order(sizes, limit):
    """Whatever the batch sizes: exactly so many samples, after so many others, from the beginning again at the end."""
    loaded = Loaded(loader(*sizes), "cpu", limit)
    exist = min(TOTAL, limit or TOTAL)
    for count in {1, exist // 2, exist - 1, exist} - {0}:
        for skip in (0, 1, exist - 1, exist, exist + 3, 5 * exist + 7):
            assert read(loaded, count, skip) == [(skip + i) % exist for i in range(count)]
    assert read(loaded, 0, 5) == []


@pytest.mark.parametrize("limit", [None, 12])
def test_a_generator_is_read_once(limit):
    """What can be read only once is remembered, and read no further than it was needed."""
    pulled = []

    def once():
        for piece in loader(5, 5, 5, 5, 5, 5):
            pulled.append(len(piece[1]))
            yield piece

    loaded = Loaded(once(), "cpu", limit)
    assert read(loaded, 4) == [0, 1, 2, 3]
    assert len(pulled) == 1
    assert read(loaded, 8, 3) == list(range(3, 11))
    assert read(loaded, 8, 3) == list(range(3, 11))
    assert len(pulled) == 3
    if limit:
        assert read(loaded, 12, 12) == list(range(12))
        assert len(pulled) == 3
    else:
        assert read(loaded, 30, 1) == [*range(1, 30), 0]
        assert len(pulled) == 6


@pytest.mark.parametrize("limit", [None, 15])
def test_nothing_is_read_before_it_is_asked_for(limit):
    """Neither by making it, nor beyond the batch that holds the last sample."""

    class Counting:
        opened = read = 0

        def __iter__(self):
            self.opened += 1
            for piece in loader(10, 10, 10):
                self.read += 1
                yield piece

    source = Counting()
    loaded = Loaded(source, "cpu", limit)
    assert (source.opened, source.read) == (0, 0)
    assert read(loaded, 10) == list(range(10))
    assert (source.opened, source.read) == (1, 1)


def shuffled(seed: int, **options) -> DataLoader:
    numbers = torch.arange(TOTAL)
    return DataLoader(
        TensorDataset(numbers.float().unsqueeze(1), numbers),
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


@pytest.mark.parametrize("size", [1, 4, 30])
def test_a_shuffled_loader_gives_its_own_first_samples(size):
    """Those its first pass gives, as if nobody had looked at it before."""
    own = [int(number) for _, targets in shuffled(3, batch_size=size) for number in targets]
    assert read(Loaded(shuffled(3, batch_size=size), "cpu"), 11) == own[:11]


def test_a_limit_holds_over_passes_of_a_shuffled_loader():
    """Where only k samples exist they are always the same ones, however often a loader shuffles."""
    loaded = Loaded(shuffled(3, batch_size=4), "cpu", 10)
    first = read(loaded, 10)
    assert len(set(first)) == 10
    assert read(loaded, 10) == first
    assert read(loaded, 6, 7) == (first * 2)[7:13]


@pytest.mark.parametrize(("limit", "have"), [(None, 30), (12, 12), (50, 30)])
def test_too_few_samples(limit, have):
    """The number that was found is said; nothing comes twice in one request to make up for it."""
    loaded = Loaded(loader(20, 10), "cpu", limit)
    with pytest.raises(InputError, match=f"expected at least {have + 1} samples .* got {have}"):
        read(loaded, have + 1)
    assert read(loaded, have, 2)[-1] == 1
    with pytest.raises(InputError, match=r"expected at least 3 samples .* got 0\. Lower num_samples"):
        read(Loaded([], "cpu"), 3)


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(4, 1),
        (torch.zeros(4, 1),),
        (torch.zeros(4, 1), torch.zeros(4), torch.zeros(4)),
        (torch.zeros(4, 1), 3),
        (torch.zeros(4, 1), torch.tensor(3)),
        ([0.0], [1]),
        {"inputs": torch.zeros(4, 1), "targets": torch.zeros(4)},
    ],
    ids=lambda b: type(b).__name__,
)
def test_anything_but_pairs_of_tensors(batch):
    with pytest.raises(InputError, match=r"loader: expected batches \(inputs, targets\) of two tensors; wrap it"):
        read(Loaded([batch], "cpu"), 1)


def test_lists_are_pairs_too():
    """DataLoader's default collation gives lists."""
    assert read(Loaded([list(piece) for piece in loader(3, 3)], "cpu"), 5) == [0, 1, 2, 3, 4]
