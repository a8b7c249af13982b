"""nnU-Net's 3-D full-resolution recipe (Isensee et al., Nature Methods 2021; version 2). Segmentation only.

Network: `plain_unet.PlainUNet`: per stage two 3^3 convolutions with bias, instance norm and leaky ReLU (0.01), strided
convolutions down, transposed convolutions up, features 32, 64, 128, 256, 320, 320. Loss: soft Dice of the foreground plus
cross-entropy at every decoder level, weights 1, 1/2, 1/4, ..., the coarsest 0, normalised to sum 1. At `size=paper` the rest
of the recipe is `recipe.NNUNET` (SGD with Nesterov momentum 0.99, 1e-2, polynomial decay, 1000 epochs of 250 steps of two
patches, a third of them centred on foreground; nnU-Net's augmentation; windows with Gaussian weights, half overlapping,
mirrored along all axes), which MoME, MoME+ and the pooled U-Net share. `size=demo` is a short training of a small network.

`encoder` residual is the network of nnU-Net's residual-encoder plans (arXiv 2404.09556), 102,353,972 parameters (4 sequences, 4
classes); of these plans the patch and batch sizes, which follow the memory of the GPU, are left to the parameters.

Departures from nnU-Net v2:
1. No plan is made from the data: isotropic working resolution, hence 3^3 kernels and strides of 2 throughout, and one patch
   and batch size. Depth by nnU-Net's rule: every side is halved while it stays at 4 or more.
2. An absent sequence is a channel of zeros.
3. The learning rate falls by the step, nnU-Net's by the epoch. The weights that validate best are used, nnU-Net's last ones;
   validation during training is not mirrored, and judges whole cases.
4. Exactly a third of the patches is centred on foreground; nnU-Net asks for 33 % and rounds up within the batch, which makes
   every second of two.
5. Augmentation as far as `sampling.augmentation` departs from it. No case is split into several patches of one batch.
6. bfloat16 instead of float16 on a GPU, without loss scaling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.method import MethodModule
from workbench.models.networks import draw_levels, supervise
from workbench.models.plain_unet import PlainUNet, ResidualEncoderUNet, stage_features
from workbench.models.unet.facts import UNetOptions

RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)
"""Residual blocks per level by nnU-Net's ResEnc plans."""


class UNet(MethodModule):
    """nnU-Net's U-Net; markers are ignored."""

    name = "unet"
    options: UNetOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: UNetOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        self.features = stage_features(options.width, options.levels)
        self.divisor = 2 ** (options.levels - 1)
        self.blocks = RESIDUAL_BLOCKS[: options.levels]
        self.minimum = 2 * self.divisor  # instance norm needs more than one voxel at the bottom
        heads = None if options.deep_supervision else 1
        self.net = (
            PlainUNet(len(self.modalities), self.classes, self.features, heads=heads)
            if options.encoder == "plain"
            else ResidualEncoderUNet(len(self.modalities), self.classes, self.features, self.blocks, heads=heads)
        )

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z); in training also those of the coarser levels, at their own resolution."""
        if SEGMENTATION not in tasks:
            return Prediction()
        finest, *coarser = self.net(images, coarse=self.training).logits
        return Prediction(finest, auxiliary={f"level{index}": logits for index, logits in enumerate(coarser, start=1)})

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Soft Dice plus cross-entropy at all levels, as the options say without the coarsest."""
        if prediction.segmentation is None:
            return {}
        outputs = [prediction.segmentation, *prediction.auxiliary.values()]
        lowest = None if self.options.supervise_coarsest else 0.0
        return {"segmentation": supervise(outputs, batch, lowest=lowest, batch_dice=self.options.batch_dice)}

    def upgraded(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of the time when this was MONAI's DynUNet: the same arithmetic, with biases that are zero."""
        if "body.downsample.conv1.conv.weight" not in state:
            return state
        last, own = len(self.features) - 1, self.state_dict()
        renamed = {"head.conv.conv": "net.heads.0"}
        for level in range(last + 1):
            old = ".".join(["body", *["next_layer"] * level])
            blocks = {old if level == last else f"{old}.downsample": f"net.encoder.{level}"}
            if level < last:
                step = last - 1 - level  # the decoder counts from the bottom
                blocks[f"{old}.upsample.conv_block"] = f"net.decoder.{step}"
                renamed[f"{old}.upsample.transp_conv.conv"] = f"net.up.{step}"
                renamed[f"{old}.super_head.conv.conv"] = f"net.heads.{level}"
            for block, new in blocks.items():
                for part in (0, 1):
                    renamed[f"{block}.conv{part + 1}.conv"] = f"{new}.{part}.conv"
                    renamed[f"{block}.norm{part + 1}"] = f"{new}.{part}.adn.N"
        parts = [(old, new, kind) for old, new in renamed.items() for kind in ("weight", "bias")]
        found = {f"{new}.{kind}": state[f"{old}.{kind}"] for old, new, kind in parts if f"{old}.{kind}" in state}
        missing = [name for name in own if name.endswith(".bias") and name not in found]
        return found | {name: torch.zeros_like(own[name]) for name in missing if f"{name.removesuffix('bias')}weight" in found}

    def cam_layers(self) -> tuple[str, ...]:
        """The last encoder stage before the bottom, then the bottom."""
        last = len(self.features) - 1
        return f"net.encoder.{last - 1}", f"net.encoder.{last}"

    def diagram(self) -> str:
        """Levels as columns, encoder above, decoder below."""
        last = len(self.features) - 1
        supervised = max(1, last - (not self.options.supervise_coarsest)) if self.options.deep_supervision else 1
        scales = ["full size", *(f"1/{2**level}" for level in range(1, last))]
        if self.options.encoder == "residual":
            scales = [f"{scale}, {n} residual block{'s' if n > 1 else ''}" for scale, n in zip(scales, self.blocks, strict=False)]
        down = [(f"{features} features", scale) for features, scale in zip(self.features, scales, strict=False)]
        up = [(f"{features} features", "supervised" if k < supervised else "") for k, features in enumerate(self.features[:-1])]
        bottom = (f"{self.features[-1]} features", f"1/{self.divisor}")
        return draw_levels("U-Net (nnU-Net recipe)", self, down, bottom, up)
