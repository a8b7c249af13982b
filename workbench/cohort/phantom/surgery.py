"""After surgery: a cavity where the core was, what was left of the tumour, gliosis around it, and one to three sessions.

Nothing here looks at the class or at the signs: what is removed, what grows again and whether the signs still show follow from
the concentration, the place and draws of their own. So the posterior stays exact: a session either shows the tumour's signs, or
it shows none of them and they drop out of the likelihood (see `posterior`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import Box
from workbench.cohort.phantom.classes import Subject
from workbench.cohort.phantom.deformation import smooth_noise
from workbench.cohort.phantom.growth import grow
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.subregions import Tumour, build_tumour, soft
from workbench.seeding import stream

_KEPT = 0.6  # least share of the first cavity that is still there at the last session
_FARTHEST = 45.0  # mm: a deeper tumour is reached through a fissure, which leaves no corridor


@dataclass(frozen=True)
class Plan:
    """What is drawn of one subject's surgery and follow-up; see `SurgeryOptions`."""

    sessions: int
    complete: bool
    extent: float
    margin: float
    corridor: float
    gliosis: float
    rim: bool
    rim_width: float
    progressing: bool
    shrinkage: tuple[float, ...]
    """mm, one for each session after the first."""
    regrowth: tuple[float, ...]
    direction: np.ndarray
    """(3,) unit vector: the side on which a partial resection leaves core behind."""


def draw_plan(seed: int, index: int, options: PhantomOptions) -> Plan:
    """The surgery of subject number `index`; it depends on the seed and the number alone."""
    rng, own = stream(seed, "phantom", "surgery", index), options.surgery
    chances = rng.random(4)
    sessions = 1 + min(int(np.searchsorted(np.cumsum(own.timepoints), chances[0], side="right")), len(own.timepoints) - 1)
    direction = rng.standard_normal(3)
    extent, margin, corridor, gliosis, rim_width = (
        float(rng.uniform(*limits)) for limits in (own.extent, own.margin, own.corridor, own.gliosis, own.rim_width)
    )
    steps = len(own.timepoints) - 1
    return Plan(
        sessions=sessions,
        complete=bool(chances[1] < own.complete),
        extent=extent,
        margin=margin,
        corridor=corridor,
        gliosis=gliosis,
        rim=bool(chances[2] < own.rim),
        rim_width=rim_width,
        progressing=bool(chances[3] < own.progressing),
        shrinkage=tuple(float(v) for v in rng.uniform(*own.shrinkage, steps)),
        regrowth=tuple(float(v) for v in rng.uniform(*own.regrowth, steps)),
        direction=direction / np.linalg.norm(direction),
    )


@dataclass(frozen=True)
class Operated:
    """One session after surgery, on the growth grid."""

    subject: Subject
    """With the signs that still show."""
    tumour: Tumour
    facts: dict[str, Any]


def operate(
    plan: Plan,
    seed: int,
    subject: Subject,
    box: Box,
    concentration: np.ndarray,
    diffusion: np.ndarray,
    rate: np.ndarray,
    brain: np.ndarray,
    right: np.ndarray,
    options: PhantomOptions,
) -> list[Operated]:
    """Remove the core of a grown tumour and follow what is left of it.

    Args:
        concentration: u (X, Y, Z) before surgery on `box`, as are the next three.
        diffusion: D in mm^2 per 1/rho, 0 where there is no tissue.
        rate: relative rho.
        brain: share of brain (tissue and fluid) in 0..1.
        right: bool, the hemisphere on the right; the cavity stays in one (own choice: surgeons do not cross the falx).

    Returns:
        One element for each session, in order of time.
    """
    h, index, tissue = box.spacing, subject.index, diffusion > 0
    whole = concentration > options.detect_t2
    likely = float(np.quantile(concentration[whole], 1 - options.core_share))
    core = concentration > min(options.detect_solid, likely)
    dense = min(options.detect_t1c, likely)  # where a ring would lie if there is one; see `subregions`
    rng = stream(seed, "phantom", "cavity", index)
    side = right if np.count_nonzero(core & right) * 2 >= np.count_nonzero(core) else ~right
    cavity = _cavity(rng, plan, box, concentration, core & side, tissue, (brain > 0.5) & side, options)
    outside = ndimage.distance_transform_edt(~cavity).astype(np.float32) * h
    depth = ndimage.distance_transform_edt(cavity).astype(np.float32) * h
    depth = ndimage.gaussian_filter(depth - outside, 1.0)  # signed, so that a wall can move by less than a voxel
    seam = (outside <= plan.gliosis * (1 + 0.4 * smooth_noise(rng, box.shape, 4.0 / h))) & tissue
    passable, left = np.where(cavity, 0, diffusion).astype(np.float32), np.where(cavity, 0, concentration).astype(np.float32)
    gone = 1 - soft(cavity, h)
    result: list[Operated] = []
    for session in range(plan.sessions):
        if session and plan.progressing:
            volume = float(np.count_nonzero(left > options.detect_t2)) * h**3 * plan.regrowth[session - 1]
            left = grow(passable, h, None, volume, start=left, rate=rate, detect=options.detect_t2).concentration
        inward = min(sum(plan.shrinkage[:session]), float(np.quantile(depth[cavity], 1 - _KEPT)))
        open_now = cavity & (depth > inward) if session else cavity
        remaining = np.count_nonzero(left > dense) * h**3 / 1000
        shows = bool(remaining >= options.surgery.visible)
        shown = (
            subject if shows else replace(subject, mismatch=False, enhancement="none", heterogeneous=False, adc=None, cbv=None)
        )
        filled = np.where(cavity, concentration, left)
        tumour = build_tumour(stream(seed, "phantom", "subregions", index), box, filled, tissue, shown, options)
        near = ndimage.distance_transform_edt(~open_now) * h
        rim = (near > 0) & (near <= plan.rim_width) & (brain > 0.5) if plan.rim else np.zeros_like(cavity)
        hollow = {
            name: getattr(tumour, name) * (gone if shows or name == "concentration" else 0 * gone)
            for name in ("concentration", "core", "enhancing", "necrosis", "interior", "specks")
        }
        tumour = replace(
            tumour,
            **hollow,
            cavity=soft(open_now, h),
            gliosis=soft(seam & ~open_now, h),
            rim=soft(rim, h) * np.float32(options.surgery.rim_fading**session),
        )
        facts = {
            "timepoint": f"{100 + session}",
            "resection": "complete" if plan.complete else "partial",
            "extent": float(np.count_nonzero(core & cavity) / np.count_nonzero(core)),
            "progressing": plan.progressing,
            "signs_show": shows,
            "cavity_rim": plan.rim,
            "dense_left_ml": float(remaining),
            "cavity_grown_ml": float(np.count_nonzero(open_now) * h**3 / 1000),
        }
        result.append(Operated(shown, tumour, facts))
    return result


def _cavity(
    rng: np.random.Generator,
    plan: Plan,
    box: Box,
    concentration: np.ndarray,
    core: np.ndarray,
    tissue: np.ndarray,
    brain: np.ndarray,
    options: PhantomOptions,
) -> np.ndarray:
    """What is removed, bool: the core or a part of it, a margin, and the way to the surface; in one piece, with smooth walls."""
    h = box.spacing
    whole = concentration > options.detect_t2
    taken = core
    if not plan.complete:
        along = sum(points * d for points, d in zip(box.points(), plan.direction, strict=True))
        along = along + 3.0 * smooth_noise(rng, box.shape, 6.0 / h)
        taken = core & (along <= np.quantile(along[core], plan.extent))
    corridor = _corridor(plan, box, taken, brain)
    never = whole & ~corridor & (concentration <= np.quantile(concentration[whole], options.surgery.least_residual))
    removed = (ndimage.distance_transform_edt(~taken) * h <= plan.margin) | corridor
    removed = ndimage.gaussian_filter(removed.astype(np.float32), 1.5 / h) > 0.5
    room = ndimage.binary_closing(tissue, iterations=2) & brain  # sulci close over it, ventricles stay what they are
    removed &= room & ~never
    names, count = ndimage.label(removed)
    if not count:  # a tumour too small for smooth walls
        return taken
    sizes = np.bincount(names[removed & taken], minlength=count + 1) if (removed & taken).any() else np.bincount(names.ravel())
    sizes[0] = 0
    return names == sizes.argmax()


def _corridor(plan: Plan, box: Box, taken: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """A rod from the middle of what is taken to the nearest point of the brain's surface beside or above it."""
    h = box.spacing
    middle = np.argwhere(taken).mean(0)
    surface = np.argwhere(brain & ~ndimage.binary_erosion(brain, border_value=1))
    surface = surface[surface[:, 2] >= middle[2] - 15 / h]
    reach = np.sqrt(((surface - middle) ** 2).sum(1)) * h
    if not len(reach) or reach.min() > _FARTHEST:
        return np.zeros(box.shape, bool)
    end = surface[reach.argmin()]
    rod = (end - middle) * h
    offset = [(points - o) - c * h for points, o, c in zip(box.points(), box.origin, middle, strict=True)]
    share = np.clip(sum(o * r for o, r in zip(offset, rod, strict=True)) / max(float((rod**2).sum()), 1e-6), 0, 1)
    distance = sum((o - share * r) ** 2 for o, r in zip(offset, rod, strict=True))
    return (distance <= plan.corridor**2) & brain
