"""MoME: mixture of modality experts (Zhang et al., *A Foundation Model for Brain Lesion Segmentation with Mixture of Modality
Experts*, MICCAI 2024, arXiv 2405.10246). Segmentation only.

One image of one sequence is read by all experts, one nnU-Net per sequence; a hierarchical gating network, itself a complete
nnU-Net, weighs their logits voxel by voxel and class by class at every decoder level:

    x = one image,  f_e, logits_{s,e} = expert_e(x),  g_s = gate([x, f_1 ... f_E])_s,  fused_s = sum_e g_{s,e} * logits_{s,e}
    L = (1 - r)^2 L_E + [1 - (1 - r)^2] L_F
    L_E = sum over samples of l(logits of the expert of the sample's own sequence),  L_F = l(fused),  r the share done

l is soft Dice of the foreground plus cross-entropy at all levels, weights 1, 1/2, 1/4, ..., the coarsest 0, normalised. The gate
is not normalised over the experts (`gate_normalisation`), and the fused logits are summed in float32.

Stage 1 trains each expert on its own sequence; stage 2 all networks together at a tenth of the learning rate, the experts with
new heads. Both are one run (`stages`), resumable at any step. Own choices, and where this departs from the published code:

 1. Sequences are those of the cohort, by name; one without an expert cannot be read, since there is no mechanism for it.
 2. Lesion classes are those of the cohort's label sets; the paper merges all lesions to one (a cohort of label set 'lesion' or
    'WT' gives that).
 3. r moves with every step of stage 2, not with every epoch. Stage 1 is no part of r.
 4. In stage 1 each sample trains the expert of the sequence drawn for it, so that an expert's share of the steps is its share of
    the images; the paper trains one full run per sequence, of a length that is not published: at size=paper five times nnU-Net's
    1000 epochs, then 800 together.
 5. Dice of L_F is taken over the batch, as everywhere here (`batch_dice` false: per sample, as nnU-Net's 3d_fullres plans have
    it); of L_E per sample, which the sum over samples implies. Dice terms are 1 - Dice, nnU-Net's -Dice: 1 more, no gradient.
 6. One optimiser goes through both stages; heads that start anew lose their momentum (`enter_stage`). Each stage warms up
    (`warmup`); the published code does not.
 7. The gradient of the gating network alone is clipped (`clipped`), as published, where the limit is 12: say `clip`.
 8. A case of several sequences: see `single_image_unet`.
 9. Maps show each expert's share of the absolute gate values over all classes (`weight_<sequence>` is that of the sequence's
    expert), averaged over the sequences read.
10. Frozen experts keep the heads of stage 1 and have no loss of their own: L is L_F then.
11. `gating=single` (one gate at the finest level, averaged down for the others) and `average` (no gate) are ablations.

Memory: six full networks live at one patch. Of what the backward pass needs `experts=checkpointed` keeps nothing of the experts
(each is run again when its turn comes), and `frozen` needs nothing of them; `steps.cost` counts both.

Parameters of the paper's form (5 sequences, 2 classes): 187,318,244: five experts of 31,195,594 and a gate of 31,340,274, whose
input has 161 channels and whose heads have 10; tested. One image of 128^3 takes 6.3 TFLOP, of which 5 x 0.95 in the experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.contracts import SEGMENTATION, Batch, Prediction, Stage
from workbench.errors import ParameterError
from workbench.models.mome import diagram
from workbench.models.mome.blocks import (
    EXPERTS,
    Mixed,
    Mixture,
    NetworkOutput,
    PlainUNet,
    curriculum_weights,
    deep_loss,
    gate_shares,
    joint_progress,
    mixture_stages,
    reduced,
    sample,
)
from workbench.models.mome.facts import MixtureOptions, MoMEOptions, SingleImageOptions
from workbench.models.mome.released import WEIGHTS, published_names
from workbench.models.mome.single_image_unet import PlanMethod, PooledUNet, SingleImageMethod
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.released import load_released


class MixtureMethod(PlanMethod):
    """What MoME and MoME+ share: the recipe in two stages and the curriculum."""

    options: MixtureOptions
    mixture: Mixture
    clipped: tuple[str, ...] = ("mixture.gate.",)
    unknown = "a sequence needs an expert of its own, trained with it among 'modalities'"

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MixtureOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        if options.experts == "frozen":
            self.notes = ("the experts are frozen in the joint stage: they keep their heads and have no loss of their own there",)

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Fill all networks from the authors' released weights.

        Raises:
            InputError: the file cannot be read or does not fit, or the options are not the published ones.
        """
        weights, sources = WEIGHTS[self.name], published_names(self.state_dict())
        return load_released(self, path, weights, sources, options=self.options, modalities=self.modalities)

    def trained_beside_frozen(self) -> tuple[str, ...]:
        """Prefixes of what the joint stage trains when the experts are frozen."""
        return ("mixture.gate.",)

    def stages(self) -> list[Stage]:
        """Experts, then joint."""
        return mixture_stages(self.options, self.trained_beside_frozen())

    def enter_stage(self, stage: Stage) -> tuple[str, ...]:
        """The experts' heads start anew where the joint stage follows one of theirs."""
        o = self.options
        if stage.name == EXPERTS or not o.restart_heads or o.experts == "frozen" or not o.expert_share:
            return ()
        self.mixture.restart_heads()
        return tuple(f"mixture.experts.{index}.heads." for index in range(len(self.modalities)))

    def expert_losses(self, outputs: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        """Per sample the loss of the experts that its sequences belong to; `outputs` are those of `auxiliary`, finest first."""
        raise TypeError(f"{type(self).__name__} must implement expert_losses")

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """`experts` and `fused`, weighted by the curriculum; in stage 1 `experts` alone."""
        own = [value for name, value in prediction.auxiliary.items() if name.startswith("expert")]
        first, second = curriculum_weights(self.options.curriculum, joint_progress(progress, self.options.expert_share))
        if prediction.segmentation is None:
            first = 1.0
        elif not own:
            second = 1.0
        terms: dict[str, Tensor] = {}
        if own:
            losses = self.expert_losses(own, batch)
            terms["experts"] = first * reduced(losses, batch, self.options.expert_reduction)
        if prediction.segmentation is not None:
            coarser = [value for name, value in prediction.auxiliary.items() if name.startswith("fused")]
            fused = deep_loss([prediction.segmentation, *coarser], batch, self.options.lowest_weight, self.options.batch_dice)
            terms["fused"] = second * fused
        return terms

    def packed(self, mixed: Mixed, own: Sequence[Tensor]) -> Prediction:
        """A training prediction: fused logits at all levels, and the experts' own unless they are frozen or not asked for."""
        auxiliary = {f"fused{level}": logits for level, logits in enumerate(mixed.fused[1:], start=1)}
        if self.options.experts != "frozen" and self.options.curriculum != "none":
            auxiliary |= _named(own)
        return Prediction(mixed.fused[0], auxiliary=auxiliary)

    def gate_maps(self, mixed: Mixed) -> dict[str, Tensor]:
        """weight_<sequence>: (B, 1, X, Y, Z), the share of its expert; over all experts they add up to 1."""
        shares = gate_shares(mixed.gates[0])
        return {f"weight_{name}": shares[:, index, None] for index, name in enumerate(self.modalities)}

    def parameters_by_component(self) -> dict[str, int]:
        """One row per expert, the gate, and what else there is."""
        counts = {
            f"expert {name}": sum(p.numel() for p in net.parameters())
            for name, net in zip(self.modalities, self.mixture.experts, strict=True)
        }
        if self.mixture.gate is not None:
            counts["gate"] = sum(p.numel() for p in self.mixture.gate.parameters())
        rest = self.parameter_count() - sum(counts.values())
        return counts | ({"dispatch": rest} if rest else {})


def _named(levels: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"expert{level}": logits for level, logits in enumerate(levels)}


class MoME(MixtureMethod, SingleImageMethod):
    """One image, all experts; see the module's docstring."""

    name = "mome"
    options: MoMEOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MoMEOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=(), options=options)
        self.mixture = Mixture(len(self.modalities), self.classes, 1, options)

    def mix(self, image: Tensor, coarse: bool) -> Mixed:
        """(B, 1, X, Y, Z) through all experts and the gate."""
        outputs = [self.mixture.expert(index, image, coarse) for index in range(len(self.modalities))]
        return self.mixture.mix(outputs, image, None, coarse)

    def learn(self, image: Tensor, which: Tensor, tasks: tuple[str, ...]) -> Prediction:
        """Stage 1: the expert of each sample's sequence alone. Stage 2: everything."""
        if EXPERTS in tasks:
            return Prediction(auxiliary=_named(self._matching(image, which)))
        if SEGMENTATION not in tasks:
            return Prediction()
        mixed = self.mix(image, coarse=True)
        rows = torch.arange(len(image), device=image.device)
        return self.packed(mixed, [logits[rows, which] for logits in mixed.experts])

    def _matching(self, image: Tensor, which: Tensor) -> list[Tensor]:
        """Logits (B, C, x, y, z) per level, each sample's by the expert of its sequence; the other experts are not run."""
        outputs: list[NetworkOutput] = [self.mixture.expert(int(k), image[i : i + 1], True) for i, k in enumerate(which)]
        return [torch.cat(level) for level in zip(*(output.logits for output in outputs), strict=True)]

    def expert_losses(self, outputs: Sequence[Tensor], batch: Batch) -> list[Tensor]:
        """(B, C, x, y, z) per level -> one loss per sample."""
        lowest = self.options.lowest_weight  # of one sample both kinds of Dice are the same
        return [deep_loss([o[i : i + 1] for o in outputs], sample(batch, i), lowest) for i in range(len(outputs[0]))]

    def read(self, image: Tensor, maps: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
        """Fused logits of one image, and each expert's weight."""
        mixed = self.mix(image, coarse=False)
        return mixed.fused[0], self.gate_maps(mixed) if maps else {}

    def pooled(self, image: Tensor) -> Tensor:
        """The gating network's bottleneck, averaged."""
        return self.mix(image, coarse=False).bottom.mean((2, 3, 4))

    def diagram(self) -> str:
        """Experts in a column, the gate beside them."""
        return diagram.mixture("MoME", self.options, self.modalities, self.classes, ("one image", "of any sequence"))


def expert_alone(model: MixtureMethod, modality: str) -> PooledUNet:
    """One expert as a method of its own, for its own sequence; it shares the model's weights.

    Raises:
        ParameterError: there is no expert of that name.
    """
    if modality not in model.modalities:
        raise ParameterError(f"{model.name} has no expert for {modality}; there are: {', '.join(model.modalities)}")
    network = model.mixture.experts[model.modalities.index(modality)]
    assert isinstance(network, PlainUNet)
    options = SingleImageOptions(width=model.options.width, levels=model.options.levels)
    return PooledUNet(modalities=(modality,), classes=model.classes, markers=(), options=options, net=network)
