"""What stands in for SLURM's commands, and jobs to give it."""

from __future__ import annotations

import sys
from pathlib import Path

from workbench.jobs.executors import Job


def answer(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


class WordsJob(Job):
    """Writes the words it was given, one per line."""

    @property
    def command(self) -> list[str]:
        words = (str(self.parameters["word"]), *self.options)
        return [
            sys.executable,
            "-c",
            "import os, sys; print(*sys.argv[1:], *map(os.environ.get, ('MARK', 'WORKBENCH_QUEUED')), sep='\\n')",
            *words,
        ]


def make_job(folder: Path, index: int) -> Job:
    word = f'it\'s {index} $HOME `x` "y" * é'
    environment = {"MARK": "two words", "CUDA_VISIBLE_DEVICES": "3", "WORKBENCH_QUEUED": "1"}
    return WordsJob(f"e/r{index}", "unet", folder, {"word": word}, folder / "my runs", folder / f"{index}.log", environment)
