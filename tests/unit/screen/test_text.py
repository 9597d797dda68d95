import pytest

from agent.screen.text import clean, clusters, words

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("case", "given", "expected"),
    [
        ("decomposed letters are composed", "U\u0309y ban", "Ủy ban"),
        ("control characters vanish", "a\x00b\x1b[31mc\x7f", "ab[31mc"),
        ("direction marks vanish", "a\u202egnol\u2066b\u200f", "agnolb"),
        ("private and unassigned characters vanish", "a\ue000\uffffb", "ab"),
        ("tabs and runs of blanks are one blank", "a\t  b", "a b"),
        ("line separators are line breaks", "a\u2028b\r\nc\rd", "a\nb\nc\nd"),
        ("many empty lines are one", "a\n\n\n\nb", "a\n\nb"),
        ("a pile of accents is cut to two", "a" + "\u0301" * 50, "á" + "\u0301" * 2),
        ("a number stays with its word", "bão số 9", f"bão số{NBSP}9"),
        ("a unit stays with its number", "trên 38,5 °C", f"trên{NBSP}38,5{NBSP}°C"),
        ("a word that begins like a unit does not", "12 kmt", "12 kmt"),
        ("a dash stays with the word before", "cấp – sơ tán", f"cấp{NBSP}– sơ tán"),
        ("zero-width space of Khmer stays", "ក\u200bខ", "ក\u200bខ"),
    ],
)
def test_text_is_made_fit_for_a_board(case: str, given: str, expected: str) -> None:
    assert clean(given) == expected, case


def test_a_hundred_kilobytes_are_cut_and_marked() -> None:
    cut = clean("ắ " * 50_000, limit=1000)
    assert len(cut) <= 1000
    assert cut.endswith("…")


@pytest.mark.parametrize("line", ["", "a", "a b", "a  b ", "mời bà con", "ខ្មែរ\u200bក", " a"])
def test_words_joined_again_are_the_line(line: str) -> None:
    assert "".join(words(line)) == line


def test_khmer_letters_keep_their_marks() -> None:
    assert clusters("ខ្មែរ") == ["ខ្មែ", "រ"]
