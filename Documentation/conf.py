# SPDX-License-Identifier: GPL-2.0-only
#
# Sphinx's configuration; tools/docs calls it, with the version and with what is
# generated from the sources.

project = "vfio-type1"
author = copyright = "The vfio-type1 authors"
html_theme = "alabaster"
html_theme_options = {
    "description": "A VFIO type1 backend for the Linux kernel",
    "fixed_sidebar": True,
    "page_width": "66em",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_show_sourcelink = False
html_copy_source = False
highlight_language = "none"
nitpicky = True
# Not all that a signature names is documented here: most is the kernel's.
nitpick_ignore_regex = [("c:.*", ".*")]
