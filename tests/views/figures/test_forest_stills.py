from __future__ import annotations

from matplotlib.colors import to_hex

from workbench.evaluation.ablation import Deltas
from workbench.views.figures.forest import forest_rows
from workbench.views.figures.forest_stills import forest_still
from workbench.views.theme import colour


def test_the_still_says_what_the_figure_says(deltas: Deltas) -> None:
    figure = forest_still(forest_rows(deltas, "unet", "dice", "WT"), metric="dice", of="WT", title="phantom cohort demo")
    (axes,) = figure.axes
    said = [text.get_text() for text in axes.texts]
    for text in ("−0.100 (−0.150 to −0.050)", "0.020", "60", "2/2", "refused", "← worse", "better →", "p (Holm)"):
        assert text in said
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no_attention", "wider", "no_dropout"]
    assert [text.get_text() for text in figure.texts] == ["Dice, WT: difference to baseline", "phantom cohort demo"]
    zero, interval, point = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(interval.get_xdata()) == [-0.15, -0.05]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (-0.1, 0)
    assert axes.yaxis_inverted(), "the first line stands on top"


def test_only_a_clear_difference_is_filled(deltas: Deltas) -> None:
    faces = {}
    for metric in ("dice", "hd95"):
        figure = forest_still(forest_rows(deltas, "unet", metric, "WT"), metric=metric, of="WT", title="")
        faces[metric] = to_hex(figure.axes[0].lines[-1].get_markerfacecolor())
    assert faces == {"dice": to_hex(colour(0)), "hd95": "#ffffff"}
