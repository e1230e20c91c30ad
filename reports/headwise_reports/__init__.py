"""The HTML report: from sections and attention to one page that opens offline."""
