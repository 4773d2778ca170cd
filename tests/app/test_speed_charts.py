"""The Speed page's figures show the numbers of their tables, and its sentences say what these mean."""

import pandas as pd
import pytest

from app.charts import kernel_lines, latency_bars, size_bars, work_and_time
from app.charts.speed import LOOKS
from app.explain_speed import finding, kernel_sentence, latency_sentence, size_sentence, verdict, work_sentence
from woodfisher_core.experiments import speed, storage


@pytest.fixture
def table() -> pd.DataFrame:
    """Zeros as slow as before, CSR slower, the structured network faster."""
    rows = {
        "dense": ("not pruned", 97.0, 0.0, 1000, 2e-3, 1.0, 1.0, 1.0),
        "zeros": ("zeros, dense kernel", 95.0, 0.8, 200, 2.04e-3, 1.02, 0.98, 1.05),
        "csr": ("zeros left out, CSR", 95.0, 0.8, 200, 6e-3, 3.0, 2.8, 3.1),
        "structured": ("structured, as sparse", 90.0, 0.81, 190, 1e-3, 0.5, 0.4, 0.6),
    }
    columns = ["label", "accuracy", "sparsity", "multiply_adds", "seconds", "ratio", "ratio_low", "ratio_high"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return found.assign(low=0.9 * found["seconds"], high=1.2 * found["seconds"], rounds=25)


@pytest.fixture
def sizes() -> pd.DataFrame:
    rows = {
        "dense": ("as it is", 4096, 1.0, 97.0),
        "zip": ("dense, compressed", 3800, 3800 / 4096, 97.0),
        "zeros": ("zeros stored", 4096, 1.0, 95.0),
        "csr": ("CSR", 1700, 1700 / 4096, 95.0),
        "bitmask": ("one bit a weight, and values", 1024, 0.25, 95.0),
        "structured": ("structured, smaller", 900, 900 / 4096, 90.0),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["label", "bytes", "share", "accuracy"])


@pytest.fixture
def kernels() -> pd.DataFrame:
    rows = [
        ("dense", 0.5, 4e-4, 1.0),
        ("csr", 0.5, 8e-4, 2.0),
        ("dense", 0.9, 4e-4, 1.0),
        ("csr", 0.9, 2e-4, 0.5),
    ]
    found = pd.DataFrame(rows, columns=["kernel", "sparsity", "seconds", "ratio"])
    return found.assign(low=0.9 * found["seconds"], high=1.1 * found["seconds"])


def test_latency_bars(table):
    """The first way on top, its time in a unit that reads well, quartiles as error bars, accuracy in the label."""
    figure = latency_bars(table, 32)
    bars, text = figure.data
    assert list(bars.x)[::-1] == pytest.approx([2.0, 2.04, 6.0, 1.0])
    assert list(bars.error_x.array)[::-1] == pytest.approx([0.4, 0.408, 1.2, 0.2])
    assert bars.y[-1].startswith("not pruned")
    assert "<b>95.0 %</b>" in bars.y[-2]
    assert text.text[-1] == "  2 ms"
    assert text.x[0] == pytest.approx(2.0)  # at 1.2 the first way's line would go through the number
    assert text.x[1] == pytest.approx(7.2)
    assert figure.layout.xaxis.title.text == "ms a call of 32 images (median, quartiles)"
    assert figure.layout.title.text.endswith("?")
    assert latency_bars(table.assign(seconds=1e-3 * table["seconds"]), 1).layout.xaxis.title.text.startswith(
        "µs a call of 1 image "
    )


def test_work_and_time(table):
    """An open point at the work that is left, a full one at the time, joined; a table without a baseline of its own."""
    figure = work_and_time(table)
    work, taken = figure.data[-2:]
    assert list(work.x)[::-1] == pytest.approx([0.2, 0.2, 0.19])
    assert list(taken.x)[::-1] == [1.02, 3.0, 0.5]
    assert all(symbol.endswith("-open") for symbol in work.marker.symbol)
    assert len(figure.data) == 3 + 2
    assert figure.layout.xaxis.range[1] > 3.1


def test_kernel_lines(kernels):
    """Two lines that differ in dash and symbol, the crossing and your layer marked."""
    figure = kernel_lines(kernels, (8, 16), 4, 0.7, current=0.55)
    dense, csr = figure.data
    assert list(csr.y) == pytest.approx([800.0, 200.0])
    assert (dense.line.dash, dense.marker.symbol) != (csr.line.dash, csr.marker.symbol)
    assert {note.text for note in figure.layout.annotations} == {"CSR faster from 70%", "yours: 55%"}
    assert {shape.x0 for shape in figure.layout.shapes} == {0.7, 0.55}
    assert not kernel_lines(kernels, (8, 16), 4, None).layout.shapes
    assert "16 → 8" in figure.layout.title.text


def test_size_bars(sizes):
    figure = size_bars(sizes)
    assert list(figure.data[0].x)[::-1][:2] == [4.0, 3800 / 1024]
    assert figure.data[1].text[-1] == "  4 KiB · 100%"
    assert figure.layout.xaxis.title.text.startswith("KiB")
    assert size_bars(sizes.assign(bytes=sizes["bytes"] * 1024)).layout.xaxis.title.text.startswith("MiB")


def test_every_way_has_a_look_of_its_own():
    """Told apart without colour too."""
    assert {*speed.LABELS, *storage.LABELS} <= set(LOOKS)
    assert len({(look.hatch, look.color) for look in LOOKS.values()}) == len(LOOKS)


def test_the_finding(table):
    text = finding(table)
    assert "At **80\u00a0% zeros** only 20\u00a0% of the multiply-adds are needed" in text
    assert "takes **1.02×** as long as before (95\u00a0%: 0.98 to 1.05): **zeros alone buy nothing**" in text
    assert "Fastest is *structured, as sparse*: 0.50× as long, at 90.0\u00a0% accuracy instead of 97.0\u00a0%" in text
    assert "No other way is faster here either." in finding(table.drop(index="structured"))
    small = table.drop(index="structured").assign(seconds=1e-5)
    assert "spends its time on calling its layers" in finding(small)
    nothing = table.assign(sparsity=0.0)
    assert finding(nothing).startswith("Nothing is pruned yet")


@pytest.mark.parametrize(
    ("ratio", "low", "high", "said"),
    [
        (1.02, 0.98, 1.05, "equal"),
        (1.03, 1.01, 1.05, "equal"),  # beyond the noise, and yet nobody would notice
        (1.5, 0.9, 2.0, "equal"),  # within the noise
        (1.5, 1.2, 2.0, "slower"),
        (0.5, 0.4, 0.6, "faster"),
        (0.5, 0.4, 1.1, "equal"),
    ],
)
def test_verdicts_mind_the_noise(ratio, low, high, said):
    assert verdict(pd.Series({"ratio": ratio, "ratio_low": low, "ratio_high": high})) == said


def test_a_faster_dense_kernel_is_not_credited_to_the_zeros(table):
    table.loc["zeros", ["ratio", "ratio_low", "ratio_high"]] = [0.7, 0.6, 0.8]
    assert "zeros alone buy nothing" not in finding(table)
    assert "measure again" in finding(table)


def test_the_other_sentences(table, sizes, kernels):
    assert "zeros left out, CSR: 3.00× as long (95\u00a0%: 2.80 to 3.10), slower" in latency_sentence(table, 1, True)
    close = table.copy()
    close.loc["csr", ["ratio", "ratio_low", "ratio_high"]] = [0.95, 0.92, 0.97]
    assert "0.92 to 0.97), equal (within 10\u00a0%)" in latency_sentence(close, 1, True)
    assert "processor time of one thread" in latency_sentence(table, 1, True)
    assert "wall-clock time on 4 threads" in latency_sentence(table, 4, True)
    text = work_sentence(table)
    assert "*zeros left out, CSR* 20\u00a0% of the multiply-adds in 300\u00a0% of the time" in text
    assert "*structured, as sparse* 19\u00a0% of the multiply-adds in 50\u00a0% of the time" in text
    assert text.count("81\u00a0% of its weights gone") == 1
    assert "the calling of its layers" not in text
    assert "the calling of its layers" in work_sentence(table.assign(seconds=1e-5))
    assert "it pays from about **70\u00a0%** on" in kernel_sentence(kernels, 0.7, None)
    assert "it never pays at this size" in kernel_sentence(kernels, None, 0.3)
    assert "In your setting this layer has 30\u00a0% zeros" in kernel_sentence(kernels, None, 0.3)
    text = size_sentence(sizes)
    assert "CSR takes 42\u00a0%" in text
    assert "Smallest with the same weights: *one bit a weight, and values*, 25\u00a0%" in text
