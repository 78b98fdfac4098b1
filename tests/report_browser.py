"""The browser that the report's tests drive, and a page that it shows."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def browser_executable() -> str | None:
    """The system's browser: COMMFORGE_CHROMIUM, or one on PATH, or macOS's application."""
    named = os.environ.get("COMMFORGE_CHROMIUM")
    if named:
        return named
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next((path for path in found if path), str(mac) if mac.exists() else None)


@dataclass
class Visit:
    """An open page and what it complained about or asked for."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def column(self, table: str, number: int) -> list[str]:
        """The texts of a column in the rows that are shown, from the top."""
        cells: list[str] = self.page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()
        return [cell.split("\n")[0] for cell in cells]
