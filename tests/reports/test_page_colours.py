"""Text can be read in light and dark: contrast by WCAG 2.2, success criterion 1.4.3 (4.5) and 1.4.11 (3)."""

import re

import pytest

from reports.page import TEMPLATES

STYLE = (TEMPLATES / "base.html.j2").read_text()
TEXT = [(text, ground) for text in ("ink", "soft", "accent") for ground in ("paper", "tint", "warn")]
SHAPES = ("raises", "lowers", "soft")
FIXED = {"banner": ("#ffffff", "#1b1f24"), "phantom": ("#ffffff", "#b00020")}


def palettes() -> dict[str, dict[str, str]]:
    """Read the colours of both schemes; dark changes some of the light ones."""
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in re.findall(r":root \{([^}]*)\}", STYLE)[:2])
    return {"light": light, "dark": light | dark}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_the_formula_is_that_of_the_standard() -> None:
    assert contrast("#000", "#fff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT)
def test_text_stands_out(scheme: str, text: str, ground: str) -> None:
    colours = palettes()[scheme]
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bars_stand_out(scheme: str, shape: str) -> None:
    colours = palettes()[scheme]
    assert contrast(colours[shape], colours["paper"]) >= 3.0


@pytest.mark.parametrize("name", sorted(FIXED))
def test_banners_stand_out(name: str) -> None:
    assert FIXED[name][1] in STYLE
    assert contrast(*FIXED[name]) >= 4.5
