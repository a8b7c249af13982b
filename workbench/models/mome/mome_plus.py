"""MoME+: MoME for all available sequences together (the journal version, IEEE TMI 2025). Segmentation only.

Each expert reads its own sequence; where that is missing, a dispatch network mixes it from the available ones. With c in {0, 1}^M
saying which are available:

    A   = MLP(c), M -> M -> 2M -> M^2 -> M^2 with ReLU between, read as an M x M matrix (4-4-8-16-16 for four sequences)
    A'  = (A - min + 1e-4) / (max - min + 1e-4)             per row
    D_i = e_i where sequence i is available, else A'_i * c   no row is normalised again
    S   = D X,   expert i reads S_i

The gating network sees S and the experts' first stages (4 + 4 x 32 = 132 channels for four sequences) and c at its bottleneck
(320 + 4 channels); its heads give M x classes values (16 for four classes). L is MoME's, L_E being the mean over the available
experts of a sample. Own choices, and where this departs from the published code:

 1. The training shows each sample a subset of its sequences, all non-empty ones with the same chance (dropout_mode subset,
    modality_dropout 1); of a case that lacks some, the subsets of what it has.
 2. The released training step computes the curriculum loss and then overwrites it by the fused loss: `curriculum=none` does that.
 3. What images the gating network sees is not said: the dispatched ones.
 4. The gradient of the gating network is clipped, as in MoME; the published code clips each network on its own.
 5. `dispatch=table`, the substitution tried before the learned one: one example of it is known (of T1c and FLAIR, T1c stands in
    for T1 and for T2); the rest is ours, see `SUBSTITUTES`.
 6. All subsets of a case share the experts' passes on available sequences, and with `zero` those on missing ones.
 7. Checkpointed and frozen experts, the head restart and the stages are as in MoME; activations of frozen experts are kept where
    a learned dispatch sends its gradient through them. In stage 1 a sample trains the experts of all that it shows.

Parameters (4 sequences, 4 classes): 156,119,580, of which 476 are the dispatch network's; tested. A pass over 128^3: 5.3 TFLOP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workbench.contracts import SEGMENTATION, Batch, Prediction
from workbench.models.mome import diagram
from workbench.models.mome.blocks import EXPERTS, Mixed, Mixture, NetworkOutput, deep_loss, sample
from workbench.models.mome.facts import MoMEPlusOptions
from workbench.models.mome.mome import MixtureMethod

SUBSTITUTES: dict[str, tuple[str, ...]] = {
    "t1": ("t1c", "t2", "flair"),
    "t1c": ("t1", "t2", "flair"),
    "t2": ("t1c", "flair", "t1"),
    "flair": ("t2", "t1c", "t1"),
}
"""Which sequence stands in for a missing one, the first that is available; for other names the first of the model's order."""
EPSILON = 1e-4


class Dispatch(nn.Module):
    """Availability (B, M) -> dispatch matrices (B, M, M): row i says what expert i reads, column j how much of sequence j."""

    def __init__(self, modalities: Sequence[str], kind: str) -> None:
        super().__init__()
        m = len(modalities)
        self.modalities, self.kind = tuple(modalities), kind
        self.network: nn.Sequential | None = None
        if kind == "learned":
            self.network = nn.Sequential(
                nn.Linear(m, m), nn.ReLU(), nn.Linear(m, 2 * m), nn.ReLU(), nn.Linear(2 * m, m * m), nn.ReLU(),
                nn.Linear(m * m, m * m),
            )  # fmt: skip

    def forward(self, present: Tensor) -> Tensor:
        """The network runs in the precision around it; its values are rescaled in float32."""
        available = present.float()
        identity = torch.eye(present.shape[1], device=present.device)
        if self.network is not None:
            rows = self.network(available).float().unflatten(1, identity.shape)
            low, high = rows.amin(2, keepdim=True), rows.amax(2, keepdim=True)
            mixture = (rows - low + EPSILON) / (high - low + EPSILON) * available[:, None]
        elif self.kind == "table":
            mixture = torch.stack([self._substitutes(row) for row in present.tolist()]).to(present.device)
        else:
            mixture = torch.zeros_like(identity).expand(len(present), -1, -1)
        return torch.where(present[:, :, None], identity, mixture)

    def _substitutes(self, shown: Sequence[bool]) -> Tensor:
        matrix = torch.zeros(len(shown), len(shown))
        there = [name for name, is_there in zip(self.modalities, shown, strict=True) if is_there]
        for row, name in enumerate(self.modalities):
            preferred = [other for other in SUBSTITUTES.get(name, ()) if other in there]
            matrix[row, self.modalities.index((preferred or there)[0])] = 1
        return matrix


class MoMEPlus(MixtureMethod):
    """All available sequences; see the module's docstring."""

    name = "mome_plus"
    options: MoMEPlusOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MoMEPlusOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        m = len(self.modalities)
        self.dispatch = Dispatch(self.modalities, options.dispatch)
        self.mixture = Mixture(m, self.classes, m, options, vector=m)

    def trained_beside_frozen(self) -> tuple[str, ...]:
        """The gate, and the dispatch network if there is one."""
        return ("mixture.gate.", *(("dispatch.",) if self.options.dispatch == "learned" else ()))

    def dispatched(self, images: Tensor, present: Tensor) -> Tensor:
        """S (B, M, X, Y, Z) of arranged images."""
        matrix = self.dispatch(present)
        mixture = torch.einsum("bij,bjxyz->bixyz", matrix, images.float()).to(images.dtype)
        return torch.where(present[:, :, None, None, None], images, mixture)  # an available image stays what it is to the bit

    def mix(self, images: Tensor, present: Tensor, coarse: bool) -> Mixed:
        """Arranged images through dispatch, experts and gate."""
        inputs = self.dispatched(images, present)
        outputs = [self.mixture.expert(index, inputs[:, index, None], coarse) for index in range(len(self.modalities))]
        return self.mixture.mix(outputs, inputs, present.float(), coarse)

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """Stage 1: experts on their own sequences. Else the mixture."""
        if EXPERTS in tasks:
            return Prediction(auxiliary=self._own_sequences(images, present))
        if SEGMENTATION not in tasks:
            return Prediction()
        mixed = self.mix(images, present, coarse=self.training)
        if self.training:
            return self.packed(mixed, mixed.experts)
        return Prediction(mixed.fused[0], maps=self.gate_maps(mixed) if maps else {})

    def _own_sequences(self, images: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Stage 1: each expert on the samples that show its sequence; (B, M, C, x, y, z) per level, zero elsewhere."""
        levels: dict[str, Tensor] = {}
        for index in range(len(self.modalities)):
            rows = present[:, index].nonzero()[:, 0]
            if not len(rows):
                continue
            for level, logits in enumerate(self.mixture.expert(index, images[rows, index, None], True).logits):
                whole = logits.new_zeros((len(images), len(self.modalities), *logits.shape[1:]))
                place = (rows, torch.full_like(rows, index))
                name = f"expert{level}"
                levels[name] = levels.get(name, 0) + whole.index_put(place, logits)
        return levels

    def expert_losses(self, outputs: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        """(B, M, C, x, y, z) per level -> per sample the mean over the experts of its available sequences."""
        given = batch.modalities
        columns = [given.index(name) if name in given else -1 for name in self.modalities]
        losses = []
        for i in range(len(outputs[0])):
            shown = [e for e, column in enumerate(columns) if column >= 0 and bool(batch.present[i, column])]
            own = [deep_loss([o[i : i + 1, e] for o in outputs], sample(batch, i), self.options.lowest_weight) for e in shown]
            losses.append(torch.stack(own).mean())
        return losses

    def subset_logits(self, images: Tensor, shown: Tensor) -> list[Tensor]:
        """An expert's pass is shared by all sets that have it read the same: its own sequence, or the same substitute."""
        kept: dict[tuple[int, tuple[float, ...]], NetworkOutput] = {}
        logits = []
        for row in shown:
            present = row[None].expand(len(images), -1)
            visible = torch.where(present[:, :, None, None, None], images, torch.zeros_like(images[:1, :1]))
            inputs, outputs = self.dispatched(visible, present), []
            for index, mixture in enumerate(self.dispatch(row[None])[0].tolist()):
                key = (index, tuple(mixture))
                found = kept.get(key) or self.mixture.expert(index, inputs[:, index, None], False)
                if row[index] or self.options.dispatch != "learned":  # a learned mixture comes up in one set only
                    kept[key] = found
                outputs.append(found)
            logits.append(self.mixture.mix(outputs, inputs, present.float(), False).fused[0])
        return logits

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        """(B, D): the gating network's bottleneck, averaged over its voxels."""
        return self.mix(images, present, coarse=False).bottom.float().mean((2, 3, 4))

    def cam_layers(self) -> tuple[str, ...]:
        """The gating network's bottleneck, and the stage before."""
        if self.mixture.gate is None:
            return ()
        last = self.options.levels - 1
        return f"mixture.gate.encoder.{last - 1}", f"mixture.gate.encoder.{last}"

    def diagram(self) -> str:
        """MoME with a dispatch network before the experts."""
        kinds = {"learned": "dispatch network", "zero": "zeros", "table": "substitution table"}
        source, before = ("all sequences", "any of them missing"), kinds[self.options.dispatch]
        return diagram.mixture("MoME+", self.options, self.modalities, self.classes, source, before)
