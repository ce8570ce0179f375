"""Rankings and reports as terminal tables, HTML, Markdown, CSV and JSON."""
