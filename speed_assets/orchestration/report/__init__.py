"""`speed report`: one HTML page about a home, a run or a release, complete in itself.

    subject      the artifacts that a report is about
    contents     what the page says, as plain values
    sections     the parts of the page that read tables: revisions, quarantine, scores, changes
    drawing      the graph and the intervals as SVG
    page         values into HTML

Belongs here: reading what is made, and showing it. Not here: making or judging anything.
"""

from speed_assets.orchestration.report.page import write_report

__all__ = ["write_report"]
