"""Explanation maps drawn over a slice."""

from __future__ import annotations

from workbench.views.cases.map_stills import map_figure
from workbench.views.cases.view import open_case


def test_still_has_a_titled_panel_and_a_scale_per_map(tiny_cohort, case_run) -> None:
    figure = map_figure(open_case(tiny_cohort, "TINY-00000-000", case_run.folder))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["FLAIR", "idh-gradcam"]
    assert len(figure.axes) == 3, "image, map, and the map's colour bar"
