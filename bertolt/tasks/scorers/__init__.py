"""How answers are scored: counts, and what they say in files, in a terminal and on a page."""
