"""The report of one finished cell: tables, pictures and one self-contained HTML page."""
