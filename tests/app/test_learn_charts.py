"""The lesson's figures and texts, from small tables and a small network."""

import re

import pandas as pd
import pytest

from app import charts
from app.charts.learn import HESSIAN_DECADES, UPDATES
from app.glossary import GLOSSARY, PAGES, as_markdown, found
from app.learning import STEPS
from app.learning.step import nats, signed, tex
from woodfisher_core.experiments import PruneConfig, Workspace


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (2720, "2{,}720"),
        (0.178, "0.178"),
        (-0.0368, "-0.0368"),
        (3.16e-5, r"3.16\cdot10^{-5}"),
        (1e-3, "0.001"),
        (1e-8, "10^{-8}"),
        (3e-6, r"3\cdot10^{-6}"),
        (4.194e9, r"4.19\cdot10^{9}"),
        (float("inf"), r"\text{not finite}"),
    ],
)
def test_numbers_in_latex(value, written):
    assert tex(value) == written


def test_numbers_in_sums_and_sentences():
    assert signed(0.5) + signed(-0.25) == "+0.500-0.250" or signed(0.5) + signed(-0.25) == "+0.5-0.250"
    assert nats(-0.002) == "−0.002\u00a0nats"
    assert nats(7.458e-05) == "+7.5·10⁻⁵\u00a0nats"


def test_taylor_path_marks_the_share():
    table = pd.DataFrame({"share": [0.0, 0.5, 1.0], "measured": [0, 1, 4], "first": [0, 0.5, 1], "both": [0, 1, 3]})
    figure = charts.taylor_path(table, 0.5)
    assert [list(trace.y) for trace in figure.data] == [[0, 1, 4], [0, 0.5, 1], [0, 1, 3]]
    assert len({(trace.line.dash, trace.marker.symbol) for trace in figure.data}) == 3
    assert figure.layout.shapes[0].x0 == 0.5


def test_removal_bars_leave_room_for_their_numbers():
    table = pd.DataFrame({"what": ["a", "b"] * 2, "which": ["p", "p", "m", "m"], "nats": [1.0, 2.0, -1.0, 3.0]})
    figure = charts.removal_bars(table)
    low, high = figure.layout.xaxis.range
    assert low < -1.0
    assert high > 3.0
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape
    assert figure.data[1].text == ("-1.0e+00", "+3.0e+00")


def test_fisher_scatter_leaves_out_what_has_no_place():
    """Negative curvature, and what is as good as none."""
    hessian = [1.0, 0.1, -1.0, 10.0 ** -(HESSIAN_DECADES + 1)]
    table = pd.DataFrame(
        {
            "name": [f"fc1[0, {i}]" for i in range(4)],
            "hessian": hessian,
            "true": [1.0, 0.0, 1.0, 1.0],
            "sampled": [1.0] * 4,
        }
    )
    figure = charts.fisher_against_hessian(table)
    assert list(figure.data[0].x) == [1.0]
    assert list(figure.data[1].x) == [1.0, 0.1]
    assert list(figure.data[1].customdata) == ["fc1[0, 0]", "fc1[0, 1]"]
    assert list(figure.data[2].x) == list(figure.data[2].y) == [0.1, 1.0]


def test_recursion_ends_in_the_circles():
    names = ["fc1[0, 7]"] * 2 + ["fc1[0, 9]"] * 2
    steps = pd.DataFrame(
        {"weight": [7, 7, 9, 9], "name": names, "samples": [0, 5, 0, 5], "value": [10.0, 4.0, 10.0, 2.0]}
    )
    figure = charts.recursion_lines(steps, {7: 4.0, 9: 2.0}, 0.1)
    assert [trace.y[-1] for trace in figure.data[:2]] == list(figure.data[2].y) == pytest.approx([0.4, 0.2])
    assert list(figure.layout.xaxis.ticktext) == ["0", "5"]
    assert figure.data[0].line.dash != figure.data[1].line.dash
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == [
        "2 weights, a line each",
        "closed form",
    ]
    assert "fc1[0, 9]" in figure.data[1].hovertemplate


def test_blocks_say_what_they_keep():
    table = pd.DataFrame(
        {"block": ["1", "layer"], "share": [0.04, 1.0], "accuracy": [50.0, 90.0], "standard_error": [1.0, 1.0]}
    )
    figure = charts.block_accuracy(table, 80.0, 97.0)
    assert [text.strip() for text in figure.data[0].text] == ["4 % of F", "100 % of F"]
    assert {shape.y0 for shape in figure.layout.shapes} == {80.0, 97.0}
    assert figure.layout.yaxis.range[0] < 48.0


def test_updates_differ_by_more_than_colour():
    points = pd.DataFrame(
        [
            {"update": name, "sparsity": s, "accuracy": 50.0, "standard_error": 1.0}
            for name in UPDATES
            for s in (0.5, 0.9)
        ]
    )
    lines = [trace for trace in charts.update_curves(points, 97.0, 0.8).data if trace.name]
    assert [line.name for line in lines] == [name for name, _ in UPDATES.values()]
    assert len({(line.line.dash, line.marker.symbol) for line in lines}) == len(UPDATES)


def test_ladder_has_the_first_idea_on_top():
    table = pd.DataFrame({"idea": ["a", "b"], "accuracy": [10.0, 90.0], "standard_error": [1.0, 1.0]})
    assert list(charts.ladder_bars(table, 97.0).data[0].y) == ["b", "a"]


@pytest.fixture(scope="module")
def shown():
    """Every step with numbers of a small network."""
    space, config = Workspace(), PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=50)
    return {step.name: step.shown(space, config) for step in STEPS}


def test_twenty_minutes():
    assert 18 <= sum(step.minutes for step in STEPS) <= 22
    assert len({step.name for step in STEPS}) == len(STEPS) == 8


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_is_whole(shown, step):
    """Words with numbers, an equation with numbers put in, a figure with its data; braces close, no command runs on."""
    one = shown[step.name]
    assert re.search(r"\d", one.idea)
    assert len(one.data)
    assert one.figure.data
    assert one.sentence.endswith(".")
    assert one.answer.endswith(".")
    for line in (step.equation, *one.numbers):
        assert line.count("{") == line.count("}")
        assert len(re.findall(r"\\left(?!arrow)", line)) == len(re.findall(r"\\right(?!arrow)", line))
        assert not re.search(r"\\q?quad[A-Za-z]", line)
    assert any(re.search(r"\d\.\d|\d\{,\}\d|\d\d", line) for line in one.numbers)
    for text in (one.idea, one.answer, one.sentence):
        assert "nan" not in text
        assert text.count("$") % 2 == 0


def test_weights_have_one_name(shown):
    """fc3[5, 11] above and in the answer; a number of the network's order only where it is asked for."""
    one = shown["one-weight"]
    assert re.search(r"\*\*fc\d\[\d+, \d+\]\*\*", one.idea)
    assert re.search(r"The most: fc\d\[\d+, \d+\] \(", one.answer)
    assert " no. " not in one.answer
    assert "%{customdata}" in shown["fisher"].figure.data[0].hovertemplate
    assert re.fullmatch(r"fc\d\[\d+, \d+\]", shown["fisher"].data["name"].iloc[0])


def test_the_lines_drawn_are_counted(shown):
    """As many as the figure has, of all that the recursion is done for."""
    one = shown["woodbury"]
    drawn = one.data["weight"].nunique()
    assert f"Of the 50 weights {drawn} are drawn, every 6th, from the one the images see most of on." in one.sentence
    assert any(trace.name == f"{drawn} weights, a line each" for trace in one.figure.data)


def test_one_unit_of_memory(shown):
    """The same bytes read alike in the words and in the formula."""
    one = shown["blocks"]
    full = re.search(r"matrix, ([\d.]+ \wiB);", one.idea).group(1)
    assert f"4d^2=\\text{{{full}}}" in one.numbers[0]
    assert not re.search(r"\d\s*(\\text\{)?MB|petabyte", " ".join((one.idea, *one.numbers)))


def test_sentences_have_a_true_minus(shown):
    for name, one in shown.items():
        for text in (one.idea, one.answer, one.sentence):
            prose = re.sub(r"\$[^$]*\$", "", text)
            assert not re.search(r"(?<![\w.])-\d|\de-\d", prose), (name, prose)


def test_glossary_is_found_by_name_symbol_and_meaning():
    assert found("") == GLOSSARY
    assert [term.name for term in found("woodbury's IDENTITY")] == ["Woodbury's identity"]
    assert "Pruning statistic" in [term.name for term in found("saliency")]
    assert "Damping" in [term.name for term in found("lambda diagonal")]
    assert found("no such word") == ()


def test_glossary_has_every_symbol_of_the_controls():
    """The letters of the sidebar's own words, and every option's."""
    names = {name.casefold() for term in GLOSSARY for name in (term.name, *term.also)}
    wanted = "damping block size fisher samples stages mini-batch seed sparsity mask update held-out images obs obd"
    for word in (
        *re.split(r" (?!size|samples|images)", wanted),
        "saliency",
        "2:4",
        "flops",
        "snip",
        "k-fac",
        "l-obs",
        "erk",
    ):
        assert word in names, word
    symbols = " ".join(term.symbol for term in GLOSSARY).split()
    for letter in (r"\lambda", "N", "B", "R", "m", "s", "H", "L", "w"):
        assert letter in symbols, letter


def test_glossary_table_links_to_pages_with_the_settings():
    text = as_markdown(GLOSSARY, "model=digits-cnn")
    assert len(text.splitlines()) == len(GLOSSARY) + 2
    assert "[Sensitivity](sensitivity?model=digits-cnn)" in text
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in text.splitlines())
    assert "](" not in as_markdown(GLOSSARY)
    assert {term.page for term in GLOSSARY} <= set(PAGES)
