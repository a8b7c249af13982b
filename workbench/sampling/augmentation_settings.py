"""What may be done to training images, how often and how strongly, and the two sets of it that have a name. No torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workbench.errors import ParameterError

_HERE = "parameter 'augmentation'"


class AugmentationSettings(BaseModel):
    """Probabilities and ranges; a probability of 0 turns an operation off. The defaults are the set `light`.

    Ranges are symmetric where the description says so. 'Per sample': one draw decides for all its modalities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    flip: tuple[float, float, float] = Field(default=(0.5, 0.0, 0.0), description="probability of mirroring X (left-right), Y, Z")
    affine: float = Field(default=0.3, ge=0, le=1, description="probability of rotation and scaling together")
    rotation: float = Field(default=15.0, ge=0, le=180, description="largest angle about each axis in degrees, both ways")
    scale: float = Field(
        default=0.15, ge=0, lt=1, description="with affine: largest change of size, 1 / (1 + scale) to 1 + scale"
    )
    gamma: float = Field(default=0.3, ge=0, le=1, description="probability per modality")
    gamma_range: float = Field(default=0.35, ge=0, description="largest |log gamma|")
    noise: float = Field(default=0.15, ge=0, le=1, description="probability per modality of Rician noise")
    noise_deviation: float = Field(default=0.15, ge=0, description="largest deviation, in z-scores")
    bias: float = Field(default=0.2, ge=0, le=1, description="probability per modality")
    bias_strength: float = Field(default=0.25, ge=0, description="largest |log| of the field's peak")

    rotate: float = Field(default=0.0, ge=0, le=1, description="probability of a rotation by itself")
    zoom: float = Field(default=0.0, ge=0, le=1, description="probability of a change of size by itself")
    zoom_low: float = Field(default=0.7, gt=0, le=1, description="smallest field of view, of the patch's")
    zoom_high: float = Field(default=1.4, ge=1, description="largest field of view, of the patch's")
    gaussian: float = Field(
        default=0.0, ge=0, le=1, description="probability per sample of Gaussian noise, one for all modalities"
    )
    gaussian_deviation: float = Field(default=0.1, ge=0, description="its largest deviation, in z-scores")
    blur: float = Field(default=0.0, ge=0, le=1, description="probability per sample; then each modality with 1/2")
    blur_low: float = Field(default=0.5, gt=0, description="smallest deviation of the Gaussian kernel, drawn per axis, in voxels")
    blur_high: float = Field(default=1.0, gt=0, description="largest deviation of the Gaussian kernel, in voxels")
    brightness: float = Field(default=0.0, ge=0, le=1, description="probability per sample of a factor per modality")
    brightness_range: float = Field(default=0.25, ge=0, lt=1, description="the factor is 1 - range to 1 + range")
    contrast: float = Field(default=0.0, ge=0, le=1, description="probability per sample of a factor about the mean per modality")
    contrast_range: float = Field(default=0.25, ge=0, lt=1, description="the factor is 1 - range to 1 + range")
    low_resolution: float = Field(default=0.0, ge=0, le=1, description="probability per sample; then each modality with 1/2")
    lowest_resolution: float = Field(default=0.5, gt=0, le=1, description="smallest share of the voxels per axis that is kept")
    gamma_inverted: float = Field(default=0.0, ge=0, le=1, description="probability per sample of a power law on the negative")
    gamma_plain: float = Field(default=0.0, ge=0, le=1, description="probability per sample of a power law")
    gamma_low: float = Field(default=0.7, gt=0, le=1, description="smallest exponent of these two")
    gamma_high: float = Field(default=1.5, ge=1, description="largest exponent of these two")

    def model_post_init(self, context: Any) -> None:
        """Check what no single field's rule says."""
        if not all(0 <= p <= 1 for p in self.flip):
            raise ValueError(f"flip: expected three probabilities, found {self.flip}")
        if self.blur_low > self.blur_high:
            raise ValueError(f"blur_low must not exceed blur_high; found {self.blur_low} and {self.blur_high}")


SETS: dict[str, AugmentationSettings] = {
    "light": AugmentationSettings(),
    "nnunet": AugmentationSettings(
        flip=(0.5, 0.5, 0.5), affine=0, rotation=30, gamma=0, noise=0, bias=0, rotate=0.2, zoom=0.2, gaussian=0.1, blur=0.2,
        brightness=0.15, contrast=0.15, low_resolution=0.25, gamma_inverted=0.1, gamma_plain=0.3,
    ),
}  # fmt: skip
"""`light`: the workbench's own. `nnunet`: nnU-Net v2's default trainer (Isensee et al., Nature Methods 2021)."""


def augmentation_settings(text: str) -> AugmentationSettings:
    """Settings from a set's name and what differs from it: 'nnunet,rotation=15,flip=0.5/0/0'.

    Args:
        text: one of `SETS`, then fields of `AugmentationSettings` as name=number, separated by commas. `flip` takes one
            probability for all axes or three, separated by slashes.

    Raises:
        ParameterError: an unknown set or field, a value that is no number, or one out of range; the message names it.
    """
    name, changes = _parts(text)
    values: dict[str, Any] = {field: _number(field, value) for field, value in changes.items()}
    if "flip" in changes:
        values["flip"] = _flips(changes["flip"])
    try:
        return AugmentationSettings(**{**SETS[name].model_dump(), **values})
    except ValidationError as error:
        found = [
            f"{_HERE}: {'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise ParameterError("; ".join(found)) from None


def canonical_augmentation(text: str) -> str:
    """The text without blanks, its changes in the order of the fields: the same settings are written in one way.

    Raises:
        ParameterError: as `augmentation_settings`.
    """
    chosen = augmentation_settings(text).model_dump()
    name, changes = _parts(text)
    own = SETS[name].model_dump()
    differing = [field for field in own if field in changes and chosen[field] != own[field]]
    return ",".join([name, *(f"{field}={_written(chosen[field])}" for field in differing)])


def _parts(text: str) -> tuple[str, dict[str, str]]:
    name, *rest = (part.strip() for part in text.split(","))
    if name not in SETS:
        raise ParameterError(
            f"{_HERE}: '{name}' is unknown; there are {', '.join(SETS)}, each of which may be followed by changes, e.g. "
            "'nnunet,rotation=15'"
        )
    changes: dict[str, str] = {}
    for part in rest:
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or field not in AugmentationSettings.model_fields:
            raise ParameterError(
                f"{_HERE}: '{part}' is no change; expected name=number with one of {', '.join(AugmentationSettings.model_fields)}"
            )
        if field in changes:
            raise ParameterError(f"{_HERE}: '{field}' is set twice in '{text}'")
        changes[field] = value
    return name, changes


def _number(field: str, value: str) -> float | None:
    if field == "flip":
        return None
    try:
        return float(value)
    except ValueError:
        raise ParameterError(f"{_HERE}: {field}='{value}' is no number") from None


def _flips(value: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in value.split("/"))
    except ValueError:
        found = ()
    if len(found) not in (1, 3):
        raise ParameterError(f"{_HERE}: flip='{value}' is neither one probability nor three as in 0.5/0.5/0")
    return found * 3 if len(found) == 1 else found


def _written(value: float | tuple[float, ...]) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    return "/".join(f"{part:g}" if float(f"{part:g}") == part else repr(part) for part in parts)
