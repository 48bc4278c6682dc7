"""The rules in docs/audit.md as the registry has them; `python -m tests.audit.page` writes them."""

from __future__ import annotations

from pathlib import Path

from incumbent.audit.finding import Rule
from incumbent.audit.rules import RULES

__all__ = ["PAGE", "with_rules"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit.md"
_BEGIN = "<!-- rules: written by `python -m tests.audit.page` -->\n"
_END = "<!-- end of rules -->\n"


def with_rules(page: str) -> str:
    """Return the page with the rules of the registry between its marks."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{_table()}{''.join(map(_section, RULES))}\n{_END}{after}"


def _table() -> str:
    rows = "".join(
        f"| [{each.id}](#{each.id.lower()}) | {each.severity} | {each.title}{_where(each)} |\n"
        for each in RULES
    )
    return f"\n| rule | severity | what is wrong |\n| --- | --- | --- |\n{rows}"


def _where(rule: Rule) -> str:
    return " *(cluster only)*" if rule.live else ""


def _section(rule: Rule) -> str:
    links = ", ".join(f"<{link}>" for link in rule.links)
    more = f"\nSee {links}\n" if links else ""
    return (
        f"\n### {rule.id}\n\n**{rule.title[0].upper()}{rule.title[1:]}** "
        f"({rule.severity}{', cluster only' if rule.live else ''}).\n"
        f"{rule.why}\n\n→ {rule.fix}\n{more}"
    )


if __name__ == "__main__":
    PAGE.write_text(with_rules(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
