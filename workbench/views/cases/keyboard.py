"""Keyboard shortcuts for a page: a component without a face that reports keys, and ignores those typed into a field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import param
from panel.custom import JSComponent


class Keyboard(JSComponent):
    """Listens on the whole page and calls back with each of `keys` that is pressed.

    Keys pressed in a text field, a list or on a slider's handle belong to that widget; with Ctrl, Alt or Meta to the browser.

    Args:
        callback: called with the key's name as browsers call it: 'ArrowDown', 'o', '?'.
    """

    keys = param.List(default=[], item_type=str, doc="the keys reported; all others are left to the browser")
    active = param.Boolean(default=True, doc="whether keys are reported at all: off while another page is shown")

    _esm = Path(__file__).parent / "keyboard.js"

    def __init__(self, callback: Callable[[str], object], **params: Any) -> None:
        super().__init__(**params)
        self._callback = callback

    def _handle_msg(self, data: Any) -> None:
        key = data.get("key") if isinstance(data, dict) else None
        if key in self.keys:
            self._callback(key)
