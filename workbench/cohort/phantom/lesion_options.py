"""Every rate and size of the lesion phantoms (MS, WMH, stroke, metastasis, mixed), with its default and where it comes from.

Where a description says "own choice", nothing published fixes the number for our purpose: it was set so that the lesions look
like those of clinical examples.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from workbench.cohort.phantom.options import PhantomOptions
from workbench.cohort.phantom.populations import MODALITIES as GLIOMA_MODALITIES
from workbench.cohort.phantom.populations import Frozen, SiteOptions

KINDS = ("ms", "wmh", "stroke", "metastasis", "glioma")
"""Kinds of lesion in a mixed cohort; the first four also make cohorts of their own."""
MIXED = "mixed"
LESIONS = ("glioma", "ms", "wmh", "stroke", "metastasis", MIXED)
"""What `make_phantom` can be asked for."""
SEQUENCES = (*GLIOMA_MODALITIES, "dwi", "adc")


class LesionSite(SiteOptions):
    """One hospital of a lesion cohort. `mix` is lesion kind -> factor at this site (1 where not named, 0: not seen there)."""

    @model_validator(mode="after")
    def _known(self) -> LesionSite:
        for name, known in (("gamma", SEQUENCES), ("thickness", SEQUENCES), ("missing", SEQUENCES), ("mix", KINDS)):
            if unknown := set(getattr(self, name)) - set(known):
                raise ValueError(f"{name}: unknown {sorted(unknown)}; there are {', '.join(known)}")
        if min([*self.mix.values(), 0.0]) < 0:
            raise ValueError("mix: factors must be 0 or more")
        return self


class KindOptions(Frozen):
    """One kind of lesion: who has it and how it is imaged."""

    share: float = Field(0.2, gt=0, description="share of a mixed cohort")
    age: tuple[float, float] = Field(description="mean and standard deviation in years, before truncation to `ages`")
    ages: tuple[float, float] = Field(description="youngest and oldest")
    male: float = Field(ge=0, le=1)
    sequences: dict[str, float] = Field(description="sequence -> rate at which a scan has it; the first is always there")

    @model_validator(mode="after")
    def _known(self) -> KindOptions:
        if not self.sequences or (unknown := set(self.sequences) - set(SEQUENCES)):
            found = sorted(unknown) if self.sequences else "none"
            raise ValueError(f"sequences: found {found}; there are {', '.join(SEQUENCES)}")
        if not self.ages[0] < self.ages[1]:
            raise ValueError("ages: must rise")
        return self


def clinical_kinds() -> dict[str, KindOptions]:
    """Who has which lesion, and the sequences of its usual protocol."""
    # Protocols: those of the public collections (Lesjak 2017, WMH 2017, ISLES 2022, BraTS). WMH: nearly everybody over 60 has
    # some (de Leeuw 2001). Ages, sex ratios, rates of sequences that are not always there, and equal shares: own choice.
    glioma = {"t1c": 1.0, "flair": 1.0, "t1": 1.0, "t2": 1.0}
    return {
        "ms": KindOptions(age=(39, 11), ages=(18, 70), male=0.25, sequences={"flair": 1.0, "t1": 1.0, "t2": 1.0, "t1c": 0.5}),
        "wmh": KindOptions(age=(72, 9), ages=(50, 92), male=0.48, sequences={"flair": 1.0, "t1": 1.0}),
        "stroke": KindOptions(age=(70, 13), ages=(30, 95), male=0.53, sequences={"dwi": 1.0, "adc": 1.0, "flair": 0.8}),
        "metastasis": KindOptions(age=(61, 11), ages=(25, 88), male=0.48, sequences=dict(glioma)),
        "glioma": KindOptions(age=(52, 14), ages=(18, 88), male=0.57, sequences=dict(glioma)),
    }


def lesion_sites() -> dict[str, LesionSite]:
    """A tumour centre, an MS and memory clinic, a stroke unit; 'external' sees every kind and differs from them in everything."""

    # Own choice, as for the gliomas: `populations.four_sites`.
    def only(**mix: float) -> dict[str, float]:
        return dict.fromkeys(KINDS, 0.0) | mix

    return {
        "harbour": LesionSite(
            share=0.30,
            mix=only(glioma=1.0, metastasis=1.0, ms=0.3),
            noise=0.020,
            bias=0.10,
            missing={"t1": 0.05, "t2": 0.04},
            label_noise=0.3,
        ),
        "hill": LesionSite(
            share=0.28,
            mix=only(ms=1.0, wmh=1.0, metastasis=0.3),
            noise=0.030,
            bias=0.18,
            gamma={"t1": 1.10, "t1c": 1.08, "t2": 0.92},
            thickness={"t2": 3.0},
            missing={"t1": 0.12, "t2": 0.05},
            label_noise=0.4,
        ),
        "meadow": LesionSite(
            share=0.24,
            mix=only(stroke=1.0, wmh=0.4),
            noise=0.035,
            bias=0.14,
            gamma={"t1": 0.92, "flair": 1.10, "dwi": 1.08},
            thickness={"flair": 3.0, "dwi": 3.0, "adc": 3.0},
            missing={"t1": 0.05, "adc": 0.05},
            label_noise=0.5,
        ),
        "external": LesionSite(
            share=0.18,
            noise=0.045,
            bias=0.28,
            gamma={"t1": 1.25, "t1c": 1.20, "t2": 0.80, "flair": 0.82, "dwi": 0.85},
            thickness={"t1": 3.0, "t2": 5.0, "flair": 5.0, "dwi": 5.0, "adc": 5.0},
            missing={"t1": 0.15, "t2": 0.08, "adc": 0.15},
            label_noise=0.7,
        ),
    }


class LesionOptions(Frozen):
    """What a lesion phantom is drawn from.

    Raises:
        ParameterError: from `LesionOptions.build`, where a value is unknown or out of range.
    """

    kinds: dict[str, KindOptions] = Field(default_factory=clinical_kinds)
    sites: dict[str, LesionSite] = Field(
        default_factory=lesion_sites, description="a site named 'external' is never used for training"
    )
    deformation: float = Field(4.0, ge=0, le=8, description="as for gliomas")
    ventricles: tuple[float, float] = Field(
        (0.045, 0.8), description="outward shift of the ventricles' wall: mm per year beyond age 50, sd in mm (Scahill 2003)"
    )
    # multiple sclerosis
    ms_lesions: tuple[float, float] = Field(
        (26.0, 0.7), description="lesions per patient: median, log sd (Pongratz 2023: 13 subcortical ones alone on average)"
    )
    ms_places: dict[str, float] = Field(
        default_factory=lambda: {"periventricular": 0.46, "deep": 0.24, "juxtacortical": 0.22, "infratentorial": 0.08},
        description="place -> share of the lesions: own choice around the regions of the McDonald criteria (Thompson 2018)",
    )
    ms_width: tuple[float, float] = Field((5.5, 0.35), description="short diameter in mm: median, log sd; 3 to 16: own choice")
    ms_length: tuple[float, float] = Field(
        (1.4, 2.6), description="length over width of periventricular lesions, which stand on the ventricle's wall: own choice"
    )
    ms_black_holes: float = Field(0.3, ge=0, le=1, description="share of lesions that are black holes on T1: own choice")
    ms_enhancing: float = Field(0.05, ge=0, le=1, description="share of lesions that enhance (Pongratz 2023: 3 to 7 %)")
    # white-matter hyperintensities of vascular origin
    wmh_volume: tuple[float, float, float] = Field(
        (5.0, 10.0, 0.9),
        description="ml at age 65: median; years in which it doubles; log sd (rise with age: de Leeuw 2001; numbers: own choice)",
    )
    wmh_volume_range: tuple[float, float] = Field((0.4, 80.0), description="ml")
    wmh_punctate: float = Field(5.0, ge=0, description="punctate deep lesions: mean number: own choice")
    # ischaemic stroke
    stroke_lacunar: float = Field(0.2, ge=0, le=1, description="share of lacunes (Kolominsky-Rabas 2001: about a fifth)")
    stroke_territories: dict[str, float] = Field(
        default_factory=lambda: {"mca": 0.70, "pca": 0.12, "aca": 0.07, "cerebellar": 0.11},
        description="artery -> share of the territorial infarcts (Ng 2007, rounded)",
    )
    stroke_volume: tuple[float, float] = Field((18.0, 1.2), description="ml of a territorial infarct: median, log sd: own choice")
    stroke_volume_range: tuple[float, float] = Field((1.0, 220.0), description="ml")
    stroke_lacune: tuple[float, float] = Field((5.0, 15.0), description="diameter in mm (Wardlaw 2013: up to 15, acute up to 20)")
    stroke_emboli: float = Field(0.3, ge=0, le=1, description="rate of small scattered infarcts beside the large one: own choice")
    stroke_hours: tuple[float, float] = Field((1.5, 168.0), description="age of the infarct in hours, log-uniform")
    stroke_flair_hours: float = Field(4.5, gt=0, description="hours at which half of the FLAIR signal shows (Thomalla 2011)")
    # brain metastases
    met_counts: dict[int, float] = Field(
        default_factory=lambda: {1: 0.49, 2: 0.21, 3: 0.13, 4: 0.06, 5: 0.04, 7: 0.04, 10: 0.03},
        description="number -> share (Delattre 1988: 49, 21, 13, 6, and 11 % with more than 4)",
    )
    met_places: dict[str, float] = Field(
        default_factory=lambda: {"junction": 0.80, "cerebellum": 0.15, "brainstem": 0.05},
        description="place -> share (Delattre 1988)",
    )
    met_diameter: tuple[float, float] = Field((13.0, 0.5), description="mm of the largest: median, log sd: own choice")
    met_diameter_range: tuple[float, float] = Field((4.0, 42.0), description="mm")
    met_ring: float = Field(0.75, ge=0, le=1, description="rate of a ring in those of 12 mm or more; smaller: solid: own choice")
    met_oedema: tuple[float, float] = Field(
        (9.0, 0.6), description="width in mm of the oedema of a metastasis of median size: median, log sd: own choice"
    )
    met_mass_effect: float = Field(0.15, ge=0, le=0.3, description="displacement of the anatomy, share of the radius: own choice")
    # the gliomas of a mixed cohort
    glioma: PhantomOptions = Field(default_factory=PhantomOptions, description="classes, signs and growth; its sites are unused")

    @model_validator(mode="after")
    def _consistent(self) -> LesionOptions:
        if set(self.kinds) != set(KINDS):
            raise ValueError(f"kinds: must be {', '.join(KINDS)}")
        if not self.sites:
            raise ValueError("sites: at least one")
        known = {
            "ms_places": ("periventricular", "deep", "juxtacortical", "infratentorial"),
            "stroke_territories": ("aca", "mca", "pca", "cerebellar"),
            "met_places": ("junction", "cerebellum", "brainstem"),
        }
        shares: dict[str, dict[Any, float]] = {name: getattr(self, name) for name in (*known, "met_counts")}
        for name, rates in shares.items():
            if min(rates.values(), default=-1) < 0 or abs(sum(rates.values()) - 1) > 1e-6:
                raise ValueError(f"{name}: the rates must be 0 or more and add up to 1")
            if unknown := set(rates) - set(known.get(name, rates)):
                raise ValueError(f"{name}: unknown {sorted(unknown)}; there are {', '.join(known[name])}")
        if min(self.met_counts) < 1 or max(self.met_counts) > 40:
            raise ValueError("met_counts: numbers must be 1 to 40")
        rising = ("wmh_volume_range", "stroke_volume_range", "stroke_lacune", "stroke_hours", "met_diameter_range", "ms_length")
        for name in rising:
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise ValueError(f"{name}: must be two rising numbers above 0, is {low:g}, {high:g}")
        return self

    def settings(self) -> dict[str, Any]:
        """All values as plain JSON: what a phantom's folder is marked with."""
        values = self.model_dump(mode="json", exclude={"glioma"})
        return values | {"glioma": self.glioma.settings()}
