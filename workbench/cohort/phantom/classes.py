"""Who has what and what it looks like: the generative model as distributions, with draws and exact log likelihoods.

A subject has a site, a class (with grade and TERT) and an appearance. In the ordinary cohort the appearance follows the subject's
own class and grade. In the modes with a single carrier (`mismatch`, `t1c_texture`, `regional`, `focus`) it follows those of an
unrelated person, so that only the carrier tells anything about the markers; see `signals`.

Everything drawn here depends on the seed and the subject's number alone: subject 7 is the same in a cohort of 10 and of 100.
Site and class follow a low-discrepancy sequence with a random start (uniform for every subject, so the model stays exact), which
keeps the counts of small cohorts near their rates. Within blocks of 20 the numbers are dealt by chance: who knows a number knows
neither site nor class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri

from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import CLASSES, LAYERED, ClassOptions
from workbench.seeding import stream

FOCUSED = ("mismatch", "t1c_texture", "regional", "focus")
"""The modes in which one carrier alone shows IDH, and nothing else shows anything."""

GRADES = (2, 3, 4)
STATES: tuple[tuple[str, int], ...] = tuple((klass, grade) for klass in CLASSES for grade in GRADES)
"""(class, grade): what the observable things depend on."""

BLOCK = 20
"""Numbers that are dealt among each other: whole blocks are as even as the sequence itself, and a demo has two of them."""
_PLASTIC = 1.324717957244746  # its powers give the most even two-dimensional sequence (Roberts 2018)


@dataclass(frozen=True)
class Subject:
    """All class-dependent draws of one subject, and the markers."""

    index: int
    site: str
    klass: str
    grade: int
    tert: int
    age: float
    sex: str
    mismatch: bool
    enhancement: str
    """'ring', 'patchy' or 'none'."""
    heterogeneous: bool
    lobe: str
    cortical: bool
    volume: float
    """ml"""
    width: float
    """sqrt(D/rho) in white matter, mm."""
    ventricle: float
    """Outward shift of the ventricular wall in mm; depends on age."""
    carrier: bool | None
    """Whether the mode's own sign is shown; None in the modes that have none."""
    adc: float | None = None
    """ADC of the solid tumour in 1e-3 mm^2/s; None where the map is not made."""
    cbv: float | None = None
    """Blood volume of the solid tumour over that of white matter; None where the map is not made."""

    @property
    def idh(self) -> int:
        """1 = mutant."""
        return int(self.klass != "glioblastoma")

    @property
    def codel(self) -> int:
        """1 = 1p/19q co-deleted."""
        return int(self.klass == "oligodendroglioma")


def class_probabilities(options: PhantomOptions, site: str, signal: str) -> np.ndarray:
    """P(class | site), in the order of `CLASSES`. Sites do not differ in the modes with a single carrier."""
    shares = tuple(options.classes[klass].share for klass in CLASSES)
    mixed = signal not in FOCUSED
    mixes = tuple(tuple(other.mix.get(klass, 1.0) if mixed else 1.0 for klass in CLASSES) for other in options.sites.values())
    table = _site_table(tuple(other.share for other in options.sites.values()), shares, mixes)
    return table[list(options.sites).index(site)]


@cache
def _site_table(sites: tuple[float, ...], classes: tuple[float, ...], mixes: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """P(class | site), (sites, classes): the mixes, fitted so that over all sites each class has its own share exactly."""
    rows, columns = (np.array(part) / sum(part) for part in (sites, classes))
    joint = np.array(mixes) * rows[:, None] * columns
    for _ in range(200):  # iterative proportional fitting; it ends with the rows, so that those are exact
        joint *= columns / joint.sum(0)
        joint *= (rows / joint.sum(1))[:, None]
    return joint / rows[:, None]


def state_probabilities(options: PhantomOptions, site: str, signal: str) -> np.ndarray:
    """P(class, grade | site), in the order of `STATES`."""
    classes = class_probabilities(options, site, signal)
    grades = [[options.classes[klass].grades.get(grade, 0.0) for grade in GRADES] for klass in CLASSES]
    return (classes[:, None] * np.array(grades)).ravel()


def even_draws(seed: int, index: int) -> tuple[float, float]:
    """Two uniform draws in 0..1 for subject number `index`, more evenly spread over each block of subjects than by chance."""
    block, within = divmod(index, BLOCK)
    place = block * BLOCK + int(stream(seed, "phantom", "numbers", block).permutation(BLOCK)[within])
    first, second = stream(seed, "phantom", "start").random(2)
    return (float(first) + place / _PLASTIC) % 1.0, (float(second) + place / _PLASTIC**2) % 1.0


def draw_subject(seed: int, index: int, options: PhantomOptions, signal: str) -> Subject:
    """Subject number `index` of a cohort."""
    even = even_draws(seed, index)
    rng = stream(seed, "phantom", "subject", index)
    sites = list(options.sites)
    shares = np.array([options.sites[site].share for site in sites])
    site = sites[pick(even[0], shares / shares.sum())]
    klass = CLASSES[pick(even[1], class_probabilities(options, site, signal))]
    own = options.classes[klass]
    grade = _draw_grade(rng, own)
    tert = int(rng.random() < own.tert)
    shown, shown_grade = klass, grade
    other = stream(seed, "phantom", "appearance", index)
    carrier: bool | None = None
    if signal in FOCUSED:
        shown = CLASSES[pick(other.random(), class_probabilities(options, site, signal))]
        shown_grade = _draw_grade(other, options.classes[shown])
        rate = options.carrier_sensitivity if klass != "glioblastoma" else options.carrier_false
        carrier = bool(other.random() < rate)
    look = options.classes[shown]
    mismatch, enhancement, heterogeneous = _draw_signs(rng, options, shown, shown_grade, signal)
    lobe = list(look.lobes)[pick(rng.random(), np.array(list(look.lobes.values())))]
    cortical = bool(rng.random() < look.cortical) and lobe in LAYERED
    age = draw_truncated(rng, *look.age, options.age_range)
    maps = stream(seed, "phantom", "maps", index)  # of their own: the four sequences are the same with and without them
    adc = draw_truncated(maps, *options.solid_adc[shown], options.adc_range)
    cbv = math.exp(draw_truncated(maps, *_log_normal(options.solid_cbv[shown]), _logs(options.cbv_range)))
    per_year, spread = options.ventricles
    return Subject(
        index=index,
        site=site,
        klass=klass,
        grade=grade,
        tert=tert,
        age=age,
        sex="M" if rng.random() < options.male else "F",
        mismatch=mismatch,
        enhancement=enhancement,
        heterogeneous=heterogeneous,
        lobe=lobe,
        cortical=cortical,
        volume=math.exp(draw_truncated(rng, *_log_normal(look.volume), _logs(options.volume_range))),
        width=math.exp(draw_truncated(rng, *_log_normal(look.width), _logs(options.width_range))),
        ventricle=per_year * (age - 50) + spread * float(rng.standard_normal()),
        carrier=carrier,
        adc=adc if "adc" in options.extra else None,
        cbv=cbv if "cbv" in options.extra else None,
    )


def pick(uniform: float, probabilities: np.ndarray) -> int:
    """The index that a uniform draw in 0..1 falls on."""
    return min(int(np.searchsorted(np.cumsum(probabilities), uniform, side="right")), len(probabilities) - 1)


def _draw_grade(rng: np.random.Generator, own: ClassOptions) -> int:
    return GRADES[pick(rng.random(), np.array([own.grades.get(grade, 0.0) for grade in GRADES]))]


def sign_model(options: PhantomOptions, klass: str, grade: int, signal: str) -> tuple[float, float, float, float]:
    """P(mismatch), P(ring), P(patchy | no ring), P(heterogeneous | no mismatch).

    Mismatch and ring exclude each other, and so do ring and patchy, mismatch and heterogeneous: each conditional rate is raised
    so that the sign's overall rate is the published one. In mode `mismatch` the carrier replaces the sign and nobody has a ring.
    """
    mismatch, ring, patchy = options.sign_rates(klass, grade)
    if signal == "mismatch":
        mismatch, ring = 0.0, 0.0
    heterogeneous = options.classes[klass].heterogeneous
    return mismatch, ring, min(patchy / max(1 - ring, 1e-9), 1.0), min(heterogeneous / max(1 - mismatch, 1e-9), 1.0)


def _draw_signs(rng: np.random.Generator, options: PhantomOptions, klass: str, grade: int, signal: str) -> tuple[bool, str, bool]:
    p_mismatch, p_ring, p_patchy, p_heterogeneous = sign_model(options, klass, grade, signal)
    draws = rng.random(3)
    mismatch = bool(draws[0] < p_mismatch)
    ring = bool(p_mismatch <= draws[0] < p_mismatch + p_ring)
    patchy = not ring and draws[1] < p_patchy
    heterogeneous = bool(not mismatch and draws[2] < p_heterogeneous)
    return mismatch, "ring" if ring else "patchy" if patchy else "none", heterogeneous


def _log_normal(pair: tuple[float, float]) -> tuple[float, float]:
    return math.log(pair[0]), pair[1]


def _logs(pair: tuple[float, float]) -> tuple[float, float]:
    return math.log(pair[0]), math.log(pair[1])


def draw_truncated(rng: np.random.Generator, mean: float, deviation: float, limits: tuple[float, float]) -> float:
    """One draw from a normal distribution truncated to `limits`."""
    low, high = (ndtr((limit - mean) / deviation) for limit in limits)
    value = mean + deviation * float(ndtri(low + (high - low) * rng.random()))
    return min(max(value, limits[0]), limits[1])


def log_density(value: np.ndarray, mean: float, deviation: float, limits: tuple[float, float]) -> np.ndarray:
    """Log density of a normal distribution truncated to `limits`; -inf outside."""
    mass = ndtr((limits[1] - mean) / deviation) - ndtr((limits[0] - mean) / deviation)
    inside = (value >= limits[0] - 1e-9) & (value <= limits[1] + 1e-9)
    density = -0.5 * ((value - mean) / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi) * mass)
    return np.where(inside, density, -np.inf)


def volume_log_density(options: PhantomOptions, klass: str, volume: np.ndarray) -> np.ndarray:
    """Log density of the logarithm of the whole-tumour volume (ml) in a class."""
    return log_density(np.log(volume), *_log_normal(options.classes[klass].volume), _logs(options.volume_range))


def map_log_density(options: PhantomOptions, klass: str, name: str, level: np.ndarray) -> np.ndarray:
    """Log density of the solid tumour's ADC, or of the logarithm of its relative blood volume, in a class."""
    if name == "adc":
        return log_density(level, *options.solid_adc[klass], options.adc_range)
    return log_density(np.log(level), *_log_normal(options.solid_cbv[klass]), _logs(options.cbv_range))


def width_log_density(options: PhantomOptions, klass: str, width: np.ndarray) -> np.ndarray:
    """Log density of the logarithm of sqrt(D/rho) (mm) in a class."""
    return log_density(np.log(width), *_log_normal(options.classes[klass].width), _logs(options.width_range))
