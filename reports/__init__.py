"""Rendering: the results of a run -> charts -> one self-contained HTML file.

    formats    numbers, values and model text as a reader should see them
    curves     the summaries of an intervention, sorted into series and panels
    measures   how each measure is named, drawn and rounded
    view       what is worth showing of the results: key figures, curves, tables (no drawing)
    drawing    one chart -> SVG or PNG (the only module that imports vl_convert)
    encodings  axes, lines of reference and series, which the charts share
    charts     the charts themselves, and ``figures`` for MLflow
    sections   one module for each section of the page, listed in order in ``sections.SECTIONS``
    render     sections -> templates -> report.html (the only module that imports jinja2)

Only ``reports.render`` and ``reports.charts`` are meant to be called from outside. Nothing is imported here:
altair takes half a second, and a command that draws nothing should not wait for it.
"""
