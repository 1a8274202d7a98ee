"""From what a run kept to its report: data, tables, Markdown, CSV and pictures."""
