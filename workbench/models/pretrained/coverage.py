"""What became of every tensor of a file of pretrained weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import listed
from workbench.models.pretrained.seen import Seen


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What became of every tensor of a file of pretrained weights. Names are MONAI's."""

    file: str
    digest: str
    kind: str
    title: str
    total: int
    matched: tuple[str, ...]
    adapted: tuple[str, ...] = ()
    """Input convolutions put together channel by channel."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Name -> why it was not loaded."""
    unexpected: tuple[str, ...] = ()
    """Tensors of the file that belong to nothing known."""
    other_shape: tuple[str, ...] = ()
    """Tensors that exist in the model under the same name with another shape: the file is refused."""
    missing: tuple[str, ...] = ()
    """Tensors of the model's encoder (of the whole backbone, for a file of a whole network) that the file does not fill."""
    channels: dict[str, str] = field(default_factory=dict)
    """Modality -> where its input weights come from."""
    backbones: int = 1
    seen: Seen = field(default_factory=Seen)

    def __str__(self) -> str:
        """The report, one line per group."""
        lines = [f"{self.file}: {self.title}", f"loaded {len(self.matched)} of {self.total} tensors"]
        if self.backbones > 1:
            lines[-1] += f", into each of {self.backbones} backbones"
        if self.adapted:
            lines.append(f"adapted {len(self.adapted)} input convolutions: {', '.join(self.adapted)}")
        lines += [f"skipped {count}: {reason}" for reason, count in Counter(self.skipped.values()).items()]
        if self.unexpected:
            lines.append(f"unexpected {len(self.unexpected)}: {listed(self.unexpected, 3)}")
        if self.other_shape:
            lines.append(f"of another shape {len(self.other_shape)}: {listed(self.other_shape, 3)}")
        if self.missing:
            lines.append(f"left as they were {len(self.missing)}: {listed(self.missing, 3)}")
        lines.append("input channels: " + ", ".join(f"{name} from {source}" for name, source in self.channels.items()))
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: counts, and names where they are few or matter."""
        plain = {name: value for name, value in vars(self).items() if name not in {"other_shape", "seen"}}
        plain["matched"] = len(self.matched)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
