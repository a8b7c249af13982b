"""The two pictures of features: same points, one source, colours and shapes that mean the same in both forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from bokeh.models.sources import ColumnDataSource
from bokeh.plotting import figure as bokeh_figure

from workbench.evaluation.intervals import Interval
from workbench.records.run_folder import FEATURES_FILE
from workbench.views.feature_plot import (
    ALL,
    feature_figure,
    feature_points,
    feature_scatters,
    feature_still,
    feature_still_of,
    group_column,
    silhouette_text,
)

KINDS = {"glioma": ("t1", "t1c", "t2", "flair"), "stroke": ("dwi", "adc"), "metastasis": ("t1c",)}


def features(lesion: bool = True) -> pd.DataFrame:
    """Twelve cases of three kinds with their own sequences; the features know sequence and kind."""
    rng = np.random.default_rng(0)
    rows, values = [], []
    names = [*dict.fromkeys(name for kind in KINDS.values() for name in kind)]
    for index in range(12):
        kind = list(KINDS)[index % 3]
        there = KINDS[kind]
        for shown in [(name,) for name in there] + ([there] if len(there) > 1 else []):
            rows.append({"case": f"case{index}", "subject": f"subject{index}", "site": f"site{index % 2}", "split": "test",
                         "dataset": "one", "lesion": kind if lesion else None, "present": "+".join(shown)})  # fmt: skip
            values.append(rng.normal(size=8) + 9 * np.eye(8)[names.index(shown[0])] + 2 * np.eye(8)[7 - index % 3])
    return pd.DataFrame(rows).join(pd.DataFrame(np.array(values, np.float32), columns=[f"f{k}" for k in range(8)]))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    features().to_parquet(folder / FEATURES_FILE)
    spec = {"method": "masm", "cohort": {"name": "mixed", "phantom": True}}
    (folder / "spec.json").write_text(json.dumps(spec))
    return folder


def drawn(layout: hv.Layout) -> list[Any]:
    """The Bokeh figures: by sequence, by group."""
    found = hv.render(layout, backend="bokeh").select({"type": bokeh_figure})
    return sorted(found, key=lambda picture: not picture.title.text.endswith("by sequence"))


def test_points_are_named_by_sequence_and_lesion() -> None:
    points = feature_points(features())
    assert points.sequences == ["T1", "T1c", "T2", "FLAIR", "DWI", "ADC", ALL]
    assert (points.group, points.groups) == ("lesion", ["glioma", "metastasis", "stroke"])
    assert points.counts == "n = 36 of 12 cases"
    table = points.table
    assert set(table.loc[table["group"] == "metastasis", "sequence"]) == {"T1c"}, "it has one sequence only"
    assert points.by_sequence.n == 28, "each sequence alone"
    assert points.by_group.n == 12, "each case once, with all it has"
    assert points.by_sequence.value > 0.3
    assert np.isfinite(table[["x", "y"]].to_numpy()).all()


def test_without_lesions_data_sets_or_sites_take_their_place() -> None:
    known = features()
    assert group_column(known) == "lesion"
    assert group_column(known.assign(lesion="glioma", dataset=known["case"])) == "dataset"
    assert group_column(known.drop(columns=["lesion", "dataset"])) == "site"
    points = feature_points(features(lesion=False))
    assert (points.group, points.groups) == ("site", ["site0", "site1"])
    partly = features()
    partly.loc[partly["lesion"] == "stroke", "lesion"] = None
    assert feature_points(partly).groups == ["glioma", "metastasis", "unknown"]


@pytest.mark.parametrize("name", ["light", "dark"])
def test_both_pictures_draw_from_one_source_so_that_a_selection_is_shared(run: Path, name: str) -> None:
    layout = feature_figure(run, name=name)
    assert layout is not None
    left, right = drawn(layout)
    sources = {id(r.data_source) for f in (left, right) for r in f.renderers}
    assert len(sources) == 1
    (source,) = left.select({"type": ColumnDataSource})
    assert len(source.data["x"]) == 36
    for picture, column in ((left, "sequence"), (right, "group")):
        (renderer,) = picture.renderers
        for glyph in (renderer.glyph, renderer.selection_glyph, renderer.nonselection_glyph):
            assert glyph.fill_color.field == f"{column}_colour"
            assert glyph.marker.field == f"{column}_shape"
        assert renderer.nonselection_glyph.fill_alpha < 0.3 < renderer.glyph.fill_alpha
        tools = {type(tool).__name__ for tool in picture.toolbar.tools}
        assert {"BoxSelectTool", "LassoSelectTool", "HoverTool"} <= tools
        assert (picture.toolbar_location, picture.toolbar.autohide) == ("right", False), "they can be chosen"
        # each label's sign is that of a point of this label
        data = {key: list(values) for key, values in source.data.items()}
        for item in picture.legend[0].items:
            assert data[column][item.index] == item.label.value
        looks = pd.DataFrame(data).groupby(column)[[f"{column}_colour", f"{column}_shape"]].nunique()
        assert bool((looks == 1).all(axis=None))
        assert len(set(zip(data[f"{column}_colour"], data[f"{column}_shape"], strict=True))) == len(looks)
    hover = next(tool for tool in left.toolbar.tools if type(tool).__name__ == "HoverTool")
    assert [label for label, _ in hover.tooltips] == ["case", "sequence", "lesion", "site", "split"]


def test_method_and_phantom_are_named_and_numbers_have_n_and_interval(run: Path) -> None:
    layout = feature_figure(run)
    assert layout is not None
    left, right = drawn(layout)
    assert (left.title.text, right.title.text) == ("MASM features by sequence", "MASM features by lesion")
    for picture, called in ((left, "sequence"), (right, "lesion")):
        subtitle = next(item.text for item in picture.above if "subtitle" in (item.tags or []))
        assert subtitle.startswith("phantom cohort mixed; n = 36 of 12 cases\n")
        assert f"silhouette by {called} 0." in subtitle
        assert " to " in subtitle
    assert silhouette_text(Interval.unknown(), "lesion") == "silhouette by lesion: not estimable"


def test_drawing_it_twice_gives_each_document_its_own_models(run: Path) -> None:
    layout = feature_figure(run)
    first, second = (drawn(layout) for _ in range(2))  # type: ignore[arg-type]
    assert {id(f) for f in first}.isdisjoint(id(f) for f in second)
    assert all(len(f.legend) == 1 for f in (*first, *second))


def test_a_run_without_features_has_no_plot(tmp_path: Path) -> None:
    assert feature_figure(tmp_path) is None
    assert feature_still_of(tmp_path, title="x") is None


def test_the_still_shows_the_same_groups(run: Path) -> None:
    still = feature_still(feature_points(features()), title="masm on phantom cohort mixed, fold 0")
    left, right = still.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["T1", "T1c", "T2", "FLAIR", "DWI", "ADC", ALL]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["glioma", "metastasis", "stroke"]
    assert sum(len(part.get_offsets()) for part in left.collections) == 36
    assert "phantom" in still.get_suptitle()
    assert "silhouette by lesion" in right.get_title()
    assert feature_still_of(run, title="x") is not None


def test_more_groups_than_colours_stay_apart() -> None:
    many = features().assign(lesion=lambda table: table["case"])
    points = feature_points(many)
    (_, right) = drawn(feature_scatters(points, title="MASM features"))
    data = right.renderers[0].data_source.data
    assert len(set(zip(data["group_colour"], data["group_shape"], strict=True))) == 12
