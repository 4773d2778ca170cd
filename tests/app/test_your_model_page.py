"""Your model: what comes in is chosen at once and works on every page; what is refused is told; what is removed is gone."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app import charts
from app.explain_own import confusion_sentence, finding, warning
from woodfisher_core.data.brought import DATA, WEIGHTS, is_here
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.own import sample_data, sample_weights
from woodfisher_core.own.checking import confusion_table, verdict

PAGE = "app_pages/your_model.py"
SMALL = {"samples": "100"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def said(page: AppTest) -> str:
    parts = (*page.markdown, *page.caption, *page.success, *page.warning, *page.error, *page.info)
    return " ".join(element.value for element in parts).replace("\u00a0", " ")


def brought(page: AppTest, kind: int, name: str, content: bytes) -> AppTest:
    page.file_uploader[kind].set_value((name, content, "application/octet-stream")).run()
    assert not page.exception
    return page


def test_the_page_teaches_without_a_file(opened):
    page = opened(PAGE, **SMALL)
    assert not page.exception
    assert "ships with the app answers **97.20 %** of the 500 test images" in said(page)
    assert "Up to date." in said(page)


def test_weights_and_data_come_in_and_explore_runs_on_them(opened):
    page = brought(opened(PAGE, **SMALL), 0, "my net.safetensors", sample_weights("digits-cnn"))
    assert (page.selectbox(key="model").value, page.selectbox(key="data").value) == ("digits-cnn", "digits")
    page = brought(page, 1, "digs.npz", sample_data("digits"))
    weights, data = page.selectbox(key="weights").value, page.selectbox(key="data").value
    assert is_here(WEIGHTS, weights)
    assert is_here(DATA, data)
    assert "**my net** answers **98.40 %** of the 500 test images of **digs** rightly" in said(page)
    explore = opened(model="digits-cnn", weights=weights, data=data, **SMALL)
    assert not explore.exception
    assert not explore.error
    assert "from **98.40 %** to" in said(explore)
    assert "your weights **my net**" in said(explore)


def test_what_is_refused_is_told_and_changes_nothing(opened):
    page = brought(opened(PAGE, **SMALL), 0, "net.pt", b"\x80\x04\x95" + b"x" * 50)
    assert "a pickle. Opening a pickle can run any program" in page.error[0].value
    assert page.selectbox(key="weights").options == ["shipped"]
    assert "answers **97.20 %**" in said(page)


def test_nobody_else_sees_it_and_it_can_be_removed(opened):
    page = brought(opened(PAGE, **SMALL), 1, "digs.npz", sample_data("digits"))
    name = page.selectbox(key="data").value
    assert opened(PAGE, **SMALL).selectbox(key="data").options == ["digits"]
    page.button(key=f"remove-data-{name}").click().run()
    assert not page.exception
    assert not is_here(DATA, name)
    assert page.selectbox(key="data").value == "digits"


@pytest.mark.parametrize("query", [{"data": "own-0123456789ab"}, {"weights": "own-0123456789ab"}])
def test_a_link_to_what_is_not_here_is_told_kindly(opened, query):
    explore = opened(**query, **SMALL)
    assert not explore.exception
    assert "not on this machine" in said(explore)
    page = opened(PAGE, **query, **SMALL)
    assert not page.exception
    assert len(page.file_uploader) == 2


@pytest.fixture(scope="module")
def dense():
    problem = Workspace().problem(PruneConfig(model="digits-mlp", device="cpu"))
    return problem.dense, problem.dataset.classes


def test_the_confusion_is_counted(dense):
    """Against a loop over all images; each row of the chart is one class."""
    result, classes = dense
    table = confusion_table(result, classes)
    counts = np.zeros((10, 10), int)
    for truth, answer in zip(result.targets.tolist(), result.predictions.tolist(), strict=True):
        counts[truth, answer] += 1
    assert (table["count"].to_numpy().reshape(10, 10) == counts).all()
    figure = charts.confusion(table)
    np.testing.assert_allclose(np.asarray(figure.data[0].z), 100 * counts / counts.sum(1, keepdims=True))
    assert figure.layout.title.text.endswith("?")
    assert "most often taken for" in confusion_sentence(table)


def test_answers_that_are_no_class_of_the_data_are_counted(dense):
    """Data of five classes on a network that tells ten apart: no test image is forgotten, and each wrong answer is seen."""
    from dataclasses import replace

    result, _ = dense
    few = result.targets < 5
    answers = result.predictions[few].clone()
    answers[:2], answers[2] = 7, 9
    right = float((answers == result.targets[few]).double().mean() * 100)
    seen = replace(result, targets=result.targets[few], predictions=answers, accuracy=right)
    table = confusion_table(seen, [str(i) for i in range(5)])
    assert table["count"].sum() == int(few.sum())
    outside = table[table["answer"] == "none of these"]
    assert outside["count"].sum() >= 3
    assert list(charts.confusion(table).data[0].x)[-1] == "none of these"
    taken = ["none of these", "(none of these)", "a", "b", "c"]
    assert "((none of these))" in set(confusion_table(seen, taken)["answer"])
    found = verdict(seen, 5)
    most = int(np.bincount(seen.targets.numpy()).max())
    assert found.guess == pytest.approx(100 * most / int(few.sum()))
    own = replace(seen, predictions=seen.targets)
    assert set(confusion_table(own, [str(i) for i in range(5)])["answer"]) == {"0", "1", "2", "3", "4"}


def test_another_order_of_the_classes_is_recognised(dense):
    """Answers renamed one to one: said with the accuracy that the right names would give; guessing is named as guessing."""
    from dataclasses import replace

    result, classes = dense
    assert warning(verdict(result, 10), classes, ()) == ""
    turned = replace(result, predictions=(result.predictions + 1) % 10, accuracy=0.0)
    found = verdict(turned, 10)
    assert found.renamed == pytest.approx(result.accuracy)
    assert "it knows 0 as 1, 1 as 2, 2 as 3, 3 as 4 and 6 more" in warning(found, classes, ())
    constant = replace(
        result, predictions=result.predictions * 0, accuracy=float((result.targets == 0).double().mean() * 100)
    )
    assert "no better than guessing" in warning(verdict(constant, 10), classes, ("bn1",))
    assert "**mine** answers" in finding(found, 500, "mine", None)
