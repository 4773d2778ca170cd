"""Explore's linked views: the layer, single weights, and the pinned setting, all of it in the link."""

import json

import pytest

from app import asking
from app.pinning import differing, parse, written
from app.shared import workspace
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.evaluation import paired_standard_error
from woodfisher_core.experiments import PruneConfig

CHARTS, OF_WEIGHTS = 6, 5
SETTING = {"samples": "100", "damping": "1e-3"}


def setting(**changes) -> PruneConfig:
    values = {"model": "digits-mlp", "sparsity": 0.8, "num_samples": 100, "damping": 1e-3, "solver": "spectral"}
    return PruneConfig(**{**values, **changes})


def check_fine(page, charts: int = CHARTS):
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    return page


def said(page, words: str) -> bool:
    return any(words in element.value.replace("\u00a0", " ") for element in (*page.caption, *page.markdown))


def spec(page, index: int) -> dict:
    return json.loads(page.get("plotly_chart")[index].proto.spec)


def chart(page, question: str) -> dict:
    found = [json.loads(c.proto.spec) for c in page.get("plotly_chart")]
    return next(f for f in found if f["layout"]["title"]["text"].startswith(question))


def metric(page, label: str) -> str:
    return next(m.value for m in page.metric if m.label == label)


def test_the_chosen_layer_is_followed(opened):
    """Its bar stands out, and the histogram is its own alone."""
    page = check_fine(opened(**SETTING))
    assert "ticktext" not in chart(page, "How much does each")["layout"]["yaxis"]
    page.selectbox(key="layer").set_value("fc2").run()
    check_fine(page)
    assert chart(page, "How much does each")["layout"]["yaxis"]["ticktext"][1] == "<b>▸ fc2</b>"
    assert chart(page, "Which weights are cheap")["layout"]["yaxis"]["title"]["text"] == "fc2"
    assert "yaxis2" not in chart(page, "Which weights are cheap")["layout"]


def test_a_layer_of_another_network_falls_back_to_all(opened):
    page = check_fine(opened(layer="fc3", **SETTING))
    assert page.selectbox(key="layer").value == "fc3"
    page.selectbox(key="model").set_value("digits-cnn").run()
    check_fine(page)
    assert page.selectbox(key="layer").value == "all layers"


def test_single_weights_wait_to_be_opened(opened):
    """Closed they cost nothing; a link opens them, with a chart of the weights that magnitude would remove."""
    assert not opened(**SETTING).get("dataframe")
    page = check_fine(opened(single="true", **SETTING), CHARTS + OF_WEIGHTS)
    space, config = workspace(), setting()
    keep = space.outcome(config).mask.keep
    rival = space.outcome(config.replace(method="magnitude", update=None)).mask.keep
    saved = (keep & ~rival).nonzero().flatten().tolist()
    table = page.dataframe[0].value
    assert set(table["position"]) == set(saved)
    assert said(page, f"**{len(saved)} weights** of the network that Magnitude would remove and WoodFisher (OBS) keeps")
    weights, after = space.problem(config).weights, space.outcome(config).weights
    for row in table.itertuples():
        assert row.before == float(weights[row.position])
        assert row.after == float(after[row.position])
        assert row.kept
        assert not row.rival


@pytest.mark.parametrize("pick", ["saved", "given up", "moved", "threshold"])
@pytest.mark.parametrize("layer", ["all layers", "conv1", "conv3"])
def test_every_rule_on_every_kind_of_layer(opened, pick, layer):
    """A convolution's weights too; no more rows than asked for, all of the chosen layer."""
    page = opened(model="digits-cnn", single="true", pick=pick, layer=layer, many="5", **SETTING)
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error
    table = page.dataframe[0].value
    assert len(table) <= 5
    assert layer == "all layers" or set(table["layer"]) <= {layer}
    assert page.segmented_control(key="pick").value == pick


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "magnitude"},
        {"method": "magnitude", "with": "magnitude"},
        {"method": "exact-obs", "damping": "1e0", "without": "fc1"},
        {"method": "structured", "sparsity": "0.3"},
        {"method": "diagonal-hessian"},
        {"method": "kfac"},
        {"pattern": "2:4"},
        {"scope": "layer"},
        {"sparsity": "0"},
        {"sparsity": "0.99"},
        {"stages": "2"},
        {"flops-power": "0.3"},
        {"without": "fc1"},
    ],
    ids=str,
)
def test_single_weights_of_any_run(opened, settings):
    page = opened(single="true", **{**SETTING, **settings})
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert said(page, "Up to date")


def test_numbers_choose_weights_and_are_forgotten(opened):
    """Those named in the link are in the table, in whatever layer; a click goes back to the rule."""
    page = check_fine(opened(single="true", numbers="7, 2700 nonsense 99999", **SETTING), CHARTS + OF_WEIGHTS)
    assert list(page.dataframe[0].value["position"]) == [7, 2700]
    assert said(
        page, "**2 weights**, chosen by number or in the chart. Passed over: `nonsense` (no whole number from 0 on)"
    )
    assert said(page, "`99999` (the network's weights have the numbers 0 to 2719).")
    page.button(key="forget-numbers").click().run()
    check_fine(page, CHARTS + OF_WEIGHTS)
    assert said(page, "that Magnitude would remove and")


def test_numbers_that_choose_nothing_are_named(opened):
    """Nonsense, a minus and another layer's weight, each with its reason; no word of a link is Markdown."""
    page = check_fine(opened(single="true", layer="fc3", numbers="-3 7 [x](y) a`b", **SETTING), CHARTS + OF_WEIGHTS - 2)
    assert said(
        page, "**0 weights**, chosen by number or in the chart. Passed over: `-3`, `[x](y)` and `ab` (no whole number"
    )
    assert said(page, "`7` (not in fc3: choose all layers to see them).")


def test_a_mark_has_the_name_of_its_weight(opened):
    """As the other views call it, with the number that the field beside takes."""
    page = check_fine(opened(single="true", layer="fc3", **SETTING), CHARTS + OF_WEIGHTS - 1)
    scatter = chart(page, "Is a small weight")
    marks = next(trace for trace in scatter["data"] if trace.get("name") == "kept")
    assert all(name.startswith("fc3[") for name in marks["text"])
    assert "number %{customdata} in the network" in marks["hovertemplate"]
    assert scatter["layout"]["dragmode"] == "zoom"  # with "select" no click chooses a mark


def test_a_pinned_setting_stands_beside_the_next(opened):
    """Pin, change, compare: the metrics are the differences of the two runs, the verdict that of their paired noise."""
    page = opened(**SETTING)
    page.button(key="pin-a").click().run()
    assert said(check_fine(page), "This setting is A.")
    page.slider(key="sparsity").set_value(0.9).run()
    check_fine(page)
    space = workspace()
    first, second = space.evaluation(setting()), space.evaluation(setting(sparsity=0.9))
    gap = second.accuracy - first.accuracy
    assert metric(page, "Accuracy over A") == f"{gap:+.2f}"
    assert metric(page, "Loss over A") == f"{second.loss - first.loss:+.3f}"
    equal = abs(gap) <= 1.96 * paired_standard_error(second, first)
    assert said(
        page, "equal within the noise" if equal else f"{abs(gap):.2f} points {'better' if gap > 0 else 'worse'} than A"
    )
    assert said(page, "sparsity 0.8 in A, 0.9 here")
    keeps = [space.outcome(setting(sparsity=s)).mask.keep for s in (0.8, 0.9)]
    shared = int((keeps[0] & keeps[1]).sum()) / int((keeps[0] | keeps[1]).sum())
    assert metric(page, "Kept weights shared") == f"{100 * shared:.1f}\u00a0%"
    names = [trace.get("name") for trace in chart(page, "How much accuracy")["data"]]
    assert "A: WoodFisher (OBS), 80\u00a0%" in names
    page.button(key="unpin-a").click().run()
    check_fine(page)
    assert not any(m.label.endswith("over A") for m in page.metric)


def test_a_second_person_sees_the_same_pair(opened):
    """The link alone carries A."""
    page = check_fine(opened(pin=written(setting(sparsity=0.9, update="joint")), **SETTING))
    gap = (
        workspace().evaluation(setting()).accuracy
        - workspace().evaluation(setting(sparsity=0.9, update="joint")).accuracy
    )
    assert metric(page, "Accuracy over A") == f"{gap:+.2f}"


def test_another_network_is_not_compared(opened):
    page = check_fine(opened(pin=written(setting(model="digits-cnn")), **SETTING))
    assert said(page, "A prunes digits-cnn on digits")


def test_beside_a_pin_long_work_asks_once(opened, monkeypatch):
    """Its curve stands beside the others: one click agrees to all of them."""
    monkeypatch.setattr(asking, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(asking, "INSTANT_SECONDS", 0.0)
    page = opened(pin=written(setting(sparsity=0.9)), **SETTING)
    assert not page.get("plotly_chart")
    page.button(key="compute").click().run()
    check_fine(page)
    assert "compute" not in [button.key for button in page.button]


def test_a_pin_that_cannot_run_is_said(opened):
    """In words, and the present setting is there all the same."""
    page = opened(pin=written(setting(method="exact-obs", damping=1e-8)), **SETTING)
    assert not page.exception
    assert not page.error
    assert any(warning.value.startswith("A cannot be computed: ") for warning in page.warning)
    assert len(page.get("plotly_chart")) == CHARTS


@pytest.mark.parametrize(
    "text",
    ["nonsense", "[1]", '{"weights":"/etc/passwd"}', '{"data_dir":"/"}', '{"sparsity":7}', '{"model":3}', '{"num_samples":"x"}',
     '{"method":[]}', '{"exclude":5}', "[" * 1500, '{"model":"' + "x" * 3000 + '"}', '{"seed":1e999}'],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_a_broken_pin_is_let_go_of(opened, text):
    with pytest.raises(WoodFisherError):
        parse(text, "cpu")
    page = check_fine(opened(pin=text, **SETTING))
    assert any(caption.value.startswith(":material/keep_off:") for caption in page.caption)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sparsity": None, "pattern": "2:4", "exclude": ("fc1", "fc2")},
        {"method": "magnitude", "scope": "layer", "seed": 7},
        {"damping_scale": "relative", "damping": 30.0, "block_size": 100, "labels": "sampled"},
        {"update": "joint", "images": 200, "test_images": 200, "stages": 4, "stage_shape": "linear"},
    ],
)
def test_a_setting_survives_the_link(changes):
    config = setting(device="cpu", **changes)
    again = parse(written(config), "cpu")
    assert again == config
    assert differing(again, config) == {}


def test_paths_are_no_part_of_a_pin():
    for text in ('{"weights": "/etc/passwd"}', written(setting(weights="/tmp/x.safetensors")), '{"weights": 3}'):
        with pytest.raises(InputError, match="Pin one anew"):
            parse(text, "cpu")
