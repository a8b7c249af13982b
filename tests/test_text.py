"""What nobody can see is made visible."""

from workbench.text import visible


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\x07b\x1b[31mc\x00") == "a\\u0007b\\u001b[31mc\\u0000"
    assert visible("half \ud800 of a pair") == "half \\ud800 of a pair"
    assert visible("\u202egnp.live\u202c") == "\\u202egnp.live\\u202c"
    visible("\udcff").encode("utf-8")


def test_other_text_stays() -> None:
    for text in ("", "Dice, WT ≥ 0.8", "Müller/ß 漢字 🧠", "two\nlines\tand a tab", "no\N{NO-BREAK SPACE}break"):
        assert visible(text) == text
