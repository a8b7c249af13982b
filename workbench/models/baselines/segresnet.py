"""SegResNet (Myronenko, *3D MRI brain tumor segmentation using autoencoder regularization*, arXiv 1810.11654), MONAI's form.

Residual blocks with group normalisation before each convolution: 1, 2, 2 and 4 blocks at widths 32, 64, 128 and 256, strided
convolutions down; on the way up 1^3 convolution, trilinear upsampling, addition of the encoder's features, one block per level.
The paper trains on 160 x 192 x 128 patches with dropout 0.2 after the first convolution.

Departures from the paper:
1. No variational autoencoder branch (the paper's regulariser): MONAI's `SegResNet` is the network without it.
2. Softmax over labels and Dice with cross-entropy, the workbench's loss, instead of sigmoid Dice over nested regions.
3. The workbench's patches are cubes: 128^3 by default.
4. ReLU not in place, which Grad-CAM's hooks need; the same numbers.

Parameters (4 sequences, 4 classes): 18,798,660.
"""

from __future__ import annotations

from monai.networks.nets import SegResNet as MonaiSegResNet
from torch import Tensor

from workbench.models.baselines.facts import SegResNetOptions
from workbench.models.networks import SegmentationNetwork, draw_levels

BLOCKS_DOWN, BLOCKS_UP = (1, 2, 2, 4), (1, 1, 1)


class SegResNet(SegmentationNetwork):
    """Myronenko's network without its autoencoder branch; markers are ignored."""

    name = "segresnet"
    divisor = 8
    minimum = 16
    options: SegResNetOptions

    def build(self) -> None:
        """Build MONAI's network."""
        self.net = MonaiSegResNet(
            spatial_dims=3,
            init_filters=self.options.width,
            in_channels=len(self.modalities),
            out_channels=self.classes,
            dropout_prob=self.options.stem_dropout or None,
            act=("RELU", {"inplace": False}),
            norm=("GROUP", {"num_groups": 8}),
            blocks_down=BLOCKS_DOWN,
            blocks_up=BLOCKS_UP,
        )

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z)."""
        return (self.net(images),)

    def cam_layers(self) -> tuple[str, ...]:
        """The deepest encoder level, then the one above."""
        return "net.down_layers.3", "net.down_layers.2"

    def diagram(self) -> str:
        """Levels as columns."""
        width = self.options.width
        down = [(f"{width * 2**k} features", f"{n} residual block{'s' if n > 1 else ''}") for k, n in enumerate(BLOCKS_DOWN)]
        up = [(f"{width * 2**k} features", "add, 1 residual block") for k in range(3)]
        return draw_levels("SegResNet", self, down[:3], down[3], up)
