"""U-Net by nnU-Net's recipe (Isensee et al., Nature Methods 2021) on MONAI's DynUNet. Segmentation only.

Plain convolutional encoder and decoder: two 3^3 convolutions with instance norm and leaky ReLU (0.01) per level, strided
convolutions down, transposed convolutions up, features 32, 64, 128, 256, 320, 320; Dice plus cross-entropy at all but the
two coarsest levels, weights halving per level and normalised to sum 1.

Departures from nnU-Net:
1. Isotropic working resolution, hence 3^3 kernels and strides of 2 throughout. Depth by nnU-Net's rule: every side is
   halved while it stays at 4 or more.
2. No bias in convolutions (instance norm follows and removes it), as DynUNet has it.
3. An absent modality is a channel of zeros.
4. Optimiser and schedule are the workbench's, the same for all methods.

Parameters at the paper's size (4 sequences, 4 classes): see the catalogue; tested.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DynUNet
from torch import Tensor

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.losses import downsample_labels, segmentation_loss
from workbench.models.method import MethodModule
from workbench.models.networks import draw_levels
from workbench.models.unet.facts import UNetOptions


class UNet(MethodModule):
    """nnU-Net's plain U-Net; markers are ignored."""

    name = "unet"
    options: UNetOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: UNetOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        levels = options.levels
        self.features = tuple(min(options.width * 2**level, options.width * 10) for level in range(levels))
        self.divisor = 2 ** (levels - 1)
        self.minimum = 2 * self.divisor  # instance norm needs more than one voxel at the bottom
        strides = [1] + [2] * (levels - 1)
        self.supervised = max(1, levels - 2) if options.deep_supervision else 0  # heads besides the full-resolution one
        net = DynUNet(
            spatial_dims=3,
            in_channels=len(self.modalities),
            out_channels=self.classes,
            kernel_size=[3] * levels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=self.features,
            norm_name=("INSTANCE", {"affine": True}),
            act_name=("leakyrelu", {"inplace": False, "negative_slope": 0.01}),  # in place would break Grad-CAM's hooks
            deep_supervision=bool(self.supervised),
            deep_supr_num=max(1, self.supervised),
        )
        # DynUNet registers every block twice (by list and by nesting), which safetensors refuses: keep the nesting only
        self.body, self.head = net.skip_layers, net.output_block
        self.coarse: list[Tensor] = net.heads  # the blocks write their deep-supervision logits here

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z); in training also those of the coarser levels, at their own resolution."""
        if SEGMENTATION not in tasks:
            return Prediction()
        # DynUNet's own forward would enlarge every coarse head to full size and stack them; the heads themselves are enough
        segmentation = self.head(self.body(images))
        auxiliary: dict[str, Tensor] = {}
        if self.supervised:
            if self.training:
                auxiliary = {f"level{index + 1}": head for index, head in enumerate(self.coarse)}
            self.coarse[:] = [torch.empty(0)] * len(self.coarse)  # else they hold this step's graph in memory
        return Prediction(segmentation=segmentation, auxiliary=auxiliary)

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Deep supervision: sum over levels of 2^-level x loss on labels of that resolution, weights normalised."""
        if prediction.segmentation is None:
            return {}
        outputs = [prediction.segmentation, *prediction.auxiliary.values()]
        weights = [0.5**level for level in range(len(outputs))]
        total = sum(
            (weight / sum(weights))
            * segmentation_loss(
                logits,
                None if batch.labels is None else downsample_labels(batch.labels, logits.shape[2:]),
                batch.label_set,
            )
            for weight, logits in zip(weights, outputs, strict=True)
        )
        return {"segmentation": torch.as_tensor(total)}

    def cam_layers(self) -> tuple[str, ...]:
        """The last encoder level before the bottom, then the bottom."""
        deepest = ".".join(["body", *["next_layer"] * (len(self.features) - 2)])
        return f"{deepest}.downsample", f"{deepest}.next_layer"

    def diagram(self) -> str:
        """Levels as columns, encoder above, decoder below."""
        last, supervised = len(self.features) - 1, max(1, self.supervised + 1)
        scales = ["full size", *(f"1/{2**level}" for level in range(1, last))]
        down = [(f"{features} features", scale) for features, scale in zip(self.features, scales, strict=False)]
        up = [(f"{features} features", "supervised" if k < supervised else "") for k, features in enumerate(self.features[:-1])]
        bottom = (f"{self.features[-1]} features", f"1/{self.divisor}")
        return draw_levels("U-Net (nnU-Net recipe)", self, down, bottom, up)
