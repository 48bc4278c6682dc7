"""Pollers: their pace, the generic one, files of a folder, rows of a database."""
