"""Undo and redo of controls, and what a class does not see."""

from urllib.parse import urlencode

import pytest

from app.presets import PRESETS

SETTING = {"samples": "100", "with": "magnitude"}


def value(page, key: str):
    return page.session_state[key]


def button(page, label: str):
    return next(b for b in page.button if b.label == label)


def test_a_change_is_undone_and_done_again(opened):
    """Undo gives back the last setting of every control, one step a click; redo goes forward again."""
    page = opened(**SETTING)
    assert button(page, "Undo").disabled
    assert button(page, "Redo").disabled
    page.slider(key="sparsity").set_value(0.5).run()
    page.select_slider(key="damping").set_value("1e-1").run()
    headline = [m.value for m in page.metric]
    button(page, "Undo").click().run()
    assert (value(page, "sparsity"), value(page, "damping")) == (0.5, "1e-3")
    button(page, "Undo").click().run()
    assert (value(page, "sparsity"), value(page, "damping")) == (0.8, "1e-3")
    assert button(page, "Undo").disabled
    button(page, "Redo").click().run()
    button(page, "Redo").click().run()
    assert (value(page, "sparsity"), value(page, "damping")) == (0.5, "1e-1")
    assert [m.value for m in page.metric] == headline
    assert button(page, "Redo").disabled
    assert not page.exception


def test_a_new_change_ends_what_could_be_done_again(opened):
    """After an undo a change begins another branch."""
    page = opened(**SETTING)
    page.slider(key="sparsity").set_value(0.5).run()
    button(page, "Undo").click().run()
    page.slider(key="sparsity").set_value(0.6).run()
    assert button(page, "Redo").disabled
    button(page, "Undo").click().run()
    assert value(page, "sparsity") == 0.8


def test_another_network_is_undone_with_what_it_changed(opened):
    """What a network does not allow is set aside; undo brings the network and the setting back."""
    page = opened(samples="1000", **{"with": "magnitude"})
    page.selectbox(key="model").set_value("digits-cnn").run()
    button(page, "Undo").click().run()
    assert value(page, "model") == "digits-mlp"
    assert value(page, "samples") == 1000
    assert not page.exception


@pytest.mark.parametrize(("asked", "keys"), [("damping,block", ["damping", "block"]), ("samples", ["samples"])])
def test_a_class_does_not_see_what_the_link_hides(opened, asked, keys):
    """The controls are there with what the link says, out of sight; the seed cannot be changed."""
    page = opened(hide=asked, seed="3", **SETTING)
    styles = [element.proto.html.body for element in page.main if "display: none" in str(getattr(element, "proto", ""))]
    style = "".join(styles) or "".join(str(element.proto) for element in page.get("html"))
    assert all(f".st-key-{key}" in style and f".st-key-note-{key}" in style for key in keys)
    assert page.number_input(key="seed").disabled
    assert value(page, "seed") == 3


def test_without_a_class_all_is_seen(opened):
    """No style hides anything, and the seed can be changed; a name that is no key's hides nothing."""
    page = opened(hide="<script>", **SETTING)
    assert not page.get("html")
    assert not page.number_input(key="seed").disabled


def test_links_say_a_whole_setting(opened):
    """The menu of presets links to every one with all its parameters, and keeps what a class does not see out of it."""
    page = opened(**SETTING)
    menu = next(m.value for m in page.sidebar.markdown if "Too little damping" in m.value)
    assert all(preset.name in menu and preset.point in menu for preset in PRESETS)
    little = next(preset for preset in PRESETS if preset.name == "Too little damping")
    assert f"./?{urlencode(little.link, doseq=True)}".replace("&", "&amp;") in menu
    assert not any("Too little damping" in m.value for m in opened(hide="samples", **SETTING).sidebar.markdown)
