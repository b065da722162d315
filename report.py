"""Writes a report on networks: what each is left with and why, how good and how fast it is, as HTML or Markdown."""

import edited_release

with edited_release.required():
    from ultralytics.pruning.command_line import entry, kinds
    from ultralytics.pruning.reports import writing

if __name__ == "__main__":
    options = entry.Parser(
        "Writes a report on checkpoints and runs: one HTML file that needs nothing else, or Markdown.",
        "python report.py runs/compress -o report.html",
        keys=frozenset(),
        device=None,
    )
    add = options.add_argument
    named = "checkpoints, .pt, and folders of trainings, of compress.py and of val.py; the first is what others face"
    add("sources", type=kinds.as_source, nargs="+", metavar="RUN_OR_WEIGHTS", help=named)
    add(
        "-o", "--output", type=kinds.as_product, metavar="FILE", default="report.html", help="the .html or .md to write"
    )
    add("--data", type=kinds.as_data_set, help="data set whose images are shown; that of the training if empty")
    add("--overwrite", action="store_true", help="replace a file that is no report")
    entry.run(options, writing.report_stage)
