from __future__ import annotations

import pytest

from meow_lightning.report.figures import cumulative, widest_gap
from meow_lightning.report.style import DARK, LIGHT, sheet
from meow_lightning.report.svg import COLOURS, inline, render, spread_labels


def test_cumulative_counts_shares_at_or_below() -> None:
    assert cumulative([3.0, 1.0, 2.0, 2.0]) == ([1.0, 2.0, 2.0, 3.0], [0.25, 0.5, 0.75, 1.0])


def test_widest_gap_is_the_kolmogorov_smirnov_distance() -> None:
    # below 2.5: all of the first sample, one of three of the second
    value, first, second = widest_gap([1.0, 2.0, 2.5], [2.0, 3.0, 4.0])
    assert (value, first) == (2.5, 1.0)
    assert second == pytest.approx(1 / 3)


def test_widest_gap_of_equal_samples_is_zero() -> None:
    _, first, second = widest_gap([1.0, 2.0], [1.0, 2.0])
    assert first == second


def test_spread_moves_labels_down_until_they_are_apart() -> None:
    assert spread_labels([-0.5, -6.0, 0.0], gap=1.0) == [-1.0, -6.0, 0.0]
    assert spread_labels([0.0, 0.0, 0.0], gap=1.0) == [0.0, -1.0, -2.0]


def test_every_drawn_colour_has_its_own_value_and_a_dark_twin() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert set(DARK) == set(LIGHT)


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_texts_and_lines_stand_out_from_the_page_in_both_themes(theme: dict[str, str]) -> None:
    surfaces = {"paper", "panel", "mark", "added", "gone"}
    for name in theme.keys() - surfaces - {"rule"}:
        assert contrast(theme[name], theme["paper"]) >= 4.5, name
    for name in surfaces:
        assert contrast(theme["ink"], theme[name]) >= 4.5, name


def test_print_is_light_whatever_the_reader_prefers() -> None:
    text = sheet()
    assert text.startswith(f":root {{ color-scheme: light; --ink: {LIGHT['ink']};")
    assert text.count("@media screen and (prefers-color-scheme: dark)") == text.count("@media") == 1


def test_render_is_the_same_on_every_run_and_inline_follows_the_page() -> None:
    def draw(figure):  # type: ignore[no-untyped-def]
        figure.add_subplot().plot([0, 1], [0, 1], color=COLOURS["target"], label="a < $b")

    first, again = (render("p", "A & B", "", missing="", size=(2, 2), draw=draw) for _ in range(2))
    assert first == again
    assert first.svg is not None
    assert COLOURS["target"] in first.svg
    page = inline(first)
    assert "var(--target)" in page
    assert COLOURS["target"] not in page
    assert 'aria-label="A &amp; B"' in page
    assert 'id="p-' in page
    assert "metadata" not in page


def test_a_picture_that_was_not_drawn_has_no_svg_to_inline() -> None:
    picture = render("p", "T", "", missing="nothing to see", size=(1, 1), draw=lambda figure: None)
    with pytest.raises(ValueError, match="figure p was not drawn: nothing to see"):
        inline(picture)
