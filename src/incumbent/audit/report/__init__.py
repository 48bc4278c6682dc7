"""Findings for people, for programs, for the code scanning of a forge: `text`, `json`, `sarif`."""
