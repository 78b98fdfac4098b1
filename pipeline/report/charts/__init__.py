"""The report's charts, as inline SVG. Colours and type come from the page's CSS, so that they follow its dark mode."""
