"""What is shown, as plain data: formulas (:mod:`math`), blocks (:mod:`blocks`) and drawings (:mod:`drawing`).

Nothing here knows torch, a domain or an output format; ``render`` turns it into text, HTML, LaTeX, Markdown
or a notebook.
"""
