"""Options of the plain networks: the baselines that the methods are compared with. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from workbench.models.options_base import MethodOptions


class UNetOptions(MethodOptions):
    """`unet`: MONAI's DynUNet by nnU-Net's recipe."""

    width: int = Field(32, ge=4, le=128, description="features of the first level; they double per level, up to ten times this")
    levels: int = Field(6, ge=3, le=8, description="resolutions; nnU-Net's rule gives 6 for a 128^3 patch, 5 for 64^3")
    deep_supervision: bool = Field(True, description="supervise all but the two coarsest levels, weights halving per level")
    demo: ClassVar[Mapping[str, Any]] = {"width": 8, "levels": 4}


def nnunet_levels(patch: tuple[int, int, int], smallest: int = 4) -> int:
    """Number of resolutions by nnU-Net's rule at isotropic spacing: halve while every side stays at `smallest` or more.

    nnU-Net halves each axis by itself; with one divisor for all axes the shortest side decides. At isotropic spacing all
    kernels are 3^3 and all strides 2, so that this number is the whole plan.
    """
    side, levels = min(patch), 1
    while side % 2 == 0 and side // 2 >= smallest:
        side, levels = side // 2, levels + 1
    return levels
