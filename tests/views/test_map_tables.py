"""Names, tables and figures of explanation maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.records.run_folder import ATTRIBUTION_FILE
from workbench.views.case_table import facts_html
from workbench.views.case_view import open_case
from workbench.views.map_figures import attribution_figure, weight_figure
from workbench.views.map_names import map_order, map_title
from workbench.views.map_stills import map_figure
from workbench.views.map_tables import attribution_table, read_map_table, weight_table

ATTRIBUTION = pd.DataFrame(
    [
        (case, name, region, share, chance)
        for case, shift in (("TINY-00000-000", 0.0), ("b", 0.1))
        for name in ("weight_seen", "gradcam_codel", "gate")
        for region, share, chance in (("outside", 0.5 - shift, 0.9), ("ET", 0.2 + shift, 0.04), ("ED", 0.3, 0.06))
    ],
    columns=["case", "map", "region", "share", "chance"],
)
WEIGHTS = pd.DataFrame(
    [("TINY-00000-000", "ET", "t1c", 0.7, 9), ("TINY-00000-000", "ET", "flair", 0.3, 9), ("b", "ET", "t1c", 0.5, 1),
     ("b", "ET", "flair", 0.5, 1), ("b", "outside", "t1c", 0.25, 99), ("b", "outside", "flair", 0.75, 99)],
    columns=["case", "region", "modality", "weight", "voxels"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "title"),
    [
        ("gradcam_idh", "Grad-CAM IDH"),
        ("gradcampp_tumour", "Grad-CAM++ tumour"),
        ("gradcam_tert_open", "Grad-CAM TERT, gate open"),
        ("weight_flair", "Weight of FLAIR"),
        ("keep_t1c", "Tokens kept of T1c"),
        ("gate", "Tumour gate"),
        ("cmd_attention_open", "T2-FLAIR attention (CMD), gate open"),
        ("something_new", "something new"),
    ],
)
def test_titles(key: str, title: str) -> None:
    assert map_title(key) == title


def test_own_maps_stand_between_activations_and_weights() -> None:
    found = sorted(["weight_t1", "gate", "gradcampp_idh", "gradcam_idh"], key=map_order)
    assert found == ["gradcam_idh", "gradcampp_idh", "gate", "weight_t1"]


def test_attribution_beside_chance() -> None:
    table = attribution_table(ATTRIBUTION)
    assert list(table.columns) == ["n", "ET", "ED", "brain outside tumour"]
    assert table.loc["Grad-CAM 1p/19q"].tolist() == [2, "25.0% (4.0%)", "30.0% (6.0%)", "45.0% (90.0%)"]
    empty = ATTRIBUTION["map"] == "gate"
    table = attribution_table(ATTRIBUTION.assign(share=ATTRIBUTION["share"].mask(empty)))
    assert table.loc["Tumour gate"].tolist() == [0, "–", "–", "–"]
    assert attribution_table(ATTRIBUTION.assign(share=np.nan)).empty
    assert attribution_table(pd.DataFrame()).empty


def test_each_case_counts_once_in_the_weights() -> None:
    table = weight_table(WEIGHTS)
    assert table.loc["T1c", "ET"] == pytest.approx(0.6)
    assert table["brain outside tumour"].tolist() == [0.25, 0.75]
    np.testing.assert_allclose(table.sum(), 1)


def test_figures_say_what_the_tables_say() -> None:
    heat = weight_figure(WEIGHTS, title="x")
    assert heat is not None
    assert [text.get_text() for text in heat.axes[0].texts] == ["0.60", "0.25", "0.40", "0.75"]
    assert [label.get_text() for label in heat.axes[0].get_xticklabels()] == ["ET\nn 2", "outside\nn 1"]
    bars = attribution_figure(ATTRIBUTION, title="x")
    assert bars is not None
    assert sorted(round(patch.get_width(), 3) for patch in bars.axes[0].patches) == [0.25] * 3 + [0.3] * 3
    assert "gate, n 2" in " ".join(label.get_text() for label in bars.axes[0].get_yticklabels())
    assert weight_figure(pd.DataFrame(), title="x") is None
    assert attribution_figure(pd.DataFrame(), title="x") is None


def test_an_older_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / ATTRIBUTION_FILE
    assert read_map_table(path).empty
    path.parent.mkdir()
    ATTRIBUTION.drop(columns="chance").to_csv(path, index=False)
    assert read_map_table(path).empty
    ATTRIBUTION.to_csv(path, index=False)
    assert len(read_map_table(path)) == len(ATTRIBUTION)


def test_facts_of_a_case_hold_its_own_maps_in_numbers(tiny_cohort, case_run) -> None:
    view = open_case(tiny_cohort, "TINY-00000-000", case_run.folder)
    text = facts_html(view, None, None, ATTRIBUTION, WEIGHTS)
    assert "<td>20.0% (4.0%)</td>" in text
    assert "Sequence, mean weight" in text
    assert "<td>0.70</td>" in text
    other = facts_html(open_case(tiny_cohort, "TINY-00001-000", case_run.folder), None, None, ATTRIBUTION, WEIGHTS)
    assert "mean weight" not in other


def test_still_has_a_titled_panel_and_a_scale_per_map(tiny_cohort, case_run) -> None:
    figure = map_figure(open_case(tiny_cohort, "TINY-00000-000", case_run.folder))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["FLAIR", "idh-gradcam"]
    assert len(figure.axes) == 3, "image, map, and the map's colour bar"
