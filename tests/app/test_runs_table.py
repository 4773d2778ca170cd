"""The table of runs as people read it."""

import pandas as pd
import pytest

from app.runs_table import in_words
from woodfisher_core.own import bring_data, bring_weights, sample_data, sample_weights

MISSING = "own-0123456789ab"


@pytest.mark.parametrize(
    ("setting", "bring"),
    [
        ("dataset", lambda: bring_data(sample_data("digits"), "my photos.npz").name),
        ("weights", lambda: bring_weights(sample_weights("digits-mlp"), "my photos.safetensors").name),
    ],
)
def test_what_users_brought_has_their_name_for_it(tmp_path, monkeypatch, setting, bring):
    """Where it is here; a title that is the name of something else stands with its own name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = bring()
    shown = lambda *values: in_words(pd.Series(values, name=setting)).tolist()  # noqa: E731
    assert shown(name, "digits", name, MISSING) == ["my photos", "digits", "my photos", MISSING]
    assert shown(name, "my photos") == [f"my photos ({name})", "my photos (my photos)"]
    assert in_words(pd.Series([name], name="seed")).tolist() == [name]
