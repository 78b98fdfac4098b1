"""The report of a run: one static HTML page and the pictures it shows.

`build.build_report` writes it. `collect` and `readers/` turn a run's folder into the plain facts of `facts`; `charts/`
and `templates/` turn the facts into the page and know nothing of files.
"""
