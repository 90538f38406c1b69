"""What people read of a report: HTML, Markdown, terminal, annotations."""
