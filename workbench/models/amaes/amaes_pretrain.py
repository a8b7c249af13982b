"""AMAES: a masked autoencoder of single brain images, with augmentation reversal (Munk et al., arXiv 2408.00640).

    x        one sequence of one case, (1, X, Y, Z), after random changes in space
    x~       the same after random changes of intensity                       what is shown
    hidden   60 % of the units of 4^3 voxels of x~, set to 0
    L        mean over all voxels of (decoder(encoder(x~ not hidden)) - x)^2

The network has to fill in what is hidden and, where intensities were changed, to undo that (`reversal`). Without skips everything
passes through the deepest map. Each sequence that a case has is an image by itself: any cohort will do, and an encoder has seen
them all through one channel. The decoder is thrown away.

Departures from the published code:
1. Intensities are the workbench's z-scores, with 0 outside the brain, not [0, 1]: hidden units are 0, as there, which is the air
   and the brain's mean here.
2. Intensity changes are the workbench's (bias field, gamma, noise); blur, ghosting, Gibbs ringing and low resolution are not.
   They belong to the run: with `augment` false there is nothing to reverse, which is the published plain masked autoencoder.
3. Of the n units of each image, n - floor(0.4 n) are hidden (published), drawn afresh for each image.
4. An absent sequence is no image; one that modality dropout took away is none either.
5. Batches count cases, not images. The optimiser's settings and 128^3 patches are the published ones.
6. Only the U-Nets are here. MONAI's MedNeXt-M and -L have 17.5 and 61.7 M parameters, the paper's 21 and 55 M: not the same.
7. With `masked_only` the published loss is the hidden voxels' squares over the number of all voxels; `masked_mean` hidden makes
   it their mean.

Networks and losses equal the public code's on its weights to float error (`tests/parity`); its convolutions have biases, which
instance norm takes away. The published checkpoints (no licence is given) are read by `amaes` (`released`).

Parameters: 17,877,153 (width 32), of which the encoder, what is kept, has 14,132,960. With the decoder of `amaes` 22.6 M; the
paper: 22 M. Width 64: 90.3 M; the paper: 90 M.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.contracts import Batch, Prediction
from workbench.errors import ParameterError
from workbench.models.amaes import diagram
from workbench.models.amaes.facts import AmaesPretrainOptions
from workbench.models.amaes.unet import ARCHITECTURE, LEVELS, Encoder, LightDecoder, features
from workbench.models.losses import zero_loss
from workbench.models.pretraining import Examination, PretrainingModule, reconstruction_examined


class AmaesPretrain(PretrainingModule):
    """Masked autoencoding of single sequences; see the module's docstring."""

    name = "amaes_pretrain"
    divisor = 2 ** (LEVELS - 1)
    minimum = 2 * divisor  # instance norm needs more than one voxel at 1/16
    options: AmaesPretrainOptions

    def __init__(
        self, *, modalities: Sequence[str], classes: int = 2, markers: Sequence[str] = (), options: AmaesPretrainOptions
    ) -> None:
        super().__init__(modalities=modalities, options=options)
        self.encoder = Encoder(1, options.width)
        self.decoder = LightDecoder(options.width)

    def check_size(self, shape: Sequence[int]) -> None:
        """As every method, and whole units."""
        super().check_size(shape)
        unit = self.options.mask_unit
        if any(side % unit for side in shape):
            sides = "x".join(map(str, shape))
            raise ParameterError(f"{self.name} hides units of {unit}^3 voxels: sides must be multiples of {unit}; found {sides}")

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """In training units are hidden and `hidden` says which; in evaluation the images are read as they are."""
        if not self.training:
            return Prediction(auxiliary={"reconstruction": self.reconstruct(images, present)})
        hidden = self.draw_hidden(images.shape, images.device)
        shown = images.masked_fill(hidden, 0.0)
        return Prediction(auxiliary={"reconstruction": self.reconstruct(shown, present), "hidden": hidden})

    def draw_hidden(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """(B, M, X, Y, Z) bool: the share of each image's units, drawn from torch's global generator on the CPU."""
        unit, sides = self.options.mask_unit, shape[2:]
        grid = [side // unit for side in sides]
        count = grid[0] * grid[1] * grid[2]
        order = torch.rand(*shape[:2], count).argsort(dim=2).argsort(dim=2)  # rank of each unit
        shown = int(count * (1 - self.options.masked_share))
        hidden = (order < count - shown).view(*shape[:2], *grid)
        for axis in (2, 3, 4):
            hidden = hidden.repeat_interleave(unit, dim=axis)
        return hidden.to(device)

    def reconstruct(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, M, X, Y, Z) -> the same, each sequence from itself alone; zero where it is absent."""
        flat, there = images.flatten(0, 1)[:, None], present.flatten()
        if there.is_meta or bool(there.all()):  # on the meta device operations are only counted
            return self.decoder(self.encoder(flat)[-1]).view_as(images)
        found = self.decoder(self.encoder(flat[there])[-1])
        placed = found.new_zeros(flat.shape)
        placed[there] = found
        return placed.view_as(images)

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Mean squared error over all voxels of the sequences that were shown; with `masked_only` the hidden ones' squares, over
        the number of all voxels or of the hidden ones (`masked_mean`)."""
        wanted = batch.target if self.options.reversal and batch.target is not None else batch.images
        target, present = self.arrange(wanted, batch.present, batch.modalities)
        reconstruction = prediction.auxiliary["reconstruction"]
        there = present[:, :, None, None, None].expand_as(target)
        masked = self.options.masked_only and "hidden" in prediction.auxiliary
        counted = there & prediction.auxiliary["hidden"] if masked else there
        if not bool(counted.any()):
            return {"reconstruction": zero_loss(reconstruction)}
        divisor = there if self.options.masked_mean == "all" else counted
        return {"reconstruction": (reconstruction - target)[counted].square().sum() / divisor.sum()}

    @torch.no_grad()
    def examine(self, images: Tensor, present: Tensor, modalities: Sequence[str] | None = None, *, seed: int) -> Examination:
        """Units are hidden with the seed and asked for.

        Metrics, over the brain voxels of the sequences that are there: `reconstruction_l1`, `hidden_l1` the same inside the
        hidden units, `zero_l1` what a reconstruction of zeros would have inside them.
        """
        self.check_size(images.shape[2:])
        images, present = self.arrange(images, present, modalities)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = self.draw_hidden(images.shape, images.device)
        shown = images.masked_fill(hidden, 0.0)
        back = self.reconstruct(shown, present).float()
        return reconstruction_examined(images, present, hidden, shown, back)

    def encoder_state(self) -> dict[str, Tensor]:
        """The encoder under the names that `amaes` has."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("encoder.")}

    def encoder_description(self) -> Mapping[str, Any]:
        """What a U-Net must agree with; `modalities` are those that went through its one channel."""
        return {
            "architecture": ARCHITECTURE,
            "method": self.name,
            "modalities": list(self.modalities),
            "width": self.options.width,
        }

    def diagram(self) -> str:
        """What is shown, and what is wanted back."""
        return diagram.pretraining(self.options, features(self.options.width))
