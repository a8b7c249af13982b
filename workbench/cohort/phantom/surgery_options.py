"""What surgery and the months after it do to a phantom, with the defaults and where they come from."""

from __future__ import annotations

from pydantic import Field, model_validator

from workbench.cohort.phantom.populations import Frozen

STAGES = ("preoperative", "posttreatment")


class SurgeryOptions(Frozen):
    """Rates and sizes of the post-treatment stage. None depends on the tumour's class."""

    timepoints: tuple[float, ...] = Field(
        (0.40, 0.35, 0.25), description="shares of subjects with one, two, three sessions after surgery: own choice"
    )
    complete: float = Field(
        0.50,
        ge=0,
        le=1,
        description="share of complete resections of the core (Stummer 2006: 0.36 under white light, 0.65 with 5-ALA)",
    )
    extent: tuple[float, float] = Field(
        (0.50, 0.92), description="share of the core that a partial resection removes: own choice"
    )
    margin: tuple[float, float] = Field((1.0, 3.0), description="mm that are removed beyond the core: own choice")
    least_residual: float = Field(
        0.15, gt=0, lt=0.9, description="share of the whole tumour that is never removed, its faintest infiltration: own choice"
    )
    corridor: tuple[float, float] = Field(
        (5.0, 9.0), description="radius in mm of the surgeon's way to the brain's surface: own choice"
    )
    gliosis: tuple[float, float] = Field(
        (2.0, 5.0), description="width in mm of the FLAIR-bright seam around the cavity, which counts as ED (SNFH): own choice"
    )
    rim: float = Field(0.5, ge=0, le=1, description="share of cavities with a thin enhancing rim: own choice")
    rim_width: tuple[float, float] = Field(
        (1.0, 2.0), description="mm; thin linear enhancement is not labelled ET (BraTS 2024: de Verdier 2024)"
    )
    rim_fading: float = Field(0.5, ge=0, le=1, description="the rim's strength over that of the session before: own choice")
    shrinkage: tuple[float, float] = Field(
        (0.4, 1.5), description="mm by which the cavity's wall moves inward from session to session: own choice"
    )
    progressing: float = Field(0.5, ge=0, le=1, description="share of subjects whose residual tumour grows: own choice")
    regrowth: tuple[float, float] = Field(
        (1.2, 1.7), description="volume from session to session where it grows (RANO 2.0 calls 1.4 progression): own choice"
    )
    visible: float = Field(
        0.5,
        gt=0,
        description="ml of the densest part that must be left for signs to show; with less, what is left looks like oedema",
    )

    @model_validator(mode="after")
    def _ranges(self) -> SurgeryOptions:
        if not self.timepoints or min(self.timepoints) < 0 or abs(sum(self.timepoints) - 1) > 1e-6:
            raise ValueError("timepoints: the shares must be 0 or more and add up to 1")
        for name in ("extent", "margin", "corridor", "gliosis", "rim_width", "shrinkage", "regrowth"):
            low, high = getattr(self, name)
            if not 0 < low < high:
                raise ValueError(f"{name}: must be two rising numbers above 0, is {low:g}, {high:g}")
        if self.extent[1] > 1 or self.regrowth[0] < 1:
            raise ValueError("extent must not exceed 1, regrowth must be at least 1")
        return self
