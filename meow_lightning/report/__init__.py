"""The report of one finished run: tables, pictures and one self-contained HTML page."""
