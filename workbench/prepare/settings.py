"""What preparation does to a cohort, as one value that is part of every cached array's key."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from workbench.files import value_digest


class PrepareSettings(BaseModel):
    """Settings of `prepare_cohort`. Two runs with equal settings share their prepared arrays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing: float = Field(default=1.0, ge=0.1, le=20.0, description="edge of the prepared voxels in mm, the same along all axes")
    modalities: tuple[str, ...] = Field(default=(), description="channels, in this order; empty = all of the cohort's")
    margin_mm: float = Field(default=0.0, ge=0.0, le=100.0, description="width kept around the brain's bounding box, in mm")
    samples: int = Field(default=512, ge=1, le=100_000, description="stored foreground voxels per label, for balanced patches")

    @field_validator("modalities")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"a modality is named twice: {', '.join(value)}")
        return value

    @property
    def slug(self) -> str:
        """Folder name of these settings: readable spacing and a digest of everything."""
        return f"{self.spacing:g}mm-{value_digest(self.model_dump(mode='json'), 8)}"
