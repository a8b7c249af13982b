"""The four kinds of lesion, each drawn into the average head: what, where, how many, how large, which signs."""

from __future__ import annotations

import math

import numpy as np

from workbench.cohort.phantom.classes import draw_truncated, pick
from workbench.cohort.phantom.lesion_atlas import NODE, TERRITORIES, Atlas, atlas, territory_of
from workbench.cohort.phantom.lesion_options import LesionOptions
from workbench.cohort.phantom.lesion_shapes import Drawing, Lesions, Window, threshold_for

_NEVER = np.float32(np.inf)


def draw_lesions(rng: np.random.Generator, kind: str, age: float, options: LesionOptions) -> Lesions:
    """The lesions of one subject in template space, and what was drawn (`facts`).

    Args:
        kind: ms, wmh, stroke or metastasis.
        age: years; WMH grow with it.
    """
    drawing = Drawing(atlas(), rng)
    if kind == "wmh":
        _wmh(drawing, age, options)
    else:
        {"ms": _ms, "stroke": _stroke, "metastasis": _metastases}[kind](drawing, options)
    return Lesions.of(drawing)


def _log_normal(rng: np.random.Generator, median: float, spread: float, low: float, high: float) -> float:
    return math.exp(draw_truncated(rng, math.log(median), spread, (math.log(low), math.log(high))))


def _any_of(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    return points[rng.integers(len(points))] + rng.uniform(-NODE / 2, NODE / 2, 3)


def _white(drawing: Drawing, window: Window, spill: float = 0.3) -> np.ndarray:
    """Where a lesion of white matter can be: it spills a little into what is partly grey."""
    return np.clip(drawing.atlas.white_fine[window] * (1 + 2 * spill) - spill, 0, 1)


def _ms(drawing: Drawing, options: LesionOptions) -> None:
    rng, head = drawing.rng, drawing.atlas
    count = round(_log_normal(rng, *options.ms_lesions, 3, 120))
    places = list(options.ms_places)
    shares = np.array([options.ms_places[place] for place in places])
    load = (count / options.ms_lesions[0]) ** 0.15  # who has many lesions has larger ones: own choice
    found = dict.fromkeys(places, 0)
    black = enhancing = 0
    drawing.part("plaque")
    for _ in range(count):
        place = places[pick(rng.random(), shares)]
        found[place] += 1
        width = _log_normal(rng, options.ms_width[0] * load, options.ms_width[1], 3.0, 16.0)
        point = _any_of(rng, head.places[place])
        if place == "periventricular":  # ovoid, standing on the wall
            node = head.nearest(point[None])
            axis, length = head.outward[:, *node][:, 0], width * rng.uniform(*options.ms_length)
            point = point + axis * (0.45 * length - head.wall[node][0])
        else:
            axis, length = None, width * rng.uniform(1.0, 1.4)
        radii = np.array([length, width, width * rng.uniform(0.8, 1.0)]) / 2
        window, fraction = drawing.ellipsoid(point, radii, axis)
        fraction = fraction * (_white(drawing, window) if place != "juxtacortical" else _white(drawing, window, 1.0))
        drawing.add("plaque", window, fraction)
        hole, active = rng.random() < options.ms_black_holes, rng.random() < options.ms_enhancing
        if hole and not active:
            black += 1
            window, core = drawing.ellipsoid(point, radii * 0.75, axis)
            drawing.add("black_hole", window, core * _white(drawing, window))
        if active:
            enhancing += 1
            drawing.add("active", window, _shell(drawing, window, fraction, point, radii, axis))
    drawing.facts |= {"lesions": count, "black_holes": black, "enhancing": enhancing, **found}


def _shell(
    drawing: Drawing, window: Window, fraction: np.ndarray, point: np.ndarray, radii: np.ndarray, axis: np.ndarray | None
) -> np.ndarray:
    """A small lesion enhances as a whole, a larger one at its rim."""
    if radii.min() < 4:
        return fraction
    inner, core = drawing.ellipsoid(point, radii * 0.6, axis)
    whole = np.zeros(drawing.atlas.fine.shape, np.float32)
    whole[inner] = core
    return np.clip(fraction - whole[window], 0, 1)


def _wmh(drawing: Drawing, age: float, options: LesionOptions) -> None:
    rng, head = drawing.rng, drawing.atlas
    median, doubling, spread = options.wmh_volume
    volume = _log_normal(rng, median * 2 ** ((age - 65) / doubling), spread, *options.wmh_volume_range)
    x, y, z = np.broadcast_arrays(*head.nodes.points())
    side = np.abs(x)
    caps = np.zeros(x.shape)
    for cx, cy, cz, size in ((17, 34, 6, 8), (29, -54, 12, 9)):  # before the frontal, behind the occipital horns
        caps += np.exp(-((side - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) / (2 * size**2))
    patches, grain = (_symmetric(drawing.noise(size), 0.6) for size in (6.0, 2.5))
    score = head.wall / 7.0 - 1.1 * caps - 0.8 * patches - 0.3 * grain
    score += 0.35 * np.clip(5 - head.cortex, 0, 5)  # the U-fibres are spared
    score += 0.25 * np.clip(12 - side, 0, 12) + 0.2 * np.clip(-4 - z, 0, 8)  # so are corpus callosum and temporal lobe
    score = np.where((head.white > 0.5) & ~head.below, score, _NEVER).astype(np.float32)
    threshold = threshold_for(score, head.white, volume * 1000, NODE**3)
    window, fraction = drawing.below(score, threshold, 0.18)
    drawing.add("hyperintensity", window, fraction * _white(drawing, window, 0.5))
    punctate = int(rng.poisson(options.wmh_punctate))
    for _ in range(punctate):
        radii = np.full(3, rng.uniform(1.2, 2.8)) * rng.uniform(0.8, 1.25, 3)
        window, fraction = drawing.ellipsoid(_any_of(rng, head.places["deep"]), radii)
        drawing.add("hyperintensity", window, fraction * _white(drawing, window))
    drawing.facts |= {"drawn_ml": volume, "punctate": punctate}


def _symmetric(noise: np.ndarray, share: float) -> np.ndarray:
    """Noise of which `share` of the amplitude is alike on both sides, as vascular damage is."""
    mirrored = noise[::-1]
    alike = (noise + mirrored) / math.sqrt(2)
    return share * alike + math.sqrt(1 - share**2) * noise


def _stroke(drawing: Drawing, options: LesionOptions) -> None:
    rng = drawing.rng
    hours = math.exp(rng.uniform(math.log(options.stroke_hours[0]), math.log(options.stroke_hours[1])))
    left = bool(rng.random() < 0.5)
    drawing.facts |= {"hours": hours, "template_left": left}
    if rng.random() < options.stroke_lacunar:
        _lacune(drawing, options, left)
    else:
        _territorial(drawing, options, left)


def _sided(points: np.ndarray, left: bool) -> np.ndarray:
    return points[(points[:, 0] < 0) == left]


def _lacune(drawing: Drawing, options: LesionOptions, left: bool) -> None:
    rng, head = drawing.rng, drawing.atlas
    place = ("nuclei", "crown", "pons")[pick(rng.random(), np.array([0.5, 0.35, 0.15]))]
    diameter = rng.uniform(*options.stroke_lacune)
    radii = diameter / 2 * np.array([1.0, 0.8, 0.7])
    point = _any_of(rng, _sided(head.places[place], left))
    window, fraction = drawing.ellipsoid(point, radii, np.array([0, 0.3, 1.0]))
    drawing.add("infarct", window, fraction * head.tissue_fine[window])
    drawing.facts |= {"infarct": "lacunar", "territory": f"perforating ({place})", "lesions": 1, "diameter_mm": diameter}


def _territorial(drawing: Drawing, options: LesionOptions, left: bool) -> None:
    rng, head = drawing.rng, drawing.atlas
    names = list(options.stroke_territories)
    name = names[pick(rng.random(), np.array(list(options.stroke_territories.values())))]
    volume = _log_normal(rng, *options.stroke_volume, *options.stroke_volume_range)
    inside = _territory(drawing, name, left)
    surface = _sided(head.places["cerebellar_cortex" if name == "cerebellar" else "cortex"], left)
    below = head.below[head.nearest(surface)]
    own = territory_of(surface, below=below) == TERRITORIES.index(name)
    surface = surface[inside[head.nearest(surface)] & own]
    base = _any_of(rng, surface)
    apex = _apex(head, base, name, left)
    depth = (6 * volume * 1000 / math.pi) ** (1 / 3)  # of a cone of this volume with half angle 35 degrees
    apex = base + (apex - base) * min(1.0, 1.25 * depth / float(np.linalg.norm(apex - base)))
    score = _wedge(head, base, apex) + np.float32(0.10) * drawing.noise(6.0) + np.float32(0.05) * drawing.noise(3.0)
    score = np.where(inside & (head.tissue > 0.4), score, _NEVER).astype(np.float32)
    threshold = threshold_for(score, head.tissue, volume * 1000, NODE**3)
    window, fraction = drawing.below(score, threshold, 0.06)
    drawing.add("infarct", window, fraction * np.clip(head.tissue_fine[window] * 1.4 - 0.2, 0, 1))
    emboli = 0
    if rng.random() < options.stroke_emboli:
        emboli = int(rng.integers(1, 6))
        for _ in range(emboli):
            radii = np.full(3, rng.uniform(1.5, 4.0)) * rng.uniform(0.8, 1.25, 3)
            window, fraction = drawing.ellipsoid(_any_of(rng, surface), radii)
            drawing.add("infarct", window, fraction * head.tissue_fine[window])
    drawing.facts |= {"infarct": "territorial", "territory": name, "lesions": 1 + emboli, "drawn_ml": volume}


def _territory(drawing: Drawing, name: str, left: bool) -> np.ndarray:
    """bool on the nodes: an artery's territory on one side, its borders shifted by some mm, since people differ."""
    head = drawing.atlas
    points = np.stack([np.broadcast_to(axis, head.nodes.shape) for axis in head.nodes.points()], axis=-1).reshape(-1, 3)
    wobble = np.stack([drawing.noise(10.0).ravel() for _ in range(3)], axis=-1) * 3.0
    found = territory_of(points + wobble, below=head.below.ravel()) == TERRITORIES.index(name)
    return (found & ((points[:, 0] < 0) == left)).reshape(head.nodes.shape)


def _apex(head: Atlas, base: np.ndarray, name: str, left: bool) -> np.ndarray:
    """The inner end of a wedge: the nearest place of the ventricle's wall, or the peduncle in the cerebellum."""
    if name == "cerebellar":
        return np.array([-12.0 if left else 12.0, -50.0, -32.0])
    wall = _sided(head.places["ventricle"], left)
    return wall[((wall - base) ** 2).sum(1).argmin()]


def _wedge(head: Atlas, base: np.ndarray, apex: np.ndarray) -> np.ndarray:
    """Score on the nodes: distance from the axis apex-base relative to the distance from the apex; a cone opening outwards."""
    axis = base - apex
    length = float(np.linalg.norm(axis))
    offset = [points - a for points, a in zip(head.nodes.points(), apex, strict=True)]
    along = sum((float(a) / length**2 * o for a, o in zip(axis, offset, strict=True)), np.zeros(()))
    squared = sum((o**2 for o in offset), np.zeros(()))
    aside = np.sqrt(np.maximum(squared - (along * length) ** 2, 0)) / length
    score = aside / np.maximum(along + 0.25, 0.1) + 2.5 * np.clip(0.3 - along, 0, 2)
    return score.astype(np.float32)


def _metastases(drawing: Drawing, options: LesionOptions) -> None:
    rng, head = drawing.rng, drawing.atlas
    counts, places = list(options.met_counts), list(options.met_places)
    count = counts[pick(rng.random(), np.array(list(options.met_counts.values())))]
    largest = _log_normal(rng, *options.met_diameter, *options.met_diameter_range)
    low = options.met_diameter_range[0]
    taken: list[tuple[np.ndarray, float]] = []
    found = dict.fromkeys(("junction", "cerebellum", "brainstem"), 0)
    rings = 0
    for name in ("oedema", "enhancing", "necrosis"):
        drawing.part(name)
    for number in range(count):
        diameter = largest if number == 0 else max(largest * rng.uniform(0.2, 0.9), low)
        place = places[pick(rng.random(), np.array(list(options.met_places.values())))]
        if place == "brainstem":
            diameter = min(diameter, 12.0)
        radius = diameter / 2
        point = _free(rng, _deep_enough(head, head.places[place], 0.8 * radius), taken, radius)
        taken.append((point, radius))
        found[place] += 1
        radii = radius * rng.uniform(0.88, 1.12, 3)
        window, fraction = drawing.ellipsoid(point, radii, uneven=0.08)
        side = np.clip(0.5 + np.sign(point[0]) * head.fine.part(window).points()[0], 0, 1)  # the falx stops it
        inside = np.clip(head.tissue_fine[window] * 3, 0, 1) * side  # it fills sulci, but does not leave the brain
        drawing.add("enhancing", window, fraction * inside)
        if diameter >= 12 and rng.random() < options.met_ring:
            rings += 1
            thick = min(rng.uniform(1.8, 3.5), 0.45 * radius)
            window, core = drawing.ellipsoid(point, radii - thick, uneven=0.1)
            side = np.clip(np.sign(point[0]) * head.fine.part(window).points()[0] + 0.5 - thick, 0, 1)
            drawing.add("necrosis", window, core * side)
        _oedema(drawing, options, point, radius)
    drawing.facts |= {"lesions": count, "rings": rings, "largest_mm": 2 * max(r for _, r in taken), **found}
    drawing.facts["masses"] = [[*map(float, point), float(radius)] for point, radius in taken if radius > 6][:3]


def _deep_enough(head: Atlas, points: np.ndarray, depth: float) -> np.ndarray:
    """The points at least so deep below the surface; where there are few, the deepest tenth."""
    found = head.depth[head.nearest(points)]
    return points[found >= min(depth, float(np.quantile(found, 0.9)))]


def _free(rng: np.random.Generator, points: np.ndarray, taken: list[tuple[np.ndarray, float]], radius: float) -> np.ndarray:
    """A point that keeps clear of the lesions so far, as far as a few tries find one."""
    for _ in range(30):
        point = _any_of(rng, points)
        if all(np.linalg.norm(point - other) > radius + size + 4 for other, size in taken):
            break
    return point


def _oedema(drawing: Drawing, options: LesionOptions, point: np.ndarray, radius: float) -> None:
    """Finger-like: it follows the white matter and spares the cortex."""
    rng, head = drawing.rng, drawing.atlas
    width = _log_normal(rng, *options.met_oedema, 0.5, 25.0)
    width = min(width * math.sqrt(2 * radius / options.met_diameter[0]), 3.0 * radius)
    noise = drawing.noise(6.0)
    distance = np.sqrt(sum(((p - c) ** 2 for p, c in zip(head.nodes.points(), point, strict=True)), np.zeros(()))) - radius
    score = distance + 0.35 * width * noise
    window, fraction = drawing.below(score.astype(np.float32), width, 1.5)
    drawing.add("oedema", window, fraction * _white(drawing, window, 0.4))
