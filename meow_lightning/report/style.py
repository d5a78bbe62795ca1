"""Style sheet of the report: one column, muted colours, light and dark mode, printable."""

from __future__ import annotations

from meow_lightning.report.svg import COLOURS

DARK = {
    "ink": "#e4e2dc",
    "soft": "#9a9ea6",
    "rule": "#3a3d42",
    "target": "#e0895a",
    "unlearned": "#6cb6ea",
    "retain": "#a3a7af",
    "curve0": "#6cb6ea",
    "curve1": "#e0895a",
    "curve2": "#8fbf8a",
    "curve3": "#c39ad6",
    "curve4": "#d3b95c",
    "paper": "#17191c",
    "panel": "#1f2226",
    "mark": "#5a4a12",
    "good": "#7dbb7a",
    "mixed": "#d3b95c",
    "bad": "#e57f73",
    "open": "#9a9ea6",
}
LIGHT = {
    **COLOURS,
    "paper": "#fdfcf9",
    "panel": "#f5f3ed",
    "mark": "#fbe9a6",
    "good": "#3f7d3c",
    "mixed": "#a07a12",
    "bad": "#b3352b",
    "open": "#6b7078",
}

RULES = """
* { box-sizing: border-box; }
html { background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; }
body { font: 17px/1.55 Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", Georgia, serif;
  max-width: 62rem; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1, h2, h3, dt, table, .none, figcaption, summary, .small, .kicker, .stats, .says b { font-family: "Source Sans 3",
  "Helvetica Neue",
  "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; font-weight: 600; letter-spacing: -.01em; margin: .2rem 0 0;
  overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 3.5rem 0 1rem; padding-top: .8rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: .95rem; font-weight: 600; margin: 1.8rem 0 .5rem; }
p, ul { max-width: 44rem; }
code { font: .82em/1.4 "JetBrains Mono", Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere; }
.kicker, .small, figcaption { color: var(--soft); font-size: .82rem; line-height: 1.45; }
.kicker { letter-spacing: .04em; }
.note { color: inherit; opacity: .8; font-size: .92rem; }
.warning { border: 1px solid currentColor; padding: .6rem .9rem; font-weight: 600; }
.verdict { margin: 2.2rem 0 0; padding: .1rem 0 .1rem 1.4rem; border-left: 4px solid var(--tone); }
.verdict .headline { font-size: 1.4rem; line-height: 1.3; margin: 0 0 1rem; max-width: none; }
.verdict dl { display: grid; grid-template-columns: 6.5rem 1fr; gap: .45rem 1rem; margin: 0; max-width: 50rem; }
.verdict dt { color: var(--soft); font-size: .85rem; padding-top: .2rem; }
.verdict dd { margin: 0; }
.stats { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1rem 1.6rem;
  margin: 2.2rem 0; padding: 0; }
.stats div { border-top: 1px solid var(--rule); padding-top: .6rem; }
.stats b { display: block; font-size: 1.35rem; font-weight: 500; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.stats i { font-style: normal; color: var(--soft); font-size: .82rem; }
.stats s { text-decoration: none; color: var(--soft); font-weight: 400; }
.limits { font-size: .92rem; color: var(--ink); }
.limits li { margin: .35rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums lining-nums; width: 100%; }
thead th { border-bottom: 1.5px solid var(--ink); }
thead th, tbody th { text-align: left; font-weight: 500; }
thead th { font-size: .82rem; }
tbody th, td { padding: .28rem .9rem .28rem 0; vertical-align: baseline; }
tbody th { font-weight: 400; }
tbody tr.group > * { border-top: 1px solid var(--rule); padding-top: .6rem; }
table:not(.plain) tr > :nth-child(n+3) { text-align: right; padding-right: 0; min-width: 6rem; }
div.interval { color: var(--soft); font-size: .68rem; line-height: 1.1; white-space: nowrap; }
td.unit, td.origin { color: var(--soft); font-size: .82rem; }
.target { color: var(--target); } .unlearned { color: var(--unlearned); } .retain { color: var(--retain); }
sup, sub { font-size: .7em; line-height: 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr));
  gap: 2.2rem 2.5rem; align-items: start; }
figure { margin: 0; break-inside: avoid; } figure.across { grid-column: 1 / -1; } tbody th span { color: var(--soft); }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: "Source Sans 3", "Helvetica Neue", "Segoe UI", "Liberation Sans", Arial,
  sans-serif !important; }
figcaption { margin-top: .5rem; } figcaption b { color: var(--ink); font-weight: 600; }
.none { border: 1px dashed var(--rule); padding: 2.5rem 1rem; text-align: center; color: var(--soft);
  font-size: .9rem; }
.question { border-top: 1px solid var(--rule); padding: .8rem 0 .9rem; break-inside: avoid; }
.question h4 { font: inherit; font-weight: 600; margin: 0 0 .45rem; }
.question h4 span { color: var(--soft); font-weight: 400; font-size: .8rem; padding-right: .5rem;
  font-variant-numeric: tabular-nums; }
.says { display: grid; grid-template-columns: repeat(4, 1fr); gap: .4rem 1.4rem; font-size: .9rem;
  line-height: 1.4; }
.says b { display: block; font-weight: 500; font-size: .75rem; }
.says > div { overflow-wrap: anywhere; }
.instead { font-size: .82rem; color: var(--soft); margin: .5rem 0 0; max-width: none; }
mark { background: var(--mark); color: inherit; padding: 0 .15em; border-radius: 2px; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; padding: .3rem 0; }
.definitions dt { font-weight: 600; font-size: .88rem; margin-top: .8rem; }
.definitions dd { margin: 0; max-width: 44rem; font-size: .92rem; }
@media (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; font-size: 16px; } .says { grid-template-columns: 1fr 1fr; }
  .verdict dl { grid-template-columns: 1fr; gap: 0; } .verdict dd { margin-bottom: .7rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } h2 { margin-top: 1.6rem; break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; } .verdict, tr { break-inside: avoid; }
}
"""


def sheet() -> str:
    """Build the style sheet; print always uses the light colours."""
    light, dark = (_variables(colours) for colours in (LIGHT, DARK))
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{RULES.strip()}\n"
    )


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
