"""The site of the documentation: `make docs` builds it into build/docs."""

project = "oO integrations"
html_title = project
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
