from __future__ import annotations

import io

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.views.cases.stills import case_figure, contour_colours, figure_of
from workbench.views.cases.view import open_case

CASE = "TINY-00000-000"


def texts(figure) -> list[str]:
    return [t.get_text() for ax in figure.axes for t in ax.texts] + [figure.get_suptitle()]


def test_rows_letters_and_title(tiny_cohort, case_run):
    view = open_case(tiny_cohort, CASE, case_run.folder)
    figure = figure_of(view, modalities=("t1c", "flair"), metrics={"Dice WT": 0.913})
    assert len(figure.axes) == 6  # image, truth, prediction of two modalities
    for ax in figure.axes:
        left = next(t for t in ax.texts if t.get_text() == "L")
        right = next(t for t in ax.texts if t.get_text() == "R")
        assert left.get_position()[0] > right.get_position()[0]
    assert "phantom" in figure.get_suptitle()
    assert CASE in figure.get_suptitle()
    assert "0.91" in figure.get_suptitle()
    assert "50 mm" in texts(figure)
    figure.savefig(io.BytesIO(), format="png")


def test_contours_lie_where_the_labels_are(tiny_cohort, case_run):
    """The lesion's pixels in the drawn picture: the mirror of the array's, at the same distance in mm."""
    view = open_case(tiny_cohort, CASE, case_run.folder)
    figure = figure_of(view, modalities=("t1",))
    truth = view.truth
    z = int(np.argmax((truth.array > 0).sum(axis=(0, 1))))
    where = np.argwhere(truth.array[:, :, z] > 0)
    expected = (truth.array.shape[0] - where[:, 0].mean() - 0.5) * 4
    paths = [p for c in figure.axes[1].collections for p in c.get_paths()]
    first = np.concatenate([p.vertices for p in paths])
    assert (first[:, 0].min() + first[:, 0].max()) / 2 == pytest.approx(expected, abs=2.5)


def test_contours_of_each_label_set():
    assert list(contour_colours("glioma")) == ["WT", "TC", "ET"]
    assert list(contour_colours("glioma_post")) == ["WT", "TC", "ET", "RC"]
    assert list(contour_colours("lesion")) == ["lesion"]
    assert contour_colours("WT")["NCR"].name.startswith("WT")


def test_nothing_to_draw():
    with pytest.raises(WorkbenchError, match="no image"):
        case_figure({})
