"""Diagrams: chains of arrows, and what an option leaves out."""

from __future__ import annotations

import pytest

from workbench.models.diagram import Box, draw

BOXES = [Box("in", ("input",), 0, 0), Box("gate", ("gate",), 1, 1, drawn=False), Box("out", ("output <1>", "softmax"), 1, 0)]


def test_a_chain_is_an_arrow_from_each_box_to_the_next() -> None:
    svg = draw([*BOXES, Box("loss", ("loss",), 2, 0)], ["in > out > loss", "in > loss: a label"], "T & U")
    assert svg.count("<path d=") == 1 + 3  # the arrow head and three arrows
    assert ">a label</text>" in svg
    assert "output &lt;1&gt;" in svg
    assert "<title>T &amp; U</title>" in svg


def test_a_box_that_is_left_out_takes_its_arrows_along() -> None:
    svg = draw(BOXES, ["in > gate > out", "in > out"], "T")
    assert "gate" not in svg
    assert svg.count("<rect") == 2
    assert svg.count("<path d=") == 1 + 1


def test_an_arrow_to_nowhere_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="ouput"):
        draw(BOXES, ["in > ouput"], "T")


def test_arrow_heads_of_two_diagrams_have_names_of_their_own() -> None:
    one, two = (draw(BOXES, ["in > out"], title) for title in ("one", "two"))
    tip = one.split('<marker id="')[1].split('"')[0]
    assert f"url(#{tip})" in one
    assert tip not in two
