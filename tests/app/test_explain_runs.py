"""The sentences of the Runs page, on tables made up here."""

import pandas as pd
import pytest

from app.explain_runs import curve_sentence, found_sentence, layers_sentence

RUNS = pd.DataFrame(
    [
        (1, "", "magnitude", 0.5, 96.5, 97.0),
        (2, "mine", "woodfisher", 0.9, 96.1, 97.0),
        (3, "", "woodfisher", 0.95, 80.0, 97.0),
        (4, "", "woodfisher", None, None, None),
    ],
    columns=["id", "label", "method", "sparsity", "accuracy", "dense_accuracy"],
).assign(model="digits-mlp", dataset="digits")
POINTS = pd.DataFrame(
    [(1, "a", 0.5, 90.0, True), (2, "b", 0.7, 95.0, True), (2, "b", 0.8, 99.0, False)],
    columns=["run", "name", "sparsity", "accuracy", "own"],
).assign(gradual=False)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("**", "")


def test_what_was_found():
    """The failed run counts for nothing; the sparsest good one is not the most accurate."""
    assert plain(found_sentence(RUNS)) == (
        "Most accurate: #1 Magnitude, 50 %, 96.50 %. Sparsest within 1 point of its dense network: mine, 96.10 % (dense "
        "97.00 %)."
    )
    # Of two equally sparse ones the more accurate, wherever it stands.
    as_sparse = RUNS[:2].assign(sparsity=0.9, accuracy=[96.5, 96.1])
    assert "network: #1 Magnitude" in plain(found_sentence(as_sparse))
    assert plain(found_sentence(RUNS[2:3])).endswith("None is within 1 point of its dense network.")
    assert found_sentence(RUNS[3:]) == ""


def test_each_network_and_each_data_set_has_its_best():
    """Accuracies of two networks are not held against each other, nor those on two data sets."""
    runs = pd.concat([RUNS, RUNS[2:3].assign(id=5, model="digits-cnn"), RUNS[2:3].assign(id=6, dataset="others")])
    assert plain(found_sentence(runs)) == (
        "Most accurate: on digits-mlp #1 Magnitude, 50 %, 96.50 %; on digits-cnn #5 WoodFisher (OBS), 95 %, 80.00 %; on "
        "digits-mlp with the data others #6 WoodFisher (OBS), 95 %, 80.00 %. Sparsest within 1 point of its dense network: "
        "mine, on digits-mlp, 96.10 % (dense 97.00 %)."
    )


def test_a_tie_is_said():
    """All of a few, the sparsest of many."""
    level = RUNS[:3].assign(accuracy=96.5)
    assert plain(found_sentence(level[:2])).startswith("Most accurate: mine and #1 Magnitude, 50 %, 96.50 % each.")
    many = pd.concat([level, RUNS[:1].assign(id=7)])
    assert plain(found_sentence(many)).startswith(
        "Most accurate: #3 WoodFisher (OBS), 95 % and 3 others, 96.50 % each."
    )


def test_gradual_runs_beside_others():
    """Their lines are not of one kind, and that is said where both are drawn."""
    words = "The line of a gradual run follows one network through its training"
    assert words not in curve_sentence(POINTS)
    assert words not in curve_sentence(POINTS.assign(gradual=True))
    assert words in curve_sentence(POINTS.assign(gradual=POINTS["run"] == 2))


def test_the_highest_is_a_run_itself():
    """Points of curves are not results; runs without a curve are named."""
    words = plain(curve_sentence(POINTS))
    assert "highest is b, 95.00 % at 70.0 %" in words
    assert words.endswith("No curve was kept with a.")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(1, "fc1", 0.5), (1, "fc2", 0.75)], "fc2 gives most, 75.0 %."),
        ([(1, "fc1", 0.5), (2, "fc1", 0.5)], "They take the same share of every layer."),
        ([(1, "fc1", 0.5), (2, "conv", 0.5)], "They are different networks: no layer is in two of them."),
        (
            [(1, "fc1", 0.5), (2, "fc1", 0.6), (1, "fc2", 0.1), (2, "fc2", 0.7)],
            "They differ most in fc2, by 60.0 points.",
        ),
    ],
)
def test_layers(rows, words):
    assert plain(layers_sentence(pd.DataFrame(rows, columns=["run", "layer", "sparsity"]))) == words
