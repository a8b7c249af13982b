"""UNETR (Hatamizadeh et al., *UNETR: Transformers for 3D Medical Image Segmentation*, arXiv 2103.10504) on MONAI's blocks.

A ViT-B/16 reads the volume as a sequence of 16^3-voxel tokens: 12 layers, width 768, 12 heads, MLPs of 3072. Its states after
layers 4, 7, 10 and 12 are folded back into volumes and joined by a convolutional decoder:

    z_0 = [x_1 E; x_2 E; ...; x_N E] + E_pos       x_i: tokens of 16^3 voxels, N = X Y Z / 16^3
    z'  = MSA(LN(z)) + z,   z = MLP(LN(z')) + z'    twelve times

Departures from the paper:
1. Position embeddings belong to a grid (`positions`, 128^3 by default, the paper's brain tumour patch); for other sizes they are
   interpolated trilinearly, as ViTs are commonly fine-tuned at another resolution (Dosovitskiy et al., arXiv 2010.11929,
   section 3.2). MONAI's own module takes one size only.
2. MONAI 1.6 gives every layer a norm for a cross-attention that is not there; these parameters never get a gradient and are
   removed (12 x 1,536 at the published size).
3. Attention through PyTorch's scaled_dot_product_attention: the same numbers, less memory.
4. The paper writes z_3, z_6 and z_9 for the skipped states; MONAI, by the same authors, takes those after layers 4, 7 and 10.

Parameters (4 sequences, 4 classes): 102,449,732, of which 393,216 position embeddings. With one sequence, 14 classes and 96^3,
as in the paper's abdominal task, 92,784,046; the paper reports 92.58 M.
"""

from __future__ import annotations

from monai.networks import nets
from monai.networks.blocks.selfattention import SABlock
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.baselines import diagram
from workbench.models.baselines.facts import TOKEN, UNETROptions
from workbench.models.networks import SegmentationNetwork


class UNETR(SegmentationNetwork):
    """ViT encoder, convolutional decoder; markers are ignored."""

    name = "unetr"
    divisor = TOKEN
    minimum = TOKEN
    options: UNETROptions

    def build(self) -> None:
        """MONAI's network, less what it never uses."""
        options = self.options
        self.net = nets.UNETR(
            in_channels=len(self.modalities),
            out_channels=self.classes,
            img_size=(options.positions,) * 3,
            feature_size=options.width,
            hidden_size=options.hidden,
            mlp_dim=options.mlp,
            num_heads=options.heads,
        )
        for block in self.net.vit.blocks:
            block.register_module("norm_cross_attn", nn.Identity())
        for module in self.net.modules():
            if isinstance(module, SABlock):
                module.use_flash_attention = True

    def tokens(self, images: Tensor) -> Tensor:
        """(B, M, X, Y, Z) -> (B, N, hidden): projected tokens with position embeddings."""
        embedding = self.net.vit.patch_embedding
        projected = embedding.patch_embeddings(images)
        edge = self.options.positions // TOKEN
        learned = embedding.position_embeddings.transpose(1, 2).reshape(1, -1, edge, edge, edge)
        if projected.shape[2:] != learned.shape[2:]:
            learned = F.interpolate(learned, size=projected.shape[2:], mode="trilinear", align_corners=False)
        return embedding.dropout((projected + learned).flatten(2).transpose(1, 2))

    def segment(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, M, X, Y, Z) -> logits (B, C, X, Y, Z)."""
        net, grid = self.net, [side // TOKEN for side in images.shape[2:]]

        def volume(state: Tensor) -> Tensor:
            return state.transpose(1, 2).reshape(len(state), -1, *grid)

        state, states = self.tokens(images), []
        for block in net.vit.blocks:
            state = block(state)
            states.append(state)
        x = net.decoder5(volume(net.vit.norm(state)), net.encoder4(volume(states[9])))
        x = net.decoder4(x, net.encoder3(volume(states[6])))
        x = net.decoder3(x, net.encoder2(volume(states[3])))
        return (net.out(net.decoder2(x, net.encoder1(images))),)

    def cam_layers(self) -> tuple[str, ...]:
        """The decoder's first two joins: transformer states are sequences, which Grad-CAM cannot lay on the volume."""
        return "net.decoder5", "net.decoder4"

    def diagram(self) -> str:
        """The transformer as a chain, the decoder below."""
        return diagram.unetr(self.options, self.modalities, self.classes)
