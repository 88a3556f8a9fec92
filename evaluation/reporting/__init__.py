"""How results are shown: plots, Markdown and an HTML page that loads nothing from anywhere."""
