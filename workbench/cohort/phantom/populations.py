"""Who is in a phantom cohort: the tumour classes and the hospitals, with their defaults and where those come from."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workbench.errors import ParameterError

MODALITIES = ("t1", "t1c", "t2", "flair")
EXTRA = ("adc", "cbv")
"""Maps that a glioma phantom has where asked for: apparent diffusion coefficient, relative cerebral blood volume."""
CLASSES = ("oligodendroglioma", "astrocytoma", "glioblastoma")
LOBES = ("frontal", "temporal", "parietal", "occipital", "insular", "deep")
LAYERED = ("frontal", "temporal", "parietal", "occipital")
"""The lobes where a tumour starts either in the cortex or in the white matter below it."""


class Frozen(BaseModel):
    """Settings that cannot be changed and take no unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def build(cls, **values: Any) -> Self:
        """Options from keyword arguments.

        Raises:
            ParameterError: naming the option, what was expected and what was found.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            lines = []
            for item in error.errors():
                name = ".".join(str(part) for part in item["loc"])
                message = item["msg"].removeprefix("Value error, ")  # pydantic's own words before those of a validator
                lines.append(f"phantom option {name}: {message}" if name else f"phantom: {message}")
                if item["type"] == "extra_forbidden":
                    lines[-1] = f"phantom option '{name}' is unknown; there are: {', '.join(cls.model_fields)}"
            raise ParameterError("\n".join(lines)) from error


class ClassOptions(Frozen):
    """One tumour class of WHO 2021: who has it and what it looks like."""

    share: float = Field(gt=0, description="share among adult diffuse gliomas")
    idh: Literal[0, 1]
    codel: Literal[0, 1]
    tert: float = Field(ge=0, le=1, description="rate of TERT promoter mutation")
    grades: dict[int, float] = Field(description="grade -> rate; adds up to 1")
    age: tuple[float, float] = Field(description="mean and standard deviation in years, before truncation to `age_range`")
    lobes: dict[str, float] = Field(description="lobe -> rate; adds up to 1")
    cortical: float = Field(ge=0, le=1, description="rate of starting in the cortex, in the lobes that have one")
    volume: tuple[float, float] = Field(
        description="median in ml and log standard deviation, before truncation to `volume_range`"
    )
    width: tuple[float, float] = Field(
        description="sqrt(D/rho) in white matter: median in mm and log standard deviation, before truncation to `width_range`"
    )
    heterogeneous: float = Field(ge=0, le=1, description="rate of heterogeneous T2 signal with calcified specks")

    @model_validator(mode="after")
    def _sums(self) -> ClassOptions:
        for name, rates in (("grades", self.grades), ("lobes", self.lobes)):
            if abs(sum(rates.values()) - 1) > 1e-6 or min(rates.values()) < 0:
                raise ValueError(f"{name}: the rates must be 0 or more and add up to 1, they add up to {sum(rates.values()):g}")
        if set(self.grades) - {2, 3, 4}:
            raise ValueError(f"grades: must be 2, 3 or 4, there is {sorted(self.grades)}")
        if unknown := set(self.lobes) - set(LOBES):
            raise ValueError(f"lobes: unknown {sorted(unknown)}; there are {', '.join(LOBES)}")
        return self


class SiteOptions(Frozen):
    """One hospital: its share of the subjects, its scanner and its annotators."""

    share: float = Field(gt=0)
    mix: dict[str, float] = Field(
        default_factory=dict,
        description="class -> factor at this site (1 where not named); over all sites the shares stay as published",
    )
    noise: float = Field(0.03, ge=0, le=0.5, description="Rician noise, share of the white-matter signal of T1")
    bias: float = Field(0.15, ge=0, le=0.6, description="bias field: standard deviation of its logarithm at the brain's edge")
    gamma: dict[str, float] = Field(default_factory=dict, description="modality -> contrast exponent (1 where not named)")
    thickness: dict[str, float] = Field(
        default_factory=dict, description="modality -> slice thickness in mm (3-D, isotropic, where not named)"
    )
    missing: dict[str, float] = Field(default_factory=dict, description="modality -> rate of scans that lack it")
    label_noise: float = Field(0.4, ge=0, le=3, description="annotators' contour error: standard deviation in mm")

    @model_validator(mode="after")
    def _known(self) -> SiteOptions:
        for name in ("gamma", "thickness", "missing"):
            if unknown := set(getattr(self, name)) - {*MODALITIES, *EXTRA}:
                raise ValueError(f"{name}: unknown {sorted(unknown)}; there are {', '.join((*MODALITIES, *EXTRA))}")
        if unknown := set(self.mix) - set(CLASSES):
            raise ValueError(f"mix: unknown {sorted(unknown)}; there are {', '.join(CLASSES)}")
        if min([*self.mix.values(), 1.0]) <= 0:
            raise ValueError("mix: factors must be above 0, so that every class can occur at every site")
        return self


def published_classes() -> dict[str, ClassOptions]:
    """The three adult diffuse gliomas of WHO 2021."""
    # Shares, TERT rates and ages: Eckel-Passow 2015, Cancer Genome Atlas 2015, Ostrom 2022.
    # Locations: Zlatescu 2001 and Paldor 2016 (co-deleted: frontal), Metellus 2010 (IDH-mutant: frontal, insular), Ellingson 2013
    # (wild type: temporal and deep too); their rates are rounded. Volumes and widths: own choice around 60 ml and the sharp or
    # indistinct border of Jenkinson 2006 and Johnson 2017.
    return {
        "oligodendroglioma": ClassOptions(
            share=0.17,
            idh=1,
            codel=1,
            tert=0.96,
            grades={2: 0.6, 3: 0.4, 4: 0.0},
            age=(45, 12),
            lobes={"frontal": 0.64, "temporal": 0.14, "parietal": 0.12, "occipital": 0.02, "insular": 0.06, "deep": 0.02},
            cortical=0.85,
            volume=(50, 0.6),
            width=(3.2, 0.22),
            heterogeneous=0.60,
        ),
        "astrocytoma": ClassOptions(
            share=0.30,
            idh=1,
            codel=0,
            tert=0.05,
            grades={2: 0.45, 3: 0.30, 4: 0.25},
            age=(38, 11),
            lobes={"frontal": 0.50, "temporal": 0.17, "parietal": 0.09, "occipital": 0.01, "insular": 0.20, "deep": 0.03},
            cortical=0.30,
            volume=(60, 0.6),
            width=(2.1, 0.20),
            heterogeneous=0.05,
        ),
        "glioblastoma": ClassOptions(
            share=0.53,
            idh=0,
            codel=0,
            tert=0.80,
            grades={2: 0.0, 3: 0.0, 4: 1.0},
            age=(62, 12),
            lobes={"frontal": 0.27, "temporal": 0.31, "parietal": 0.19, "occipital": 0.05, "insular": 0.05, "deep": 0.13},
            cortical=0.25,
            volume=(65, 0.6),
            width=(2.5, 0.22),
            heterogeneous=0.05,
        ),
    }


def four_sites() -> dict[str, SiteOptions]:
    """Three hospitals that differ, and 'external', which differs from them in everything."""
    # Own choice: three hospitals that differ, and one that differs from them in everything.
    return {
        "harbour": SiteOptions(
            share=0.32,
            mix={"oligodendroglioma": 1.3, "astrocytoma": 1.1, "glioblastoma": 0.85},
            noise=0.020,
            bias=0.10,
            missing={"t1": 0.05, "t2": 0.04},
            label_noise=0.3,
        ),
        "hill": SiteOptions(
            share=0.26,
            noise=0.030,
            bias=0.18,
            gamma={"t1": 1.10, "t1c": 1.08, "t2": 0.92},
            thickness={"t2": 3.0},
            missing={"t1": 0.12, "flair": 0.05},
            label_noise=0.5,
        ),
        "meadow": SiteOptions(
            share=0.24,
            mix={"oligodendroglioma": 0.75, "astrocytoma": 0.8, "glioblastoma": 1.2},
            noise=0.035,
            bias=0.14,
            gamma={"t1": 0.92, "flair": 1.10, "t1c": 0.95},
            thickness={"flair": 3.0, "t2": 4.0},
            missing={"t2": 0.10, "t1": 0.05},
            label_noise=0.6,
        ),
        "external": SiteOptions(
            share=0.18,
            mix={"oligodendroglioma": 0.6, "astrocytoma": 0.7, "glioblastoma": 1.35},
            noise=0.050,
            bias=0.28,
            gamma={"t1": 1.25, "t1c": 1.20, "t2": 0.80, "flair": 0.82},
            thickness={"t1": 3.0, "t2": 5.0, "flair": 5.0},
            missing={"t1": 0.15, "t2": 0.08, "flair": 0.08},
            label_noise=0.9,
        ),
    }
