"""One subject from draw to images: anatomy, growth, signs, scanner. It depends on what it is called with alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import COARSE, TEMPLATE_ORIGIN, Box, field_of_view, template
from workbench.cohort.phantom.classes import Subject, draw_subject
from workbench.cohort.phantom.contrast import Scene, render
from workbench.cohort.phantom.deformation import Deformation, choose_seed, deform, push_aside, smooth_noise
from workbench.cohort.phantom.growth import diffusivity, grow, growth_spacing
from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.scanners import UNITS, annotate, available, scan, scan_map, shift
from workbench.cohort.phantom.signals import apply_carrier, carrier_maps
from workbench.cohort.phantom.subregions import Tumour, build_tumour
from workbench.cohort.phantom.surgery import draw_plan, operate
from workbench.labels import ED, ET, NCR, RC
from workbench.seeding import stream


@dataclass(frozen=True)
class Head:
    """A subject's anatomy with its tumour, before any output grid."""

    subject: Subject
    deformation: Deformation
    tumour: Tumour
    facts: dict[str, Any]
    """What was drawn besides the class-dependent things, and what came out; plain numbers for `truth.parquet`."""


@dataclass(frozen=True)
class Grown:
    """A subject's anatomy and the tumour in it before it is divided, on the whole growth grid."""

    subject: Subject
    deformation: Deformation
    box: Box
    concentration: np.ndarray
    diffusion: np.ndarray
    rate: np.ndarray
    facts: dict[str, Any]


def grow_subject(seed: int, index: int, options: PhantomOptions, signal: str, subject: Subject | None = None) -> Grown:
    """Draw a subject (or take the one given) and grow its tumour; independent of spacing and scanner."""
    subject = subject or draw_subject(seed, index, options, signal)
    rng = stream(seed, "phantom", "anatomy", index)
    left, flip = (bool(u < 0.5) for u in rng.random(2))
    white_grey, mass = float(rng.uniform(*options.white_grey)), float(rng.uniform(*options.mass_effect))
    rho = options.rho[0] * math.exp(options.rho[1] * float(rng.standard_normal()))
    person = deform(rng, options.deformation, subject.ventricle, flip)
    centre = choose_seed(rng, person, subject.lobe, subject.cortical, left)
    radius = (subject.volume * 1000 * 3 / (4 * math.pi)) ** (1 / 3)
    person = push_aside(person, centre, radius, mass * radius)
    h = growth_spacing(subject.width)
    reach = 1.7 * radius + 14
    box = _reach(centre, reach, h)
    grey, white = person.tissue_within(box, centre, reach)
    diffusion = diffusivity(grey, white, subject.width, white_grey)
    start = _nearest(diffusion > 0, [round((c - o) / h) for c, o in zip(centre, box.origin, strict=True)])
    rate = _rate(stream(seed, "phantom", "rate", index), box, options.unevenness)
    growth = grow(diffusion, h, start, subject.volume * 1000, rate=rate, detect=options.detect_t2)
    facts = {
        "side": "left" if left else "right",
        "flipped": flip,
        "white_grey": white_grey,
        "rho_per_year": rho,
        "d_white_mm2_per_year": subject.width**2 * rho,
        "growth_years": growth.time / rho,
        "grown_ml": growth.volume / 1000,
        "mass_effect_mm": mass * radius,
        "least_jacobian": float(person.jacobian().min()),
        **{f"seed_{axis}": float(value) for axis, value in zip("xyz", centre, strict=True)},
    }
    return Grown(subject, person, box, growth.concentration, diffusion, rate, facts)


def make_head(seed: int, index: int, options: PhantomOptions, signal: str, subject: Subject | None = None) -> Head:
    """A subject before surgery."""
    grown = grow_subject(seed, index, options, signal, subject)
    subject = grown.subject
    box, cut = _crop(grown.box, grown.concentration > 0.005)
    concentration, tissue = grown.concentration[cut], grown.diffusion[cut] > 0
    tumour = build_tumour(stream(seed, "phantom", "subregions", index), box, concentration, tissue, subject, options)
    carrier = carrier_maps(stream(seed, "phantom", "carrier", index), box, concentration, tumour.core, subject, signal, options)
    tumour.extra.update(carrier)
    return Head(subject, grown.deformation, tumour, grown.facts)


def make_heads(seed: int, index: int, options: PhantomOptions, signal: str, subject: Subject | None = None) -> list[Head]:
    """A subject at each of its sessions: the only one before surgery, or those after it."""
    if options.stage == "preoperative":
        return [make_head(seed, index, options, signal, subject)]
    grown = grow_subject(seed, index, options, signal, subject)
    subject = grown.subject
    brain = grown.deformation.tissue(grown.box, parts=3)[2]
    right = grown.deformation.template_index(grown.box)[0] + TEMPLATE_ORIGIN[0] > 0  # of the template: mirrored or not, one side
    plan = draw_plan(seed, index, options)
    sessions = operate(plan, seed, subject, grown.box, grown.concentration, grown.diffusion, grown.rate, brain, right, options)
    first = sessions[0].tumour
    assert first.cavity is not None
    left = grown.concentration * (first.cavity < 0.5)
    extra = carrier_maps(stream(seed, "phantom", "carrier", index), grown.box, left, first.core, subject, signal, options)
    extra = {name: field * (1 - first.cavity) for name, field in extra.items()}
    reached = np.any([_reached(session.tumour) for session in sessions], axis=0)
    box, cut = _crop(grown.box, reached)
    heads = []
    for session in sessions:
        fields = {name: value[cut] for name, value in vars(session.tumour).items() if isinstance(value, np.ndarray)}
        tumour = replace(session.tumour, box=box, extra={name: field[cut] for name, field in extra.items()}, **fields)
        heads.append(Head(session.subject, grown.deformation, tumour, grown.facts | session.facts))
    return heads


def _reached(tumour: Tumour) -> np.ndarray:
    fields = [field for field in (tumour.cavity, tumour.gliosis, tumour.rim) if field is not None]
    return np.any([tumour.concentration > 0.005, *(field > 0.005 for field in fields)], axis=0)


def _rate(rng: np.random.Generator, box: Box, unevenness: float) -> np.ndarray:
    """Relative rho on the growth grid: between 1 - unevenness and 1, varying over about 2 cm."""
    coarse = template().coarse
    field = smooth_noise(rng, coarse.shape, 7.0 / COARSE)
    share = np.clip(0.5 + field / 2.5, 0, 1) * unevenness
    return 1 - box.resample(share.astype(np.float32), coarse, outside="nearest")


def _crop(box: Box, reached: np.ndarray) -> tuple[Box, tuple[slice, slice, slice]]:
    """The part of the growth grid that was reached, with 4 voxels to spare, and where it lies."""
    window = []
    for axis in range(3):
        found = np.flatnonzero(reached.any(axis=tuple(a for a in range(3) if a != axis)))
        window.append(slice(max(int(found[0]) - 4, 0), min(int(found[-1]) + 5, box.shape[axis])))
    cut = window[0], window[1], window[2]
    return box.part(cut), cut


def _reach(centre: np.ndarray, half: float, h: float) -> Box:
    whole = field_of_view(1.0)
    low = [max(c - half, o) for c, o in zip(centre, whole.origin, strict=True)]
    high = [min(c + half, o + n - 1) for c, o, n in zip(centre, whole.origin, whole.shape, strict=True)]
    shape = [int((b - a) / h) + 1 for a, b in zip(low, high, strict=True)]
    return Box((shape[0], shape[1], shape[2]), h, (float(low[0]), float(low[1]), float(low[2])))


def _nearest(passable: np.ndarray, index: list[int]) -> tuple[int, int, int]:
    places = np.argwhere(passable)
    place = places[((places - np.asarray(index)) ** 2).sum(1).argmin()]
    return int(place[0]), int(place[1]), int(place[2])


@dataclass(frozen=True)
class Case:
    """Everything that is written of one subject; arrays (X, Y, Z) in RAS+ order on `box`."""

    box: Box
    images: dict[str, np.ndarray]
    """Sequence -> int16, 0 outside the brain; only those acquired."""
    drawn: np.ndarray
    """uint8 labels with the annotator's error."""
    labels: np.ndarray
    """uint8 labels without it."""
    concentration: np.ndarray | None
    """u times 255, uint8; None where nothing was grown."""
    facts: dict[str, Any]


def make_cases(seed: int, index: int, spacing: float, options: PhantomOptions, signal: str) -> list[Case]:
    """One subject's scans at this spacing, one for each session."""
    heads = make_heads(seed, index, options, signal)
    return [_scanned(head, seed, index, session, spacing, options) for session, head in enumerate(heads)]


def _scanned(head: Head, seed: int, index: int, session: int, spacing: float, options: PhantomOptions) -> Case:
    subject, tumour = head.subject, head.tumour
    site = options.sites[subject.site]
    box = field_of_view(spacing)
    visit = () if options.stage == "preoperative" else ("session", session)
    rng = stream(seed, "phantom", "scan", index, *visit)
    present = available(rng, site, options.modalities)
    scene = make_scene(head, box, stream(seed, "phantom", "texture", index))
    brain = scene.brain > 0.5
    images = {}
    for modality in options.modalities:
        noise = stream(seed, "phantom", "scan", index, *visit, modality)
        direction = noise.standard_normal(3)
        offset = direction / np.linalg.norm(direction) * noise.random() * options.misregistration
        if modality not in present:
            continue
        signal_image = apply_carrier(render(scene, modality, subject), scene.extra, modality)
        if modality != "t1c" and options.misregistration > 0:
            signal_image = shift(signal_image, offset, spacing)
        acquire = scan_map if modality in UNITS else scan
        images[modality] = acquire(noise, signal_image, brain, box, site, modality)
    error = annotate(stream(seed, "phantom", "annotator", index, *visit), box, site.label_noise)
    labels, drawn = draw_labels(tumour, box, brain, options.detect_t2), draw_labels(tumour, box, brain, options.detect_t2, error)
    cell = spacing**3 / 1000
    regions = {"whole": (NCR, ED, ET), "ncr": (NCR,), "ed": (ED,), "et": (ET,)}
    if tumour.cavity is not None:
        regions["rc"] = (RC,)
    facts = head.facts | {
        **{f"{name}_ml": float(np.count_nonzero(np.isin(labels, values)) * cell) for name, values in regions.items()},
        "sequences": "+".join(present),
    }
    concentration = np.where(brain, np.clip(np.rint(255 * box.resample(tumour.concentration, tumour.box)), 0, 255), 0)
    return Case(box, images, drawn, labels, concentration.astype(np.uint8), facts)


def make_scene(head: Head, box: Box, rng: np.random.Generator) -> Scene:
    """The subject on an output grid, with partial volumes."""
    grey, white, brain, vessels = head.deformation.tissue(box, box.spacing)
    tumour = head.tumour
    sigma = 0.42 * math.sqrt(max(box.spacing**2 - tumour.box.spacing**2, 0.0)) / tumour.box.spacing

    window = _window(tumour.box, box)
    part = box.part(window)

    def fine(field: np.ndarray) -> np.ndarray:
        if not field.any():
            return np.zeros(box.shape, np.float32)
        if sigma > 0.2:
            field = ndimage.gaussian_filter(field, sigma, truncate=3)
        result = np.zeros(box.shape, np.float32)
        result[window] = part.resample(field, tumour.box)
        return result

    return Scene(
        grey=grey,
        white=white,
        fluid=np.clip(brain - grey - white, 0, 1),
        brain=brain,
        vessels=vessels,
        texture=box.resample(smooth_noise(rng, template().coarse.shape, 6.0 / COARSE), template().coarse, outside="nearest"),
        concentration=fine(tumour.concentration),
        core=fine(tumour.core),
        enhancing=fine(tumour.enhancing),
        necrosis=fine(tumour.necrosis),
        interior=fine(tumour.interior),
        specks=fine(tumour.specks),
        mottle=fine(tumour.mottle),
        grain=fine(tumour.grain),
        extra={name: fine(field) for name, field in tumour.extra.items()},
        cavity=None if tumour.cavity is None else fine(tumour.cavity),
        gliosis=None if tumour.gliosis is None else fine(tumour.gliosis),
        rim=None if tumour.rim is None else fine(tumour.rim),
    )


def draw_labels(tumour: Tumour, box: Box, brain: np.ndarray, detect: float, error: np.ndarray | None = None) -> np.ndarray:
    """Canonical labels (X, Y, Z) uint8 on `box`; `error` (3, X, Y, Z) in mm displaces the contours."""
    origin = np.asarray(tumour.box.origin)
    h = tumour.box.spacing
    labels = np.zeros(box.shape, np.uint8)
    window = _window(tumour.box, box)
    points = [np.broadcast_to(p, box.shape)[window] for p in box.points()]
    index = np.stack([(p - o) / h for p, o in zip(points, origin, strict=True)])
    if error is not None:
        index = index + error[(slice(None), *window)] / h

    def at(field: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(field, index, order=1, mode="constant", output=np.float32)

    whole = (at(tumour.concentration) > detect) & (at(tumour.tissue) > 0.5) & brain[window]
    core, enhancing, necrosis = at(tumour.core), at(tumour.enhancing), at(tumour.necrosis)
    part = np.where(whole, ED, 0).astype(np.uint8)
    inner = whole & (core > 0.5)
    part[inner] = NCR
    bright = inner & (enhancing >= np.maximum(necrosis, 0.5 * core))
    part[bright | (whole & (enhancing > 0.5))] = ET
    if tumour.cavity is not None and tumour.gliosis is not None:
        part[(part == 0) & (at(tumour.gliosis) > 0.5) & (at(tumour.tissue) > 0.5) & brain[window]] = ED
        part[(at(tumour.cavity) > 0.5) & brain[window]] = RC
    labels[window] = part
    return labels


def _window(inner: Box, box: Box) -> tuple[slice, slice, slice]:
    """The part of `box` in which voxels can see something of `inner`."""
    found = []
    for axis in range(3):
        low, high = (inner.origin[axis] + inner.spacing * i for i in (-1, inner.shape[axis]))
        start = math.floor((low - box.origin[axis]) / box.spacing)
        stop = math.ceil((high - box.origin[axis]) / box.spacing) + 1
        found.append(slice(max(start, 0), max(min(stop, box.shape[axis]), 1)))
    return found[0], found[1], found[2]
