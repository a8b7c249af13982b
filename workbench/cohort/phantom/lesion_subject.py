"""One subject of a lesion cohort from draw to images; anatomy, deformation, scanner and annotator are those of the gliomas."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from workbench.cohort.phantom.anatomy import COARSE, Box, field_of_view, template
from workbench.cohort.phantom.classes import draw_subject, draw_truncated, even_draws, pick
from workbench.cohort.phantom.contrast import healthy, render
from workbench.cohort.phantom.deformation import Deformation, deform, push_aside, smooth_noise
from workbench.cohort.phantom.lesion_contrast import infarct_visibility, paint
from workbench.cohort.phantom.lesion_kinds import draw_lesions
from workbench.cohort.phantom.lesion_options import KINDS, MIXED, SEQUENCES, KindOptions, LesionOptions, LesionSite
from workbench.cohort.phantom.lesion_shapes import Lesions
from workbench.cohort.phantom.scanners import UNITS, annotate, scan, scan_map
from workbench.cohort.phantom.subject import Case, draw_labels, make_head, make_scene
from workbench.errors import ParameterError
from workbench.labels import ED, ET, NCR
from workbench.seeding import stream


@dataclass(frozen=True)
class Person:
    """Who a subject is; depends on the seed and the subject's number alone."""

    index: int
    site: str
    kind: str
    age: float
    sex: str
    ventricle: float
    """Outward shift of the ventricular wall in mm."""


def draw_person(seed: int, index: int, lesion: str, options: LesionOptions) -> Person:
    """Subject number `index` of a lesion cohort.

    Raises:
        ParameterError: a mixed cohort's site sees no kind at all.
    """
    even = even_draws(seed, index)
    sites = list(options.sites)
    shares = np.array([options.sites[site].share for site in sites])
    site = sites[pick(even[0], shares / shares.sum())]
    kind = lesion
    if lesion == MIXED:
        seen = np.array([options.kinds[name].share * options.sites[site].mix.get(name, 1.0) for name in KINDS])
        if not seen.sum() > 0:
            raise ParameterError(f"phantom option sites.{site}.mix: all kinds have factor 0, so nobody can be drawn there")
        kind = KINDS[pick(even[1], seen / seen.sum())]
    if kind == "glioma":
        subject = draw_subject(seed, index, options.glioma, "normal")
        return Person(index, site, kind, subject.age, subject.sex, subject.ventricle)
    who = options.kinds[kind]
    rng = stream(seed, "phantom", "person", index)
    age = draw_truncated(rng, *who.age, who.ages)
    sex = "M" if rng.random() < who.male else "F"
    per_year, spread = options.ventricles
    return Person(index, site, kind, age, sex, per_year * (age - 50) + spread * float(rng.standard_normal()))


def sequences_of(rng: np.random.Generator, kind: KindOptions, site: LesionSite) -> tuple[str, ...]:
    """The sequences of one scan: those of the kind's protocol that the site made; the protocol's first is always there."""
    lead = next(iter(kind.sequences))
    draws = dict(zip(SEQUENCES, rng.random((len(SEQUENCES), 2)), strict=True))
    return tuple(
        name
        for name in SEQUENCES
        if name in kind.sequences
        and (name == lead or (draws[name][0] < kind.sequences[name] and draws[name][1] >= site.missing.get(name, 0.0)))
    )


def make_lesion_case(seed: int, index: int, spacing: float, lesion: str, options: LesionOptions) -> Case:
    """One subject's scan at this spacing.

    Args:
        lesion: a kind, or mixed.
    """
    person = draw_person(seed, index, lesion, options)
    box = field_of_view(spacing)
    site = options.sites[person.site]
    present = sequences_of(stream(seed, "phantom", "scan", index), options.kinds[person.kind], site)
    make = _glioma if person.kind == "glioma" else _lesions
    scene = make(
        seed, person, box, present, options, annotate(stream(seed, "phantom", "annotator", index), box, site.label_noise)
    )
    brain = scene.brain > 0.5
    images = {}
    for modality, signal in scene.signals.items():
        noise = stream(seed, "phantom", "scan", index, modality)
        acquire = scan_map if modality in UNITS else scan
        images[modality] = acquire(noise, signal, brain, box, site, modality)
    whole = scene.labels > 0
    facts = {
        "kind": person.kind,
        "volume_ml": float(np.count_nonzero(whole) * spacing**3 / 1000),
        "components": int(ndimage.label(whole, np.ones((3, 3, 3)))[1]),
        "sequences": "+".join(present),
        **scene.facts,
    }
    return Case(box, images, scene.drawn, scene.labels, scene.concentration, facts)


@dataclass(frozen=True)
class _Scene:
    """What a scanner and an annotator see of a subject; arrays (X, Y, Z)."""

    brain: np.ndarray
    signals: dict[str, np.ndarray]
    labels: np.ndarray
    drawn: np.ndarray
    facts: dict[str, Any]
    concentration: np.ndarray | None = None


def _glioma(seed: int, person: Person, box: Box, present: tuple[str, ...], options: LesionOptions, error: np.ndarray) -> _Scene:
    head = make_head(seed, person.index, options.glioma, "normal")
    scene = make_scene(head, box, stream(seed, "phantom", "texture", person.index))
    brain = scene.brain > 0.5
    signals = {modality: render(scene, modality, head.subject) for modality in present}
    detect = options.glioma.detect_t2
    labels = draw_labels(head.tumour, box, brain, detect)
    drawn = (draw_labels(head.tumour, box, brain, detect, error) > 0).astype(np.uint8)
    u = np.where(brain, np.clip(np.rint(255 * box.resample(head.tumour.concentration, head.tumour.box)), 0, 255), 0)
    subject = asdict(head.subject)
    facts = {"class": subject["klass"], **{name: subject[name] for name in ("grade", "mismatch", "enhancement", "lobe")}}
    kept = ("side", "flipped", "least_jacobian")
    facts |= {"lesions": 1, **{name: head.facts[name] for name in kept}}
    return _Scene(scene.brain, signals, labels, drawn, facts, u.astype(np.uint8))


def _lesions(seed: int, person: Person, box: Box, present: tuple[str, ...], options: LesionOptions, error: np.ndarray) -> _Scene:
    rng = stream(seed, "phantom", "anatomy", person.index)
    flip = bool(rng.random() < 0.5)
    anatomy = deform(rng, options.deformation, person.ventricle, flip)
    lesions = draw_lesions(stream(seed, "phantom", "lesions", person.index), person.kind, person.age, options)
    facts = dict(lesions.facts)
    for *centre, radius in facts.pop("masses", []):
        anatomy = push_aside(anatomy, subject_point(anatomy, np.array(centre)), radius, options.met_mass_effect * radius)
    if (left := facts.pop("template_left", None)) is not None:
        facts["side"] = "left" if left != flip else "right"
    grey, white, head, vessels = anatomy.tissue(box, box.spacing)
    coarse = template().coarse
    textures = stream(seed, "phantom", "texture", person.index)
    texture = box.resample(smooth_noise(textures, coarse.shape, 6.0 / COARSE), coarse, outside="nearest")
    grain = smooth_noise(textures, box.shape, 2.0 / box.spacing)
    parts = lesions.seen(anatomy, box, blur=True)
    signals = {}
    for modality in present:
        visible = infarct_visibility(modality, facts["hours"], options) if person.kind == "stroke" else 1.0
        signals[modality] = paint(healthy(grey, white, vessels, texture, modality), parts, modality, grain, visible)
    brain = head > 0.5
    labels = _labels(lesions, anatomy, box, brain)
    drawn = (_labels(lesions, anatomy, box, brain, error) > 0).astype(np.uint8)
    facts |= {"flipped": flip, "least_jacobian": float(anatomy.jacobian().min())}
    return _Scene(head, signals, labels, drawn, facts)


def subject_point(anatomy: Deformation, point: np.ndarray) -> np.ndarray:
    """Where a point of the template (mm) lies in the subject: the inverse of the backward map, by fixed-point iteration."""
    wanted = point * np.array([-1.0 if anatomy.flip else 1.0, 1.0, 1.0])
    coarse = template().coarse
    found = wanted.copy()
    for _ in range(15):
        index = ((found - np.asarray(coarse.origin)) / coarse.spacing)[:, None]
        shift = [ndimage.map_coordinates(part, index, order=1, mode="nearest")[0] for part in anatomy.displacement]
        found = wanted - np.array(shift)
    return found


_VALUES = {"oedema": ED, "enhancing": ET, "necrosis": NCR}


def _labels(lesions: Lesions, anatomy: Deformation, box: Box, brain: np.ndarray, error: np.ndarray | None = None) -> np.ndarray:
    """uint8 (X, Y, Z): 1 = lesion; of metastases the tumour labels, whose union is the lesion. Never empty."""
    parts = lesions.seen(anatomy, box, error, blur=False)
    labels = np.zeros(box.shape, np.uint8)
    for name, part in parts.items():
        inside = (part > 0.5) & brain
        labels[inside] = _VALUES.get(name, 1)
    if not labels.any():  # smaller than a voxel and between the voxels' centres: the nearest one stands for it
        best = np.where(brain, sum(parts.values()), 0)
        labels[np.unravel_index(int(best.argmax()), best.shape)] = 1
    return labels
