"""MTS-UNET: segmentation, IDH, 1p/19q and grade in one network (Farahani et al., arXiv 2503.06828).

Two streams. TAFE (tumour-aware feature encoding) is a SwinUNETR (`models.swin`, BrainSegFounder-Tiny's shape), whose pooled
encoder states feed classifiers. CMD (cross-modality differential) looks at the T2-FLAIR mismatch inside the tumour: T2 and
FLAIR, gated by the predicted tumour, are convolved, subtracted and turned into an attention over both. DSF (dual-stream fusion)
joins the two for IDH; 1p/19q and grade are read from TAFE alone. The authors' code is GPL-3.0; this is written from the facts.

    G(P)   = m + (1 - m) P                         gate, P = tumour probability, m = 0.1
    D      = gamma (conv(G T2) - conv(G FLAIR))    difference, gamma = 2
    A      = sigmoid(conv3([max_c D, mean_c D]))   attention
    f'     = f + A f, pooled over space            for both modalities, concatenated: CMD's features
    L      = alpha L_seg + beta sum_k beta_k L_k   over the cases that know task k; L_seg = lambda_D Dice + lambda_CE CE

Departures from the published code, `published` options bring the code's form back:
1. CMD's attention is a plain sigmoid, as the paper says; the code's sigmoid(ReLU) cannot fall below 0.5 (`attention`).
2. DSF fuses pooled features, as the paper says; the code fuses logits (`fusion`).
3. Modalities are addressed by name; channel pooling works for any `cmd_channels`.

Choices of ours where the paper is silent:
4. A case without T2 or FLAIR falls back to TAFE, case by case. `fallback="shared"` (default, no parameters of its own): DSF's
   classifier with CMD's features at zero. `fallback="head"`: a TAFE classifier, 213,442 parameters more. In the `published`
   fusion it is the TAFE logits themselves. CMD dropout in training makes the fallback a trained one.
5. `backbones=1` shares TAFE's backbone with the gate: a light variant, not the paper's. With two, CMD's own backbone is
   supervised by the same masks (term `gate_segmentation`), else its gate would be learnt from IDH alone: `alpha` then weighs
   two losses, so that alpha 0.5 with two backbones asks as much of the masks as alpha 1 with one.
6. Where the model was built without T2 or FLAIR there is no CMD at all; `notes` says so.
7. Heads have two outputs, as published; the logit handed out is their difference, which is the same cross-entropy.
8. P is the sum over NCR, ED and ET: the resection cavity is no tumour. The losses are `models.losses`'.
9. `tafe_stages` > 1 concatenates the pooled last stages (widths 768, 1152, 1344, 1440).
10. `gate="own"` asks what the paper leaves open, whether CMD needs a segmentation: P is a small network's, which reads T2 and
    FLAIR (`OwnGate`, 45,593 parameters) and learns from IDH alone. With `streams="cmd"` no mask teaches IDH anything then.
11. `identity_blocks=True` takes all Swin blocks away; patch embedding, merging, both decoders and all heads stay, with the same
    initial weights.

Weights to start from (BrainSegFounder's, MONAI's, our own): `pretrained`, see `models.swin.weights`; both backbones get them.

Parameters (4 sequences, 4 classes): backbone 62,191,990; IDH with DSF 124,456,708; `fusion="published"` 124,691,208.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.contracts import MARKER_TASK, SEGMENTATION, Batch, Prediction, Stage
from workbench.models.glioma import diagram
from workbench.models.glioma.facts import MtsUNetOptions
from workbench.models.glioma.mts_blocks import Classifier, CrossModalityDifferential, OwnGate
from workbench.models.losses import segmentation_loss
from workbench.models.method import MethodModule
from workbench.models.method_facts import BOTH_TASKS
from workbench.models.pretrained.coverage import Coverage
from workbench.models.swin.backbone import SwinBackbone, leave_out_blocks
from workbench.models.swin.weights import load_swin

logger = logging.getLogger(__name__)


def tumour_probability(logits: Tensor) -> Tensor:
    """(B, C, X, Y, Z) logits -> (B, 1, X, Y, Z) probability of NCR, ED or ET (of the lesion in a 2-class model)."""
    return logits.float().softmax(1)[:, 1:4].sum(1, keepdim=True).clamp(max=1.0).to(logits.dtype)


def handed_out(outputs: Tensor) -> Tensor:
    """(B, 2) two-class outputs -> (B, 1), the logit of class 1; (B, 3) stays as it is."""
    return outputs[:, 1:] - outputs[:, :1] if outputs.shape[1] == 2 else outputs


class MtsUNet(MethodModule):
    """MTS-UNET; see the module's docstring for the paper, the departures and the counts."""

    name = "mts_unet"
    divisor = 32
    minimum = 64  # 32^3 leaves one voxel at the bottom, which instance norm cannot take
    options: MtsUNetOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MtsUNetOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=markers, options=options)
        self.streams = options.streams
        self.notes = tuple(options.unused_weights(self.markers))
        if "idh" in self.markers and self.streams != "tafe" and not {"t2", "flair"} <= set(self.modalities):
            self.streams = "tafe"
            missing = f"no CMD: it needs t2 and flair, this model has {', '.join(self.modalities)}; IDH is read from TAFE"
            self.notes = (missing, *self.notes)
            logger.warning("mts_unet: %s", missing)
        size = options.feature_size
        width = sum(size * 2**stage for stage in (4, 3, 2, 1)[: options.tafe_stages])  # 768, 1152, 1344, 1440 at size 48
        self.backbone = SwinBackbone.from_options(len(self.modalities), self.classes, options)

        self.has_cmd = "idh" in self.markers and self.streams != "tafe"
        self.gated = self.has_cmd and options.gate != "none"
        if self.has_cmd:
            self.needs, self.fallback_note = ("t2", "flair"), "their IDH is read from TAFE alone"
        fuses = self.has_cmd and self.streams == "dsf"
        own_idh_head = not fuses or options.fusion == "published" or options.fallback == "head"
        self.tafe_heads = nn.ModuleDict(
            {
                marker: Classifier(width, options.grade_classes if marker == "grade" else 2, options.dropout)
                for marker in self.markers
                if marker != "idh" or own_idh_head
            }
        )
        self.cmd_backbone = None
        if self.has_cmd and options.backbones == 2:
            self.cmd_backbone = SwinBackbone.from_options(len(self.modalities), self.classes, options)
        self.own_gate = OwnGate() if self.has_cmd and options.gate == "own" else None
        self.cmd = self.cmd_head = self.dsf = None
        if self.has_cmd:
            cmd_width = 2 * options.cmd_channels
            published = options.attention == "published"
            self.cmd = CrossModalityDifferential(options.cmd_channels, options.gamma, options.cmd, published)
            if not fuses or options.fusion == "published":
                self.cmd_head = Classifier(cmd_width, 2, options.dropout)
            if fuses:
                inputs = width + cmd_width if options.fusion == "features" else 4
                self.dsf = nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Dropout(options.dropout), nn.Linear(32, 2))
        if options.identity_blocks:
            leave_out_blocks(self)

    def load_pretrained(self, path: str | Path) -> Coverage:
        """Fill the backbone, and CMD's own where there are two, from a BrainSegFounder or MONAI file or our own encoder."""
        backbones = [self.backbone] if self.cmd_backbone is None else [self.backbone, self.cmd_backbone]
        return load_swin(backbones, path, modalities=self.modalities, options=self.options)

    def encode(self, images: Tensor, present: Tensor, modalities: Sequence[str] | None = None) -> list[Tensor]:
        """The five Swin states (B, f 2^i, X / 2^(i+1), ...) of TAFE's backbone."""
        self.check_size(images.shape[2:])
        return self.backbone.encode(self.arrange(images, present, modalities)[0])

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """One pass of the encoder feeds the decoder and the classifiers; see the equations above."""
        marking = MARKER_TASK in tasks and bool(self.markers)
        available = self.cmd_available(images, present)  # (B,)
        # in training CMD always runs, so that the same parameters get a gradient (of zero, if need be) at every step
        counting = available.is_meta  # counting FLOPs: values are unknown
        differing = marking and self.has_cmd and (self.training or counting or bool(available.any()))
        states = self.backbone.encode(images)
        segmentation = None
        if SEGMENTATION in tasks or (differing and self.cmd_backbone is None and self.own_gate is None):
            segmentation = self.backbone.decode(images, states)

        auxiliary: dict[str, Tensor] = {}
        gate_logits = None if self.own_gate is not None else segmentation
        if self.cmd_backbone is not None and (differing or (self.training and SEGMENTATION in tasks)):
            gate_logits = auxiliary["gate_segmentation"] = self.cmd_backbone(images)

        cmd_features: Tensor | None = None
        drawn: dict[str, Tensor] = {}
        if differing:
            cmd_features, drawn = self._differential(images, gate_logits, maps)
        markers = self._classify(self._pool(states), cmd_features, available) if marking else {}
        return Prediction(
            segmentation=segmentation if SEGMENTATION in tasks else None, markers=markers, maps=drawn, auxiliary=auxiliary
        )

    def cmd_available(self, images: Tensor, present: Tensor) -> Tensor:
        """(B,) bool: samples with T2 and FLAIR; in training some of them are dropped, which trains the fallback."""
        if not self.has_cmd:
            return torch.zeros(len(images), dtype=torch.bool, device=images.device)
        available = present[:, self.modalities.index("t2")] & present[:, self.modalities.index("flair")]
        if self.training and self.options.cmd_dropout > 0:
            available = available & (torch.rand(len(images), device=images.device) >= self.options.cmd_dropout)
        return available

    def gate(self, logits: Tensor) -> Tensor:
        """Segmentation logits (B, C, X, Y, Z), or the own gate's (B, 1, X, Y, Z) -> gate (B, 1, X, Y, Z) in [min_gate, 1]; 1
        everywhere for `gate="none"`."""
        if self.options.gate == "detached":
            logits = logits.detach()
        probability = tumour_probability(logits) if self.own_gate is None else torch.sigmoid(logits)
        if self.gate_change is not None:
            probability = self.gate_change(probability)
        if self.options.gate == "none":
            return torch.ones_like(probability)
        return self.options.min_gate + (1 - self.options.min_gate) * probability

    def _differential(self, images: Tensor, gate_logits: Tensor | None, maps: bool) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.cmd is not None
        pair = images[:, [self.modalities.index(name) for name in ("t2", "flair")]]
        if self.own_gate is not None:
            gate_logits = self.own_gate(pair)
        assert gate_logits is not None
        gate = self.gate(gate_logits)
        features, attention = self.cmd(pair[:, :1] * gate, pair[:, 1:] * gate)
        if not maps:
            return features, {}
        enlarged = F.interpolate(attention.mean(1, keepdim=True).float(), size=images.shape[2:], mode="trilinear")
        return features, {"gate": gate, "cmd_attention": enlarged}

    def _pool(self, states: Sequence[Tensor]) -> Tensor:
        """Global average of the last `tafe_stages` states, deepest first: (B, 768 / 1152 / 1344 / 1440 at size 48)."""
        chosen = list(states)[: -self.options.tafe_stages - 1 : -1]
        if self.options.normalise:
            chosen = [self.backbone.layer_norm(state) for state in chosen]
        return torch.cat([state.mean((2, 3, 4)) for state in chosen], dim=1)

    def _classify(self, tafe: Tensor, cmd: Tensor | None, available: Tensor) -> dict[str, Tensor]:
        outputs = {marker: head(tafe) for marker, head in self.tafe_heads.items()}
        if self.has_cmd:
            if cmd is None:  # no case of the batch has both T2 and FLAIR
                cmd = tafe.new_zeros(len(tafe), 2 * self.options.cmd_channels)
            outputs["idh"] = self._idh(tafe, cmd, available[:, None], outputs.get("idh"))
        return {marker: handed_out(outputs[marker]) for marker in self.markers}

    def _idh(self, tafe: Tensor, cmd: Tensor, available: Tensor, fallback: Tensor | None) -> Tensor:
        """(B, 2): IDH from both streams where CMD is available (B, 1), from TAFE alone elsewhere."""
        # zeros, not products: an unavailable CMD contributes nothing and receives no gradient, whatever it holds
        cmd = torch.where(available, cmd, torch.zeros_like(cmd))
        if self.dsf is None:
            assert self.cmd_head is not None
            both = self.cmd_head(cmd)
        elif self.cmd_head is None:
            both = self.dsf(torch.cat([tafe, cmd], dim=1))
        else:
            assert fallback is not None
            both = self.dsf(torch.cat([fallback, self.cmd_head(cmd)], dim=1))
        return both if fallback is None else torch.where(available, both, fallback)

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """alpha x segmentation (of either backbone) + beta x each marker, each over the cases that know it."""
        o, terms = self.options, {}
        for term, logits in (
            ("segmentation", prediction.segmentation), ("gate_segmentation", prediction.auxiliary.get("gate_segmentation"))
        ):  # fmt: skip
            if logits is not None:
                terms[term] = o.alpha * segmentation_loss(
                    logits, batch.labels, batch.label_set, dice=o.dice_weight, cross_entropy=o.cross_entropy_weight
                )
        return terms | self.marker_terms(prediction, batch, o.beta, {name: o.marker_weight(name) for name in self.markers})

    def stages(self) -> list[Stage]:
        """One joint stage, or the segmentation alone for the first `segmentation_first` of the steps."""
        first = self.options.segmentation_first
        joint = Stage("joint", 1.0 - first, BOTH_TASKS if self.markers else (SEGMENTATION,))
        return [Stage("segmentation", first, (SEGMENTATION,)), joint] if first > 0 and self.markers else super().stages()

    def cam_layers(self) -> tuple[str, ...]:
        """Swin stage 3 (6^3 for a 96^3 crop), then stage 4 (3^3, blocky)."""
        return "backbone.swinViT.layers3.0", "backbone.swinViT.layers4.0"

    def diagram(self) -> str:
        """Both streams as built: what an option leaves out is not drawn."""
        return diagram.mts_unet(self.options, self.modalities, self.classes, self.markers, self.streams)
