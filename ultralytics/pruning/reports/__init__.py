"""Reports: what was done to some networks, and what came of it, as one HTML file or as Markdown."""
