"""The Swin backbone that MTS-UNET, SwinUNETR and the Swin pretraining share: MONAI's SwinUNETR in BrainSegFounder's three sizes.

Tiny has 2-2-2-2 blocks (62.19 M parameters at feature size 48, four sequences, four classes), Small 2-2-6-2 (64.08 M), Big
2-2-18-2 (69.73 M); heads 3-6-12-24 (Cox et al., arXiv 2406.10395).

Patch merging concatenates the eight sub-grids of 2^3 neighbouring tokens and projects them. MONAI up to 1.4 took two of them
twice and left two out; MONAI 1.5 put that right. Both forms have the same parameters, so that a file says nothing about the form
it was trained with, and weights read with the other form give other outputs without any error. Hence `merging`:

    legacy   000 100 010 001 101 010 001 111     MONAI <= 1.4: BrainSegFounder's files, model_swinvit.pt, BraTS21 SwinUNETR
    current  000 100 010 001 110 101 011 111     MONAI >= 1.5: every token is read once; the default for training from scratch
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging, PatchMergingV2, SwinTransformer, SwinUNETR
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.swin.facts import ENCODER_DEPTHS, SwinOptions

HEADS = (3, 6, 12, 24)
"""Attention heads per stage."""
LEGACY_ORDER = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))
"""First token of each sub-grid along (X, Y, Z), in the order MONAI <= 1.4 concatenated them: 110 and 011 are never read."""


class LegacyPatchMerging(PatchMergingV2):
    """Patch merging as MONAI <= 1.4 computed it; parameters and keys are those of the current form."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, X, Y, Z, C) -> (B, X / 2, Y / 2, Z / 2, 2 C); odd sides are padded by one."""
        sides = x.shape[1:4]
        if any(side % 2 for side in sides):
            x = F.pad(x, (0, 0, 0, sides[2] % 2, 0, sides[1] % 2, 0, sides[0] % 2))
        merged = torch.cat([x[:, i::2, j::2, k::2] for i, j, k in LEGACY_ORDER], dim=-1)
        return self.reduction(self.norm(merged))


def swin_encoder(modalities: int, options: SwinOptions) -> SwinTransformer:
    """The encoder alone, as `SwinBackbone` has it under `swinViT`, with the same names."""
    return SwinTransformer(
        in_chans=modalities,
        embed_dim=options.feature_size,
        window_size=(options.window,) * 3,
        patch_size=(2, 2, 2),
        depths=ENCODER_DEPTHS[options.encoder],
        num_heads=HEADS,
        use_checkpoint=options.checkpointing,
        downsample=LegacyPatchMerging if options.merging == "legacy" else PatchMerging,
        use_flash_attention=True,
    )


def leave_out_blocks(network: nn.Module) -> None:
    """Every Swin block of a network replaced by the identity: an ablation. All else stays, its initial weights too, since they
    were drawn when the blocks were still there; MONAI's stage then hands its input on, to patch merging where it has one."""
    for stage in network.modules():
        if isinstance(stage, BasicLayer):
            stage.blocks = nn.ModuleList()


class SwinBackbone(SwinUNETR):
    """MONAI's SwinUNETR with its encoder and decoder as separate steps; keys are MONAI's.

    Args:
        modalities: input channels.
        classes: output channels.
        feature_size: width of the first state; a multiple of 12.
        window: side of the attention windows.
        checkpointing: recompute activations in the backward pass.
        encoder: 'tiny', 'small' or 'big': blocks per stage.
        merging: 'current' or 'legacy', see the module's docstring.
    """

    def __init__(
        self,
        modalities: int,
        classes: int,
        feature_size: int,
        window: int,
        checkpointing: bool,
        encoder: str = "tiny",
        merging: str = "current",
    ) -> None:
        super().__init__(
            in_channels=modalities,
            out_channels=classes,
            feature_size=feature_size,
            depths=ENCODER_DEPTHS[encoder],
            num_heads=HEADS,
            window_size=window,
            use_checkpoint=checkpointing,
            downsample=LegacyPatchMerging if merging == "legacy" else "merging",  # type: ignore[arg-type]  # MONAI takes a class
            use_flash_attention=True,  # without gradients only: half the time on a CPU, equal to about 1e-6
        )

    @classmethod
    def from_options(cls, modalities: int, classes: int, options: SwinOptions) -> SwinBackbone:
        """The backbone that a method's options describe."""
        return cls(
            modalities, classes, options.feature_size, options.window, options.checkpointing, options.encoder, options.merging
        )

    def encode(self, images: Tensor) -> list[Tensor]:
        """(B, M, X, Y, Z) -> five states (B, f 2^i, X / 2^(i+1), ...), not normalised."""
        return list(self.swinViT(images, False))

    def layer_norm(self, state: Tensor) -> Tensor:
        """Affine-free layer norm over channels: what SwinUNETR hands to its decoder."""
        return self.swinViT.proj_out(state, True)

    def decode(self, images: Tensor, states: Sequence[Tensor]) -> Tensor:
        """Images and states -> logits (B, C, X, Y, Z)."""
        s0, s1, s2, s3, s4 = (self.layer_norm(state) for state in states)
        x = self.encoder10(s4)
        x = self.decoder5(x, s3)
        x = self.decoder4(x, self.encoder4(s2))
        x = self.decoder3(x, self.encoder3(s1))
        x = self.decoder2(x, self.encoder2(s0))
        return self.out(self.decoder1(x, self.encoder1(images)))
