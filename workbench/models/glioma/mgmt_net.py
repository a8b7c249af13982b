"""MGMT-Net: tumour sub-regions, IDH, 1p/19q and TERT in one network (Abdusalomov et al., Bioengineering 2025, 12(9), 979).

The name is short for molecular-genomic and multi-task. Sequences are mixed voxel by voxel (CMAF), encoded by a CNN branch and
a Swin branch side by side, decoded to a segmentation, and pooled to one vector for the markers with attention that the
predicted tumour gates. No code was published; this is written from the facts.

    alpha  = softmax_m(W2 drop(ReLU(W1 [F_1 ... F_M])))        CMAF weights, F = sum_m alpha_m F_m   (`fusion`)
    F_ENC  = conv1([CNN(F), Swin(F)])                           (B, C, X/8, Y/8, Z/8)                 (`join`)
    p      = softmax(decoder(F_ENC, skips))                     (B, classes, X, Y, Z)                 (`decode`)
    m      = 1 - p_background, averaged over cells of 8^3       the gate                              (`tumour_gate`)
    w      = softmax_v(W_a tanh(W_f F_ENC) + log(m + eps))      z = sum_v w_v F_ENC_v                 (`pooling`)
    logit  = head_k(drop(z)),  L = lambda_D Dice + lambda_CE CE + beta mean_k beta_k BCE_k            (`heads`, `loss`)

The paper contradicts itself or is silent in many places. Our resolutions (`*` = an option brings the other reading back):

 1. MGMT methylation is never predicted there: the heads are IDH, 1p/19q and TERT; MGMT and grade can be asked for.
 2. The embedding is called a 1^3 projection and a 3^3 convolution: one 3^3 convolution 1 -> C' (16), shared by the modalities.
 3. C and C' mix: W1 is 4C' -> C'/2, W2 is C'/2 -> 4, both 1^3 convolutions, dropout 0.2 between.
 4. Modality queries with cross-attention (figure) or a voxel-wise perceptron (text): the perceptron.
 5. EfficientNet or residual blocks: residual blocks.
 6. Widths 32, 64, 128 at /2, /4, /8; F_ENC has C = 128 channels.
 7. Four Swin mergings cannot end at /8: stages at /2, /4, /8, /8, merged after the first two; depths 2-2-2-2, heads 3-6-12-12,
    width 48, windows of 8^3. A map smaller than a window is padded to one; padded tokens are zeros and can be attended to.
 8. Layer norm before each block and once at the end; positions enter as Swin's relative bias only.
 9. A 2-D Swin from HuggingFace cannot be meant: MONAI's 3-D blocks, random initial weights.
10. A softmax over tumour classes alone would call every voxel tumour: background is a class of its own, left out of Dice.
11. The mask of the heads is m = 1 - p_background, ED and RC included (`gate` soft*; hard: cells with a voxel whose likeliest
    class is tumour; none); elsewhere it is said to be of ET, NETC and RC (`gate_region`* no_oedema). Where hard finds no tumour
    it is left open. Markers' gradients pass through it after the first tenth of the run only, since the mask means nothing
    before (`gate_detached`*).
12. Masking features before a softmax does not zero its weights: log(m + eps) is added to the logits instead, eps 1e-6.
13. F_ENC in the heads is the one at /8; W_alpha and W_a are one matrix.
14. BCE with its minus sign, on logits; label smoothing is the workbench's parameter (0.1 at the paper's size).
15. One logit per marker, no vectors of three; grade has 1 or 3 (`grade_classes`).
16. The total loss is never defined: Dice + CE (`dice_weight`*, `cross_entropy_weight`*, both 1) plus `beta`* times the mean over
    markers, each weighed by its `beta_idh`* ... (1); auxiliary outputs weigh 1, 1/2, 1/4, normalised. Class weights are the
    workbench's parameter; a rare class weighs at most 10 times a common one.
17. Batch norm with one or two crops a device: instance norm instead (`norm`*). With batches of eight small crops prefer batch
    norm: on the `regional` phantom CMAF then read IDH (AUC 0.87 after 100 steps) where with instance norm it stayed at chance.
18. Decoder: upsample, conv3, concatenate, conv3-norm-ReLU beside a 1^3 residual; skips are CMAF's output and the CNN's /2, /4.
19. BraTS 2024 is post-treatment: 5 classes with the resection cavity there, 4 elsewhere; the cohort's label sets decide.
20. Cohorts with masks and cohorts with markers differ: losses are masked per sample and know each case's label set.
21. 240 x 240 x 155 cannot be a network's input: any sides that are multiples of 8; sliding windows, as everywhere here.
22. Patient-level prediction under sliding windows: two passes, see `inference.predict` (segment, then one crop around it).
23. Training crops around the true centroid, shifted at random, but no longer known at test: the workbench's tumour sampling
    shifts by up to 8 voxels; crops around predicted centroids are not drawn in training.
24. The best checkpoint has the highest mean Dice + mean AUC on validation cases; the score is the workbench's.
25., 26., 30. What they say of data cannot be reproduced here (n of TERT, sources, overlap of the external set).
27.-29., 31. Their tables contradict their text: nothing here is tuned to them.

Also ours, where nothing is said: auxiliary outputs and squeeze-and-excitation are on, attention gates on skips off (all three
are options); dense layer of 64 in the heads; `pooling="average"` keeps the gate, so that it takes away the attention only;
`branch="cnn"` spends the Swin branch's parameters on a CNN twice as deep: 2,324,224 more there, for 2,475,630 of the Swin branch
and 24,576 of its columns in `join` (3 % of the whole less); an absent modality has CMAF weight zero and receives no gradient.
`identity_blocks` takes the eight Swin blocks away and leaves the branch its patch embedding, mergings and last norm.

The gate of a trained model can be replaced by `gate_change`, which is given the tumour's probability (1 or 0 where it is hard)
per voxel; `torch.ones_like` takes the gate off. Grad-CAM of a marker with the gate on also shows what moves the mask, without it
the features alone: both are wanted, since they can differ.

Parameters (4 sequences, 4 classes, 3 markers): 5,562,225; tested, by component. A forward pass over 128^3: 458 GFLOP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.contracts import MARKER_TASK, SEGMENTATION, Batch, Prediction
from workbench.errors import ParameterError
from workbench.labels import ED
from workbench.models.glioma import diagram
from workbench.models.glioma.facts import MgmtNetOptions
from workbench.models.glioma.mgmt_blocks import CnnBranch, CrossModalityAttentionFusion, DecoderStage, GatedPooling, SwinBranch
from workbench.models.losses import downsample_labels, segmentation_loss
from workbench.models.method import MethodModule
from workbench.models.swin.backbone import leave_out_blocks

CELL = 8
"""Voxels along an edge of a cell of F_ENC's grid."""
EPSILON = 1e-6
MOST_WEIGHT = 10.0


def tumour_gate(
    logits: Tensor, mode: str, change: Callable[[Tensor], Tensor] | None = None, left_out: Sequence[int] = ()
) -> Tensor:
    """Segmentation logits (B, C, X, Y, Z) -> gate (B, 1, X/8, Y/8, Z/8) in [0, 1], float32.

    'soft': mean over a cell of 1 - p(background). 'hard': 1 where a cell holds a voxel whose likeliest class is not background,
    else 0; of a sample in which that is nowhere, 1 everywhere. Classes `left_out` count as background. `change` is applied to
    the voxels (B, 1, X, Y, Z).
    """
    outside = [0, *left_out]
    if mode == "soft":
        tumour = 1.0 - logits.float().softmax(1)[:, outside].sum(1, keepdim=True)
    else:
        tumour = torch.isin(logits.argmax(1, keepdim=True), torch.tensor(outside, device=logits.device), invert=True).float()
    if change is not None:
        tumour = change(tumour)
    if mode == "soft":
        return F.avg_pool3d(tumour, CELL).clamp(0.0, 1.0)
    cells = F.max_pool3d(tumour, CELL)
    return torch.where(cells.flatten(1).any(1)[:, None, None, None, None], cells, torch.ones_like(cells))


def log_gate(gate: Tensor, mode: str) -> Tensor:
    """What is added to the attention logits: log(m + eps), and of a hard gate 0 or -inf, so that nothing outside is pooled."""
    return torch.log(gate) if mode == "hard" else torch.log(gate + EPSILON)


class MgmtNet(MethodModule):
    """MGMT-Net; see the module's docstring for the equations and the choices."""

    name = "mgmt_net"
    divisor = CELL
    minimum = 2 * CELL  # instance norm needs more than one voxel at /8
    options: MgmtNetOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: MgmtNetOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=markers, options=options)
        norm, mixed, width = options.norm, options.modality_channels, options.width
        self.gated = bool(self.markers) and options.gate != "none"
        self.left_out = (ED,) if options.gate_region == "no_oedema" else ()
        """Classes that the gate does not take for tumour."""
        if self.left_out and self.classes == 2:
            raise ParameterError(
                "mgmt_net: 'gate_region' no_oedema needs masks that tell oedema from the rest; these training cases have "
                "whole-tumour or lesion masks only: leave it at tumour"
            )
        self.notes = tuple(options.unused_weights(self.markers))
        self.gate_open = False
        """Whether the markers' gradient passes through the gate; `loss` decides it from the progress of the run."""

        self.fusion = CrossModalityAttentionFusion(
            len(self.modalities), mixed, norm, options.fusion, options.fusion_dropout, options.checkpointing
        )
        self.cnn = CnnBranch(mixed, width, 2 if options.branch == "swin" else 4, norm)
        self.swin = SwinBranch(mixed, options.embed, options.window, options.checkpointing) if options.branch == "swin" else None
        if self.swin is not None and options.identity_blocks:
            leave_out_blocks(self.swin)
        encoded = 4 * width
        self.join = nn.Conv3d(encoded + (self.swin.width if self.swin is not None else 0), encoded, 1)

        scales = ((encoded, 2 * width), (2 * width, width), (width, mixed))  # /8 -> /4 -> /2 -> full
        self.decoder = nn.ModuleList(
            DecoderStage(inputs, outputs, norm, options.attention_gates, options.squeeze_excitation and index == len(scales) - 1)
            for index, (inputs, outputs) in enumerate(scales)
        )
        self.segmentation_head = nn.Conv3d(mixed, self.classes, 1)
        self.auxiliary_heads = nn.ModuleList(
            nn.Conv3d(channels, self.classes, 1) for channels in ((width, 2 * width) if options.deep_supervision else ())
        )
        self.pooling = GatedPooling(encoded, options.pooling) if self.markers else None
        self.heads = nn.ModuleDict({marker: self._head(encoded, marker) for marker in self.markers})

    def _head(self, inputs: int, marker: str) -> nn.Sequential:
        outputs = 3 if marker == "grade" and self.options.grade_classes == 3 else 1
        hidden = self.options.head_width
        return nn.Sequential(nn.Dropout(self.options.dropout), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """Mix, encode, decode, and read the markers where the mask says tumour."""
        marking = MARKER_TASK in tasks and bool(self.markers)
        mixed, weights = self.fusion(images, present)
        encoded, skips = self.encode(mixed)
        logits, gate = None, None
        auxiliary: dict[str, Tensor] = {}
        if SEGMENTATION in tasks or (marking and self.gated):
            logits, auxiliary = self.decode(encoded, skips, coarse=self.training and SEGMENTATION in tasks)
            gate = tumour_gate(logits, self.options.gate, self.gate_change, self.left_out) if marking and self.gated else None
        markers, where = self._classify(encoded, gate) if marking else ({}, None)
        drawn: dict[str, Tensor] = {}
        if maps:
            if weights is not None:
                drawn = {f"weight_{name}": weights[:, index, None] for index, name in enumerate(self.modalities)}
            if gate is not None:
                drawn["gate"] = gate
            if where is not None:
                drawn["pooling"] = where * where[0].numel()  # in multiples of the mean weight
        return Prediction(logits if SEGMENTATION in tasks else None, markers, drawn, auxiliary)

    def encode(self, mixed: Tensor) -> tuple[Tensor, list[Tensor]]:
        """CMAF's output (B, C', X, Y, Z) -> F_ENC (B, C, /8) and the skips at /4, /2 and full size."""
        half, quarter, eighth = self.cnn(mixed)
        both = eighth if self.swin is None else torch.cat([eighth, self.swin(mixed)], dim=1)
        return self.join(both), [quarter, half, mixed]

    def decode(self, encoded: Tensor, skips: Sequence[Tensor], coarse: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """F_ENC and skips -> logits (B, classes, X, Y, Z), and those at /2 and /4 if asked."""
        states, x = [], encoded
        for stage, skip in zip(self.decoder, skips, strict=True):
            x = stage(x, skip)
            states.append(x)
        heads = zip(self.auxiliary_heads, (states[1], states[0]), strict=False)
        auxiliary = {f"level{index}": head(state) for index, (head, state) in enumerate(heads, start=1)} if coarse else {}
        return self.segmentation_head(x), auxiliary

    def _classify(self, encoded: Tensor, gate: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        assert self.pooling is not None
        if self.training and gate is not None and gate.requires_grad:
            # the loss comes after the forward pass and is told the progress: what it decides holds for this step's backward
            gate.register_hook(lambda gradient: gradient if self.gate_open else torch.zeros_like(gradient))
        pooled, where = self.pooling(encoded, None if gate is None else log_gate(gate, self.options.gate))
        return {marker: head(pooled) for marker, head in self.heads.items()}, where

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Segmentation at all scales, weights 1, 1/2, 1/4 normalised, and `beta` times the mean over the markers."""
        o = self.options
        self.gate_open = progress >= o.gate_detached
        terms: dict[str, Tensor] = {}
        if prediction.segmentation is not None:
            outputs = [prediction.segmentation, *prediction.auxiliary.values()]
            shares = [0.5**level for level in range(len(outputs))]
            terms["segmentation"] = torch.stack(
                [
                    share
                    / sum(shares)
                    * segmentation_loss(
                        logits,
                        _at(batch.labels, logits),
                        batch.label_set,
                        dice=o.dice_weight,
                        cross_entropy=o.cross_entropy_weight,
                    )
                    for share, logits in zip(shares, outputs, strict=True)
                ]
            ).sum()
        own = {name: o.marker_weight(name) for name in self.markers}
        return terms | self.marker_terms(prediction, batch, o.beta / max(1, len(self.markers)), own)

    def marker_terms(
        self, prediction: Prediction, batch: Batch, weight: float = 1.0, shares: Mapping[str, float] | None = None
    ) -> dict[str, Tensor]:
        """As everywhere, but a rare class weighs at most ten times as much as the commonest (resolution 16)."""
        given = self.marker_weights
        self.marker_weights = {name: weights.clamp(max=MOST_WEIGHT * float(weights.min())) for name, weights in given.items()}
        try:
            return super().marker_terms(prediction, batch, weight, shares)
        finally:
            self.marker_weights = given

    def cam_layers(self) -> tuple[str, ...]:
        """F_ENC: the one map that every logit is read from."""
        return ("join",)

    def diagram(self) -> str:
        """The network as built: what an option leaves out is not drawn."""
        return diagram.mgmt_net(self.options, self.modalities, self.classes, self.markers)


def _at(labels: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if labels is None else downsample_labels(labels, logits.shape[2:])
