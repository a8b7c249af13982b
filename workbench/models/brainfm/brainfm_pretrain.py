"""BrainFM-MRI's pretraining (arXiv 2511.03014): masked autoencoding of tokens of any sequences, told apart by their text.

    L = L_MAE + w_var L_var + w_cov L_cov
    L_MAE   mean (predicted - true)^2 over the masked, acquired, finite voxels of the z-scored images
    L_var   mean_j ReLU(1 - std_j),  L_cov  (1/D) sum_{i != j} Cov_ij^2, of all visible tokens of the batch

80 % of a case's tokens are masked, over all its sequences together; the encoder (`encoder`) reads the visible ones
only, a decoder (`decoder`) gives the voxels of all back. With probability `imputation` one whole sequence is among the
masked. Weights 0.1 and 0.003 rise linearly over the first five of forty epochs. Written from the paper's equations: the
authors' code has no licence, and its main branch has no regulariser at all.

Departures, each from a defect of the published code or where paper and code are silent:
1. How many tokens of a case are visible follows from its own sequences: the batch is cut into buckets. The code takes the
   smallest count of the batch, so that one single-sequence session leaves a four-sequence one 5 % of its tokens
   (`keep=batch_minimum`).
2. Conditional layer norm is layer norm at the start (the code's global initialisation undoes that).
3. Predictions are not clamped: z-scores below 0 and above 1 are learned too.
4. A sequence is known by a full phrase, not by a file's name (`modality_text`); BioBERT's vectors are an option (`embeddings`).
5. Imputation (own reading of the extended abstract): one sequence, drawn uniformly, of samples with two or more.
6. `dev` takes the published step numbers as shares of the run; learning rate and schedule are the workbench's, in steps
   throughout.
7. The workbench resamples and crops to the brain instead of cutting 128^3 out of images as they are; background counts in the
   loss, as published, and is told apart in the scores: the checkpoint is chosen by the error in the brain.
8. Vectors of cases are means over their visible, acquired tokens; the code drops the first token and forgets the padding.
9. What modality dropout took away counts as absent; what is reconstructed is the image before intensity augmentation.
10. Variance and covariance are each process's own where there are several.
11. Without `padding_mask` the loss and the two terms count what was padded, too; scores never do.
12. A masked token is given the embedding of its own sequence. The published code gathers the embeddings in the order of the
   sequence and places them in that of its masking: with three sequences some 65 % of its masked tokens are given another's.

Encoder, decoder (`decoder` published), terms and schedule (`regularisation` dev) equal the public code's on its weights to float
error (`tests/parity`); `released` loads its encoder into `brainfm`.

Parameters at the published size: see the catalogue; tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from workbench.contracts import Batch, Prediction
from workbench.models.brainfm import diagram
from workbench.models.brainfm.decoder import MaskedDecoder
from workbench.models.brainfm.encoder import BrainFMEncoder, buckets
from workbench.models.brainfm.facts import BrainFMPretrainOptions
from workbench.models.brainfm.open_channels import OpenChannels
from workbench.models.brainfm.pretext import covariance_term, draw_visible, keep_count, regularisation_weights, variance_term
from workbench.models.brainfm.transfer import MUST_AGREE
from workbench.models.pretraining import Examination, PretrainingModule


class BrainFMPretrain(OpenChannels, PretrainingModule):
    """The masked autoencoder; see the module's docstring."""

    name = "brainfm_pretrain"
    score_metric = "foreground_mse"
    picture_metric = "foreground_mse"
    draws_subsets = True
    options: BrainFMPretrainOptions

    def __init__(
        self, *, modalities: Sequence[str], classes: int = 2, markers: Sequence[str] = (), options: BrainFMPretrainOptions
    ) -> None:
        super().__init__(modalities=modalities, options=options)
        self.divisor, self.minimum = options.token, 2 * options.token  # of one token nothing could be masked
        self.encoder = BrainFMEncoder(options, self.modalities)
        self.decoder = MaskedDecoder(options)

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """In training: masked tokens given back. In evaluation: one vector per case, of its images as they are."""
        if self.training:
            return Prediction(auxiliary=self.reconstruct(images, present, self.options.imputation))
        return Prediction(auxiliary={"features": self.pooled_features(images, present)})

    def reconstruct(self, images: Tensor, present: Tensor, imputation: float) -> dict[str, Tensor]:
        """Mask, encode what is visible, decode.

        Returns:
            'reconstruction' (B, M, X, Y, Z), zero for sequences that are not read; 'masked' of that shape, bool: the voxels
            that are asked for; 'visible' (N, D), the encoder's states of all visible tokens of the batch.
        """
        encoder, grid = self.encoder, self.encoder.grid(images)
        images, present = encoder.readable(images, present)
        count = grid[0] * grid[1] * grid[2]
        condition, places = encoder.modality(self.channels, images), encoder.places(grid)
        back = torch.zeros_like(images, dtype=torch.float32, memory_format=torch.contiguous_format)
        masked = torch.zeros(images.shape, dtype=torch.bool, device=images.device)
        fewest = keep_count(int(present.sum(1).min()) * count, self.options.mask_ratio)
        visible = []
        for bucket in buckets(present):
            rows, number = bucket.samples[:, None], bucket.channels.shape[1]
            own = keep_count(number * count, self.options.mask_ratio)
            keep = own if self.options.keep == "own" else fewest
            shown = draw_visible(len(rows), number, count, keep, imputation, images.device)
            patches = torch.nan_to_num(encoder.patches(images[rows, bucket.channels])).flatten(1, 2)  # (b, n T, voxels)
            kinds = bucket.channels.repeat_interleave(count, dim=1)
            where = condition[kinds] + places.repeat(number, 1)  # (b, n T, D)
            sample = torch.arange(len(rows), device=images.device)[:, None]
            states = encoder(encoder.embed(patches[sample, shown]) + where[sample, shown], condition, kinds[sample, shown])[0]
            positions = places.repeat(number, 1).expand_as(where) if self.options.decoder_form == "published" else None
            voxels = self.decoder(states, shown, where, positions)
            hidden = torch.ones(kinds.shape, dtype=torch.bool, device=images.device).scatter(1, shown, False)
            back[rows, bucket.channels] = encoder.volumes(voxels.unflatten(1, (number, count)), grid).float()
            everywhere = hidden[:, :, None].expand(-1, -1, patches.shape[2])
            masked[rows, bucket.channels] = encoder.volumes(everywhere.unflatten(1, (number, count)), grid)
            visible.append(states.flatten(0, 1))
        return {"reconstruction": back, "masked": masked, "visible": torch.cat(visible)}

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Mean squared error of the masked voxels, and the two terms with their weights of the moment."""
        found = prediction.auxiliary
        wanted = batch.images if batch.target is None else batch.target
        target, _ = self.arrange(wanted, batch.present, batch.modalities)
        asked = found["masked"] & torch.isfinite(target)
        error = torch.where(asked, found["reconstruction"] - torch.nan_to_num(target.float()), 0.0)
        terms = {"masked_mse": error.square().sum() / asked.sum().clamp_min(1)}
        if self.options.regularisation != "none":
            variance, covariance = regularisation_weights(
                progress, self.options.regularisation, self.options.regularisation_warmup
            )
            biased = self.options.regularisation == "dev" and self.options.published_as == "released"
            terms["variance"] = variance * variance_term(found["visible"], biased=biased)
            terms["covariance"] = covariance * covariance_term(found["visible"])
        return terms

    @torch.no_grad()
    def examine(self, images: Tensor, present: Tensor, modalities: Sequence[str] | None = None, *, seed: int) -> Examination:
        """Each case masked once, and, where it has two or more sequences, once more with one whole sequence masked.

        Metrics: `masked_mse` over all masked voxels, `foreground_mse` over those in the brain, `zero_mse` what zeros would have
        there, `imputed_mse` in the brain of the case with one sequence masked entirely (NaN with one sequence).
        """
        self.check_size(images.shape[2:])
        images, present = self.arrange(images, present, modalities)
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
            torch.manual_seed(seed)
            found, imputed = (self.reconstruct(images, present, share) for share in (0.0, 1.0))
        brain = (images != 0).any(1, keepdim=True)
        back, masked = found["reconstruction"], found["masked"] & present[:, :, None, None, None]
        whole = imputed["masked"].flatten(2).all(2) & present & (present.sum(1, keepdim=True) > 1)
        metrics = {
            "masked_mse": _mse(back - images, masked),
            "foreground_mse": _mse(back - images, masked & brain),
            "zero_mse": _mse(images, masked & brain),
            "imputed_mse": _mse(imputed["reconstruction"] - images, whole[:, :, None, None, None] & brain),
        }
        pictures = {"shown": images.masked_fill(masked, 0), "reconstructed": torch.where(masked, back, images), "wanted": images}
        return Examination(metrics, brain.flatten(1).sum(1), pictures)

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, D): mean of the tokens of the sequences that are there, after the last layer."""
        return self.token_features(images, present).mean(1)

    def token_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, T, D): tokens after the last layer, averaged over the sequences that are there."""
        images, present = self.encoder.readable(images, present)
        condition = self.encoder.modality(self.channels, images)
        return self.encoder.encode(self.encoder.tokens(images, condition), condition, present)[-1]

    def encoder_state(self) -> dict[str, Tensor]:
        """Everything but the decoder."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("encoder.")}

    def encoder_description(self) -> Mapping[str, Any]:
        """What a model must agree with to start from the encoder."""
        options = self.options.without_later(self.options.model_dump(include=set(MUST_AGREE)))
        own = {"architecture": "brainfm", "method": self.name, "modalities": list(self.modalities)}
        return own | {"embeddings": self.modality_embedding.digest} | options

    def diagram(self) -> str:
        """Tokens, mask, encoder, decoder, and what is compared."""
        return diagram.pretraining(self.options, self.modalities, self.modality_embedding.legend)


def _mse(difference: Tensor, where: Tensor) -> Tensor:
    """(B,) mean square over `where`; NaN where a case has no such voxel."""
    counted = where & torch.isfinite(difference)
    squares = torch.where(counted, difference.float().square(), 0.0)
    return squares.flatten(1).sum(1) / counted.flatten(1).sum(1)
