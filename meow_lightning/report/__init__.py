"""Report of one finished run: tables, figures and one self-contained HTML page."""
