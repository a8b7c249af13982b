"""Heads with one grown tumour each, by the sign it shows: grown once, for all tests that look at them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from workbench.cohort.phantom.anatomy import field_of_view
from workbench.cohort.phantom.classes import draw_subject
from workbench.cohort.phantom.contrast import Scene
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.subject import Head, draw_labels, make_head, make_scene
from workbench.seeding import stream

OPTIONS = PhantomOptions()


@cache
def head(kind: str) -> Head:
    subject = draw_subject(0, 7, OPTIONS, "normal")
    changes = {
        "mismatch": kind == "mismatch",
        "enhancement": "ring" if kind == "ring" else "none",
        "heterogeneous": kind == "heterogeneous",
    }
    return make_head(0, 7, OPTIONS, "normal", replace(subject, volume=20.0, width=2.3, **changes))


@cache
def scene(kind: str, spacing: float = 3.0) -> Scene:
    return make_scene(head(kind), field_of_view(spacing), stream(0, "texture"))


def drawn(kind: str, spacing: float) -> np.ndarray:
    box = field_of_view(spacing)
    return draw_labels(head(kind).tumour, box, np.ones(box.shape, bool), OPTIONS.detect_t2)
