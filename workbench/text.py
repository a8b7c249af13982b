"""Text from outside, made fit to be shown."""

from __future__ import annotations

import re

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]")


def visible(text: str) -> str:
    """Text with what nobody can see made visible: control characters, halves of surrogate pairs (they cannot be sent to a
    browser), and marks that turn the direction of writing around (with them a name can read as another)."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
