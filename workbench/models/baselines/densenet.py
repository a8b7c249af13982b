"""DenseNet-121 in three dimensions (Huang et al., arXiv 1608.06993; MONAI's form): markers from the images, no segmentation.

A 7^3 convolution with stride 2 and pooling, dense blocks of 6, 12, 24 and 16 layers in which every layer sees the outputs of all
before it and adds `growth` features, 1^3 convolutions and average pooling between blocks, global average pooling, and one linear
classifier per marker. The plain whole-image baseline that a method with a tumour-aware reading of markers has to beat.

Choices of ours:
1. It reads the whole brain by default (`sampling=whole`), in training and at prediction alike: without a segmentation nothing
   says where the tumour is. With patches or tumour-centred crops, cases are read in a crop around the brain's centre, which is
   not what it was trained on.
2. All markers share the network and each has its own classifier; grade has one output (4 against 2 and 3) or three.
3. ReLU not in place, which Grad-CAM's hooks need; the same numbers.

Parameters (4 sequences, one binary marker): 11,309,505.
"""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import DenseNet121 as MonaiDenseNet121
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.contracts import MARKER_TASK, Batch, Prediction, Stage
from workbench.errors import ParameterError
from workbench.models.baselines import diagram
from workbench.models.baselines.facts import DenseNetOptions
from workbench.models.method import MethodModule

LAYERS = (6, 12, 24, 16)


class DenseNet121(MethodModule):
    """A whole-image classifier for any markers."""

    name = "densenet121"
    minimum = 64  # five halvings, and batch norm of one sample needs more than one voxel at the end
    options: DenseNetOptions

    def __init__(self, *, modalities: Sequence[str], classes: int, markers: Sequence[str], options: DenseNetOptions) -> None:
        super().__init__(modalities=modalities, classes=classes, markers=markers, options=options)
        if not self.markers:
            raise ParameterError(
                "densenet121 predicts markers and nothing else, and none is left to predict: name some that the training cases "
                "show in at least two classes ('markers')"
            )
        net = MonaiDenseNet121(
            spatial_dims=3,
            in_channels=len(self.modalities),
            out_channels=1,
            init_features=options.width,
            growth_rate=options.growth,
            act=("relu", {"inplace": False}),
        )
        self.features = net.features
        width = next(module.in_features for module in net.modules() if isinstance(module, nn.Linear))
        self.dropout = nn.Dropout(options.head_dropout)
        self.heads = nn.ModuleDict(
            {m: nn.Linear(width, 3 if m == "grade" and options.grade_classes == 3 else 1) for m in self.markers}
        )

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        """(B, M, X, Y, Z) -> one or three logits per marker."""
        if MARKER_TASK not in tasks:
            return Prediction()
        pooled = self.dropout(F.relu(self.features(images)).mean((2, 3, 4)))
        return Prediction(markers={marker: head(pooled) for marker, head in self.heads.items()})

    def loss(self, prediction: Prediction, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One masked term per marker."""
        return self.marker_terms(prediction, batch)

    def stages(self) -> list[Stage]:
        """One stage, markers alone."""
        return [Stage("markers", 1.0, (MARKER_TASK,))]

    def cam_layers(self) -> tuple[str, ...]:
        """The third dense block (1/16), then what is pooled (1/32), a few voxels wide: of 64^3, only 2^3."""
        return "features.denseblock3", "features.norm5"

    def diagram(self) -> str:
        """A chain from the images to one classifier per marker."""
        return diagram.densenet(self.options, self.modalities, self.markers, LAYERS)
