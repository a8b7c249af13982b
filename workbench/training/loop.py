"""The training loop: one function to read from top to bottom.

Nothing here depends on what ran before except through the checkpoint: batches, augmentation and the network's own random
draws (drop-out) are functions of (seed, step). A training killed at any moment and started again therefore ends with the same
weights, scores and recorded values to the bit, on the same device, thread count and number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from workbench.contracts import Batch, Recorder, Stage
from workbench.errors import RunError, StopRequest
from workbench.seeding import derive_seed
from workbench.training.checkpoints import has_checkpoint
from workbench.training.devices import agree, average, open_accelerator, repeatable, seed_torch, total, use_channels_last
from workbench.training.feeding import numbered_batches
from workbench.training.objective import Objective
from workbench.training.schedule import StageSpan, learning_rate, set_trainable, span_at, spans_of
from workbench.training.settings import TrainingSettings
from workbench.training.state import Keeper, TrainingResult

LONGEST = 600.0
"""Seconds between two checkpoints at most, however long an epoch is: what a killed training can lose."""

Augment = Callable[[Batch, int], Batch]


def train(
    model: nn.Module,
    sampler_batch: Callable[[int], Batch],
    settings: TrainingSettings,
    recorder: Recorder,
    validate: Callable[[Any], float | None] | None,
    *,
    augment: Augment | None = None,
    device: str = "auto",
    progress: bool = True,
) -> TrainingResult:
    """Train a method; resume by itself where `recorder.checkpoint("last")` exists.

    Afterwards `best` holds the weights of the last stage that validated best (without validation the last ones; the moving
    average where `settings.ema` is on) and `last` all that is needed to go on. `model` itself is left with the last weights, on
    the device.

    Args:
        model: a method (`contracts.Method`). A loss term's name starts with its task's ('segmentation/dice_ce', 'markers/idh'):
            a stage that does not list the task leaves the term out. Terms of no task always count.
        sampler_batch: index -> batch (CPU), a pure function. Optimiser step s takes the indices from
            s * accumulate * processes on; each process takes its own.
        settings: see `TrainingSettings`.
        recorder: takes scalars (`train/...`, `validation/<score>`), names checkpoints, says when to stop.
        validate: method in evaluation mode -> score, higher is better; None instead of it or from it = no validation. It may
            raise `StopRequest` where the run is to stop.
        augment: (batch on the device, index) -> batch, a pure function.
        device: auto, cpu, cuda or mps.
        progress: show a bar.

    Raises:
        RunError: the loss or its gradient is not finite (the message names step, cases and terms; the last good checkpoint
            stays), or the checkpoint found belongs to other settings or another architecture.
        ParameterError: device or precision not available, or stages that make no sense.
    """
    accelerator = open_accelerator(settings.precision, device)
    with repeatable(accelerator.device, settings.deterministic):
        loop = _Loop(model, settings, recorder, accelerator)
        state, batches = loop.state, loop.batches(sampler_batch)
        quiet = not (progress and accelerator.is_main_process)
        with loop.gradients_restored(), tqdm(total=settings.steps, initial=state.step, desc="train", disable=quiet) as bar:
            while not state.stopped and not loop.asked_to_stop():
                if not state.unjudged:
                    terms = loop.step(batches, augment)
                    loop.record(terms)
                    bar.update()
                    bar.set_postfix(objective=f"{terms['objective']:.4f}", best=state.best_score, refresh=False)
                if validate is not None and loop.epoch_ends(settings.validate_every):
                    loop.judge(validate)
                    if state.unjudged:
                        break
                loop.keep()
        if not state.stopped:
            loop.keeper.save("last")
    stopped: Any = state.stopped or "cancelled"
    return TrainingResult(state.step, state.best_score, state.best_step, stopped, loop.keeper.budget())


class _Loop:
    """What the loop does in a step and between steps."""

    def __init__(self, model: Any, settings: TrainingSettings, recorder: Recorder, accelerator: Accelerator) -> None:
        self.model, self.settings, self.recorder, self.accelerator = model.to(accelerator.device), settings, recorder, accelerator
        self.cuda = accelerator.device.type == "cuda"
        if settings.channels_last:
            use_channels_last(model)
        self.spans = spans_of(model.stages(), settings)
        self.span: StageSpan | None = None
        self.kept = time.monotonic()
        self.trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.keeper = Keeper(model, settings, recorder, accelerator)  # takes up the last checkpoint
        self.state, self.optimiser = self.keeper.state, self.keeper.optimiser
        if self.cuda and settings.compile:
            model.compile()  # in place: the names in the state dict stay
        objective = Objective(model, accelerator.autocast, settings.channels_last)
        self.objective = accelerator.prepare_model(objective) if accelerator.num_processes > 1 else objective

    def step(self, batches: Iterator[tuple[int, Batch]], augment: Augment | None) -> dict[str, float]:
        """One optimiser step; returns the means of the loss terms, the objective and the norm of the gradient."""
        settings, state = self.settings, self.state
        span = span_at(self.spans, state.step)
        if span is not self.span:
            if state.step == span.start and not settings.after:  # not where a stage is taken up half-way, or beyond its end
                self.enter(span.stage)
            set_trainable(self.model, span.stage, self.trainable)
            self.span = span
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings, span, state.step)
        self.model.train()
        means: dict[str, float] = {}
        with self.counting(span.stage):
            for part in range(settings.accumulate):
                last = part + 1 == settings.accumulate
                with nullcontext() if last else self.accelerator.no_sync(self.objective):
                    terms = self.gradients(*next(batches), span.stage, augment)
                for name, value in terms.items():
                    means[name] = means.get(name, 0.0) + value / settings.accumulate
        means["gradient_norm"] = self.clip()
        if not math.isfinite(means["gradient_norm"]):
            raise RunError(f"the gradient is not finite at optimiser step {state.step + 1}, though the loss is. {self.advice()}")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.keeper.averaged is not None:
            self.keeper.averaged.update_parameters(self.model)
        state.step += 1
        return means

    def enter(self, stage: Stage) -> None:
        """Let the method begin a stage, a function of (seed, stage); what starts anew forgets its momentum and its average.

        Each stage chooses its own best weights: those of an earlier one are not what the recipe makes, however they score.
        """
        self.state.best_score, self.state.best_step, self.state.stale = None, 0, 0
        seed_torch(self.accelerator.device, derive_seed(self.settings.seed, "stage", stage.name))
        anew = self.model.enter_stage(stage)
        averages = {} if self.keeper.averaged is None else dict(self.keeper.averaged.module.named_parameters())
        for name, parameter in self.model.named_parameters():
            if anew and name.startswith(anew):
                self.optimiser.state.pop(parameter, None)
                if name in averages:
                    averages[name].data.copy_(parameter.data)

    def gradients(self, index: int, batch: Batch, stage: Stage, augment: Augment | None) -> dict[str, float]:
        """Forward and backward of one batch; returns the objective and its terms. Gradients add up in the parameters."""
        seed_torch(self.accelerator.device, derive_seed(self.settings.seed, "step", index))  # drop-out, stochastic depth
        batch = batch.to(self.accelerator.device, non_blocking=True)
        if augment is not None:
            batch = augment(batch, index)
        # what a method ties to its progress (a curriculum) stays as it ended where a finished training is taken further
        progress = 1.0 if self.settings.after else self.state.step / self.settings.steps
        terms = self.objective(batch, stage, progress)
        objective = torch.stack(list(terms.values())).sum() if terms else torch.zeros(())
        if not objective.requires_grad:
            raise RunError(f"stage '{stage.name}' (tasks {', '.join(stage.tasks)}) has no loss term that reaches a parameter")
        values = dict(zip(["objective", *terms], torch.stack([objective, *terms.values()]).tolist(), strict=True))
        wrong = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise RunError(
                f"the loss is not finite at optimiser step {self.state.step + 1}: {', '.join(wrong)}; "
                f"cases {', '.join(batch.cases) or 'unnamed'}. {self.advice()}"
            )
        self.accelerator.backward(objective / self.settings.accumulate)
        self.state.samples += len(batch.images) * self.accelerator.num_processes
        return values

    def clip(self) -> float:
        """The norm of the whole gradient before clipping; what the method names in `clipped` (nothing: all) is clipped."""
        parts, limit = self.model.clipped, self.settings.clip or math.inf
        chosen = [p for name, p in self.model.named_parameters() if name.startswith(parts)] if parts else self.model.parameters()
        whole = nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(chosen, limit)
        return float(whole)

    def advice(self) -> str:
        """What is left after a failure, and what usually helps."""
        stem = self.recorder.checkpoint("last")
        kept = f"The checkpoint {stem} stays as it was" if has_checkpoint(stem) else "There is no earlier checkpoint"
        return f"{kept}. Look at these cases with `workbench cohort check`, lower the learning rate, or use precision 'no'"

    @contextmanager
    def counting(self, stage: Stage) -> Iterator[None]:
        """Count the operations of a stage's first step; add every step's to the budget."""
        state = self.state
        if self.cuda and self.settings.compile:
            state.flops = None  # compiled kernels cannot be counted
        if state.flops is None or stage.name in state.stage_flops:
            yield
        else:
            with FlopCounterMode(display=False) as counter:
                yield
            state.stage_flops[stage.name] = total(self.accelerator, counter.get_total_flops())
        if state.flops is not None:
            state.flops += state.stage_flops[stage.name]

    def batches(self, sampler_batch: Callable[[int], Batch]) -> Iterator[tuple[int, Batch]]:
        """(index, batch) for this process, from the current step to the end of the run."""
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        start, stop = (step * self.settings.accumulate * processes for step in (self.state.step, self.settings.steps))
        return numbered_batches(sampler_batch, range(start + rank, stop, processes), self.settings.workers)

    @contextmanager
    def gradients_restored(self) -> Iterator[None]:
        """Parameters that a stage froze want gradients again at the end."""
        try:
            yield
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name in self.trainable)

    def asked_to_stop(self) -> bool:
        """Whether the recorder says so, on the main process."""
        return bool(agree(self.accelerator, self.recorder.should_stop()))

    def epoch_ends(self, every: int) -> bool:
        """Whether the step just done ends an epoch that is due, or the run."""
        epoch, rest = divmod(self.state.step, self.settings.steps_per_epoch)
        return rest == 0 and (epoch % every == 0 or self.state.step == self.settings.steps)

    def record(self, terms: dict[str, float]) -> None:
        """Add one step's terms to the window; record the window's means when it is full."""
        state = self.state
        for name, value in (terms | {"learning_rate": self.optimiser.param_groups[0]["lr"]}).items():
            state.window[name] = state.window.get(name, 0.0) + value
        state.window_steps += 1
        if state.window_steps == self.settings.record_interval or state.step == self.settings.steps:
            means = {name: value / state.window_steps for name, value in state.window.items()}
            for name, value in average(self.accelerator, means).items():
                if self.accelerator.is_main_process:
                    self.recorder.scalar(f"train/{name}", value, state.step)
            state.window, state.window_steps = {}, 0

    def judge(self, validate: Callable[[Any], float | None]) -> None:
        """Validate the weights that would be used now; keep them where they are the best so far.

        Where the validation is broken off because the run is to stop, it stays due: the resumed run makes up for it first.
        """
        state = self.state
        found: float | StopRequest | None = None
        if self.accelerator.is_main_process:
            seed_torch(self.accelerator.device, derive_seed(self.settings.seed, "validate", state.step))
            with torch.no_grad(), self.accelerator.autocast():
                try:
                    found = validate(self.keeper.judged().eval())
                except StopRequest as request:
                    found = request
        score = agree(self.accelerator, found)
        state.unjudged = isinstance(score, StopRequest)
        if score is None or state.unjudged:
            return
        if self.accelerator.is_main_process:
            self.recorder.scalar(f"validation/{self.settings.score}", score, state.step)
        state.stale += 1
        if math.isfinite(score) and (state.best_score is None or score > state.best_score):
            state.best_score, state.best_step, state.stale = float(score), state.step, 0
            self.keeper.save("best")
        if self.settings.patience and state.stale >= self.settings.patience and state.step > self.spans[-1].start:
            state.stopped = "early"  # in an earlier stage there is still something to come

    def keep(self) -> None:
        """Save what is due after a step; 'last' comes last, since it says that the step is done."""
        state = self.state
        if state.step == self.settings.steps:
            state.stopped = "finished"
        if state.stopped and state.best_score is None:  # no validation, or none with a score
            state.best_step = state.step
            self.keeper.save("best")
        due = state.step % (self.settings.checkpoint_every or self.settings.steps_per_epoch) == 0
        if state.stopped or due or time.monotonic() - self.kept > LONGEST:
            self.keeper.save("last")
            self.kept = time.monotonic()
