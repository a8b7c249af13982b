"""Settings of the training loop."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingSettings(BaseModel):
    """How a method is trained; frozen, and refusing names it does not know.

    One epoch is `steps_per_epoch` optimiser steps, whatever the size of the cohort. Everything that depends on length
    (warm-up, stages, the fall of the learning rate) is a share of the run, so that a short run is a scaled-down long one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(100, ge=1, description="epochs; validation and checkpoints happen at their ends")
    steps_per_epoch: int = Field(250, ge=1, description="optimiser steps per epoch (nnU-Net: 250)")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are averaged into one optimiser step")
    optimiser: Literal["adamw", "sgd"] = Field(
        "adamw", description="adamw: with cosine decay; sgd: Nesterov momentum 0.99 with polynomial decay, as nnU-Net"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate, reached at the end of the warm-up of each stage")
    weight_decay: float = Field(1e-5, ge=0, description="decoupled (adamw: matrices and kernels only) or L2 (sgd: all weights)")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of each stage's steps with a linearly rising learning rate")
    clip: float = Field(1.0, ge=0, description="largest gradient norm over all parameters; 0 = no clipping (nnU-Net: 12)")
    ema: float = Field(0.0, ge=0, lt=1, description="decay per step of the moving average of the weights; 0 = none")
    score: str = Field("score", min_length=1, description="name of what `validate` returns; recorded as validation/<score>")
    validate_every: int = Field(1, ge=1, description="epochs between validations; the last epoch is always validated")
    patience: int = Field(0, ge=0, description="validations without a better score before stopping early; 0 = never")
    checkpoint_every: int = Field(0, ge=0, description="optimiser steps between checkpoints; 0 = at the end of each epoch")
    record_every: int = Field(0, ge=0, description="optimiser steps averaged into one recorded value; 0 = about 1000 per run")
    precision: Literal["auto", "no", "bf16"] = Field(
        "auto", description="auto: bf16 on CUDA, else float32 (bf16 is slower on a CPU); no: float32"
    )
    deterministic: bool = Field(True, description="ask torch for repeatable kernels on CUDA; a CPU is repeatable anyway")
    channels_last: bool = Field(
        True, description="channels_last_3d memory layout: convolutions are several times faster, on a CPU too"
    )
    compile: bool = Field(False, description="torch.compile the network; CUDA only, ignored elsewhere")
    workers: int = Field(0, ge=0, description="processes that make batches; 0 = in the training process")
    seed: int = Field(0, ge=0, description="all randomness is drawn from (seed, purpose, step)")
    after: int = Field(
        0, ge=0, description="optimiser steps of a finished training that this one takes further; the rest is a cycle of its own"
    )

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def record_interval(self) -> int:
        """Optimiser steps averaged into one recorded value."""
        return self.record_every or max(1, self.steps // 1000)

    def decisive(self) -> dict[str, Any]:
        """The settings that change the result; a run can be resumed only under the same ones."""
        return self.model_dump(mode="json", exclude={"workers", "checkpoint_every", "record_every", "compile"})
