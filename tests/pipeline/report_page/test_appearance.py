"""The page fits its window and can be read, light and dark."""

from collections.abc import Callable
from pathlib import Path

import pytest
from report_browser import Visit

CONTRAST = """() => {
  const channels = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = Array.from(element.childNodes).some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.disabled) continue;
    const style = getComputedStyle(element);
    const text = channels(element.closest("svg") ? style.fill : style.color);
    const [light, dark] = [luminance(text), luminance(behind(element))].sort((a, b) => b - a);
    if ((light + 0.05) / (dark + 0.05) < 4.5) poor.add(`${element.tagName} ${element.className} ${style.color}`);
  }
  return Array.from(poor);
}"""
"""Elements whose own text has less than WCAG AA's contrast of 4.5 with what is behind it."""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_fits_its_window_and_text_has_contrast(run: Path, visit: Callable[..., Visit], scheme: str, width: int) -> None:
    opened = visit(run / "report" / "index.html", color_scheme=scheme, viewport={"width": width, "height": 900})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    poor = opened.page.evaluate(CONTRAST)
    assert poor == []
