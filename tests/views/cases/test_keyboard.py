from __future__ import annotations

from workbench.views.cases.keyboard import Keyboard


def test_only_the_keys_asked_for_are_passed_on():
    pressed: list[str] = []
    keyboard = Keyboard(pressed.append, keys=["o", "?"])
    for message in ({"key": "o"}, {"key": "x"}, {"key": "?"}, "o", {}):
        keyboard._handle_msg(message)
    assert pressed == ["o", "?"]
