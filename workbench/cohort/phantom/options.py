"""Every rate and effect size of the phantom cohort, with its default and where the default comes from.

Where a description says "own choice", nothing published fixes the number: it was chosen so that the sign is seen at once and
the classes overlap about as much as they do in clinical series.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from workbench.cohort.phantom.populations import (
    CLASSES,
    EXTRA,
    MODALITIES,
    ClassOptions,
    Frozen,
    SiteOptions,
    four_sites,
    published_classes,
)
from workbench.cohort.phantom.surgery_options import STAGES, SurgeryOptions

SIGNALS = ("normal", "permuted", "site_permuted", "mismatch", "t1c_texture", "regional", "focus")
"""What the markers can be read from; see `signals`."""


class PhantomOptions(Frozen):
    """What a phantom cohort is drawn from. The defaults are published rates where there are any.

    Raises:
        ParameterError: from `PhantomOptions.build`, where a value is unknown or out of range.
    """

    # who
    classes: dict[str, ClassOptions] = Field(
        default_factory=published_classes, description="the three adult diffuse gliomas of WHO 2021"
    )
    sites: dict[str, SiteOptions] = Field(
        default_factory=four_sites, description="a site named 'external' is never used for training"
    )
    age_range: tuple[float, float] = Field((18.0, 88.0), description="years; ages outside are redrawn")
    male: float = Field(0.57, ge=0, le=1, description="share of men (Ostrom 2022), the same in every class")
    # signs
    mismatch_astrocytoma: float = Field(
        0.42,
        ge=0,
        le=1,
        description="T2-FLAIR mismatch in IDH-mutant intact grade 2, 3: pooled sensitivity (Park 2021, Adamou 2021, Do 2022)",
    )
    mismatch_grade4: float = Field(
        0.05, ge=0, le=1, description="mismatch in IDH-mutant intact grade 4 (the meta-analyses are of grade 2 and 3)"
    )
    mismatch_others: float = Field(
        0.01, ge=0, le=1, description="mismatch in all others: pooled specificity 97 to 100 % (same sources)"
    )
    ring_glioblastoma: float = Field(
        0.90, ge=0, le=1, description="ring enhancement around necrosis in glioblastoma (Lasocki 2015, rounded)"
    )
    ring_grade4: float = Field(
        0.25, ge=0, le=1, description="ring enhancement in IDH-mutant astrocytoma grade 4 (Lasocki 2015, rounded)"
    )
    ring_others: float = Field(0.05, ge=0, le=1, description="ring enhancement in the rest")
    patchy: dict[int, float] = Field(
        default_factory=lambda: {2: 0.08, 3: 0.50, 4: 0.08},
        description="patchy enhancement by grade, never with a ring: half of grade 3 (White 2005); 2 and 4: own choice",
    )
    # growth
    volume_range: tuple[float, float] = Field((3.0, 250.0), description="whole-tumour volume in ml (BraTS 2021: median about 80)")
    width_range: tuple[float, float] = Field((2.0, 5.0), description="sqrt(D/rho) in mm; at least two voxels of the growth grid")
    white_grey: tuple[float, float] = Field(
        (5.0, 20.0), description="D in white over D in grey matter (Swanson 2000: 5; Harpold 2007: up to 100)"
    )
    rho: tuple[float, float] = Field(
        (12.0, 0.5), description="proliferation per year: median, log standard deviation (Harpold 2007); sets the clock only"
    )
    unevenness: float = Field(
        0.45,
        ge=0,
        le=0.8,
        description="rho falls to 1 minus this in parts of a tumour, which makes it lobed: own choice (0: the plain equation)",
    )
    detect_t2: float = Field(0.16, gt=0, lt=1, description="tumour concentration seen on T2 and FLAIR (Swanson 2008)")
    detect_t1c: float = Field(0.80, gt=0, lt=1, description="tumour concentration seen on T1c (Swanson 2008)")
    detect_solid: float = Field(
        0.55, gt=0, lt=1, description="concentration from which non-enhancing tumour is drawn as core, not as oedema: own choice"
    )
    core_share: float = Field(
        0.22,
        ge=0,
        lt=1,
        description="least share of the core in a ring-enhancing tumour, so that a ring that was drawn can be seen: own choice",
    )
    rim: tuple[float, float] = Field(
        (3.0, 5.0), description="thickness in mm of the enhancing rim and of the bright rim of the mismatch sign"
    )
    mass_effect: tuple[float, float] = Field(
        (0.08, 0.30), description="largest displacement of the anatomy, share of the tumour's radius"
    )
    # anatomy
    deformation: float = Field(
        4.0, ge=0, le=8, description="standard deviation of the smooth random deformation in mm: own choice"
    )
    ventricles: tuple[float, float] = Field(
        (0.045, 0.8),
        description="outward shift of the ventricles' wall: mm per year beyond age 50, standard deviation in mm (Scahill 2003)",
    )
    # diffusion and perfusion. Wild type: less diffusion and more blood than IDH-mutant (Suh 2019, a meta-analysis; Kickingereder
    # 2015 for the blood volume); co-deleted: less diffusion and more blood than the other IDH-mutant (Thust 2018, Leu 2017). The
    # order is theirs; levels and spread are own choice, such that either map alone tells IDH at an AUC of 0.8 to 0.9.
    extra: tuple[str, ...] = Field((), description="maps beside the four sequences: adc, cbv")
    solid_adc: dict[str, tuple[float, float]] = Field(
        default_factory=lambda: {"oligodendroglioma": (1.35, 0.24), "astrocytoma": (1.60, 0.24), "glioblastoma": (1.10, 0.24)},
        description="ADC of the solid tumour by class: mean and standard deviation in 1e-3 mm^2/s, before truncation",
    )
    solid_cbv: dict[str, tuple[float, float]] = Field(
        default_factory=lambda: {"oligodendroglioma": (2.2, 0.45), "astrocytoma": (1.4, 0.45), "glioblastoma": (3.2, 0.45)},
        description="blood volume of the solid tumour over that of white matter: median and log standard deviation",
    )
    adc_range: tuple[float, float] = Field((0.6, 2.4), description="1e-3 mm^2/s; levels outside are redrawn")
    cbv_range: tuple[float, float] = Field((0.4, 12.0), description="over white matter; levels outside are redrawn")
    # the single carrier of the modes mismatch, t1c_texture, regional and focus
    carrier_sensitivity: float = Field(1.0, ge=0, le=1, description="how often an IDH-mutant case shows the mode's sign")
    carrier_false: float = Field(0.0, ge=0, le=1, description="how often a wild-type case shows the mode's sign")
    difference_effect: float = Field(
        0.24,
        ge=0,
        le=0.6,
        description="mode mismatch: T2-FLAIR difference inside the tumour, + or - (white matter in T1 is 0.85)",
    )
    difference_base: tuple[float, float] = Field(
        (0.42, 0.90),
        description="mode mismatch: mean of T2 and FLAIR inside the tumour, drawn per case: neither sequence suffices alone",
    )
    texture_effect: float = Field(0.16, ge=0, le=0.6, description="mode t1c_texture: standard deviation of the texture")
    texture_scales: tuple[float, float] = Field(
        (1.4, 4.5), description="mode t1c_texture: grain (sigma in mm) of carriers and of the others"
    )
    regional_effect: float = Field(
        0.14, ge=0, le=0.6, description="mode regional: signal shift in the informative and in the distracting sequence"
    )
    focus_effect: float = Field(
        0.40, ge=0, le=1, description="mode focus: signal shift in the focus, up in carriers, down in the others"
    )
    focus_radius: float = Field(5.0, gt=1, le=15, description="mode focus: radius in mm")
    # what goes wrong in multi-centre data
    misregistration: float = Field(0.0, ge=0, le=3, description="largest shift in mm between T1c and each other sequence")
    coarse_site: str = Field("", description="site whose annotators drew whole-tumour masks only; empty = none")
    markerless_site: str = Field("", description="site that knows no markers; empty = none")
    # before or after surgery
    stage: str = Field("preoperative", description="preoperative, or posttreatment: after surgery, one to three sessions each")
    surgery: SurgeryOptions = Field(default_factory=SurgeryOptions, description="used after surgery only")

    @model_validator(mode="after")
    def _known(self) -> PhantomOptions:
        if set(self.classes) != set(CLASSES):
            raise ValueError(f"classes: must be {', '.join(CLASSES)}")
        if not self.sites:
            raise ValueError("sites: at least one")
        for name in ("solid_adc", "solid_cbv"):
            levels = getattr(self, name)
            if set(levels) != set(CLASSES) or min(min(pair) for pair in levels.values()) <= 0:
                raise ValueError(f"{name}: must have two numbers above 0 for each of {', '.join(CLASSES)}")
        if (unknown := set(self.extra) - set(EXTRA)) or len(set(self.extra)) < len(self.extra):
            found = f"unknown {', '.join(sorted(unknown))}" if unknown else "one is named twice"
            raise ValueError(f"extra: {found}; there are {', '.join(EXTRA)}, and {', '.join(MODALITIES)} are always made")
        if self.stage not in STAGES:
            raise ValueError(f"stage: there is no '{self.stage}'; there are {', '.join(STAGES)}")
        for name in ("coarse_site", "markerless_site"):
            if (site := getattr(self, name)) and site not in self.sites:
                raise ValueError(f"{name}: there is no site '{site}'; there are {', '.join(self.sites)}")
        return self

    @model_validator(mode="after")
    def _ranges(self) -> PhantomOptions:
        for name in (
            "age_range",
            "volume_range",
            "width_range",
            "white_grey",
            "rim",
            "mass_effect",
            "difference_base",
            "adc_range",
            "cbv_range",
        ):
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise ValueError(f"{name}: must be two rising numbers above 0, is {low:g}, {high:g}")
        if self.width_range[0] < 2:
            raise ValueError("width_range: a front under 2 mm is finer than two voxels of the growth grid")
        if not self.detect_t2 < self.detect_solid < self.detect_t1c:
            raise ValueError("detect_t2 < detect_solid < detect_t1c must hold")
        if self.mass_effect[1] > 0.45:
            raise ValueError("mass_effect: above 0.45 the anatomy would fold")
        return self

    @model_validator(mode="after")
    def _exclusive_signs(self) -> PhantomOptions:
        for klass, options in self.classes.items():
            for grade in (grade for grade, rate in options.grades.items() if rate > 0):
                mismatch, ring, patchy = self.sign_rates(klass, grade)
                if mismatch + ring > 1 or patchy + ring > 1 or options.heterogeneous + mismatch > 1:
                    raise ValueError(f"{klass} grade {grade}: rates of signs that exclude each other add up to more than 1")
        return self

    def sign_rates(self, klass: str, grade: int) -> tuple[float, float, float]:
        """Rates of (mismatch, ring, patchy enhancement) in a class and grade."""
        intact = klass == "astrocytoma"
        mismatch = self.mismatch_others if not intact else self.mismatch_grade4 if grade == 4 else self.mismatch_astrocytoma
        ring = self.ring_others
        if klass == "glioblastoma":
            ring = self.ring_glioblastoma
        elif intact and grade == 4:
            ring = self.ring_grade4
        return mismatch, ring, self.patchy.get(grade, 0.0)

    def settings(self) -> dict[str, Any]:
        """All values as plain JSON, without those of what is not made: what a phantom's folder is marked with."""
        unused = set() if self.extra else {"extra", "solid_adc", "solid_cbv", "adc_range", "cbv_range"}
        if self.stage == "preoperative":
            unused |= {"stage", "surgery"}
        return self.model_dump(mode="json", exclude=unused)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The sequences and maps of the cohort, in its order."""
        return (*MODALITIES, *(name for name in EXTRA if name in self.extra))
