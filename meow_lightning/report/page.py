"""Report files of one run: one self-contained HTML page, tables and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from meow_lightning.memo.selection_diagnostics import warnings
from meow_lightning.report import rounds, seed_spread, tables
from meow_lightning.report.data import DASH, ROLE_NAMES, ROLES, ReportData, flatten, format_value, label, number
from meow_lightning.report.figures import pictures
from meow_lightning.report.questions import questions
from meow_lightning.report.selection import section, selection_of
from meow_lightning.report.style import sheet
from meow_lightning.report.svg import Picture, inline
from meow_lightning.report.verdict import COLLAPSED, KEPT, MAX_EXCESS_RECALL, SIGNIFICANCE, Verdict, kept_share, verdict
from meow_lightning.tracking.disclosure import SHAREABLE
from meow_lightning.types import Definition


def write_report(data: ReportData, folder: Path, *, shareable: ReportData | None = None) -> Path:
    """Write ``report.html``, ``table.md``, ``table.csv`` and ``figures/*.svg``, and return the path of the first.

    The page is self-contained: no scripts, fonts or external images. Figures of an earlier report that are no longer
    drawn are removed.

    Args:
        data: Data of the run. With ``data.texts`` off, no file contains a question or answer.
        folder: Target folder; created if missing.
        shareable: The data without private content, for a second page; ``None`` for no such page.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawn = pictures(data)
    for picture in [*drawn, rounds.picture(data.loop)]:
        path = folder / "figures" / f"{picture.name}.svg"
        if picture.svg is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(picture.svg, encoding="utf-8")
    (folder / "table.md").write_text(tables.markdown(data.results), encoding="utf-8")
    (folder / "table.csv").write_text(tables.csv(data.results), encoding="utf-8")
    report = folder / "report.html"
    report.write_text(page(data, drawn), encoding="utf-8")
    if shareable is not None:
        (folder / SHAREABLE).write_text(page(shareable, drawn), encoding="utf-8")
    return report


def page(data: ReportData, drawn: Sequence[Picture]) -> str:
    """Render the page as HTML: verdict, table, figures, selection, questions, settings."""
    choice = selection_of(data)
    notes = [*data.notes, *tables.unmeasured_reasons(data.results), *(warnings(choice) if choice else [])]
    body = "\n".join(
        [
            f'<header><div class="kicker">MEOW-lightning · report of one run · <code>{escape(data.key)}</code></div>'
            f"<h1>{escape(data.name)}</h1></header>",
            f'<p class="warning">{escape(data.disclaimer)}</p>' if data.disclaimer else "",
            _verdict(data, verdict(data.results)),
            _notes(notes),
            _over_seeds(data),
            f"<section><h2>Numbers</h2>{_table(data)}</section>",
            f'<section><h2>Figures</h2><div class="figures">{"".join(map(_figure, drawn))}</div></section>',
            section(choice),
            rounds.section(data.loop),
            f"<section><h2>Questions before and after</h2>{questions(data)}</section>",
            f"<section><h2>How it was made</h2>{_stages(data)}{_settings(data)}{_definitions(data)}</section>",
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(data.name)}</title>\n<style>\n{sheet()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _over_seeds(data: ReportData) -> str:
    """Render the comparison with runs that differ only in the seed; empty if none were measured."""
    if data.spread is None:
        return ""
    head, *listed = seed_spread.rows(data.results, data.spread)
    bars = "".join(
        f"<tr><th>{typeset(name)}</th>{''.join(f'<td>{typeset(text)}</td>' for text in texts)}</tr>"
        for name, *texts in listed
    )
    heads = "".join(f"<th>{escape(text)}</th>" for text in head)
    return (
        f"<section><h2>Compared with {len(data.spread.seeds)} seeds</h2>"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{bars}</tbody></table></div>'
        f'<p class="small">The unlearned model over seeds {", ".join(map(str, data.spread.seeds))}: '
        f"<code>{escape(data.spread.command)}</code> ({escape(data.spread.made)}). The interval of the mean covers "
        "the variation over both seeds and questions.</p></section>"
    )


def _notes(notes: Sequence[str]) -> str:
    """Render the notes on models and facts; empty without notes."""
    listed = "".join(f"<li>{escape(note[:1].upper() + note[1:])}</li>" for note in notes)
    return f'<section class="note"><h3>About these models and facts</h3><ul>{listed}</ul></section>' if notes else ""


def typeset(text: str) -> str:
    """Escape a text for HTML, with typographic minus signs and powers of ten."""
    safe = escape(text)
    safe = re.sub(r"(?<![\w.])(-?[\d.]+)e([+-])0*(\d+)", _power, safe)
    return re.sub(r"(?<![\w.-])-(?=\d|inf\b)", "−", safe).replace("log10", "log<sub>10</sub>")


def _power(match: re.Match[str]) -> str:
    """Render ``4e-07`` as four times ten to the minus seven."""
    return f"{match[1]} × 10<sup>{'−' if match[2] == '-' else ''}{match[3]}</sup>"


def _verdict(data: ReportData, outcome: Verdict) -> str:
    """Render the verdict, the key numbers behind it, and their limits."""
    findings = "".join(f"<dt>{escape(topic)}</dt><dd>{typeset(text)}</dd>" for topic, text in outcome.findings)
    limits = "".join(f"<li>{typeset(limit)}</li>" for limit in outcome.limits)
    return (
        f'<section class="verdict" style="--tone: var(--{outcome.tone})">'
        f'<p class="headline">{escape(outcome.headline)}</p><dl>{findings}</dl></section>'
        f'<div class="stats">{_stats(data)}</div>'
        f'<h3>What this does not show</h3><ul class="limits">{limits}</ul>'
        f'<p class="small">Thresholds: forgotten means p ≥ {SIGNIFICANCE} and the true value stated in at most '
        f"{MAX_EXCESS_RECALL:.0%} of the answers more than by the retain model, and likewise for answers that hold any "
        f"forgotten value. Kept means at least {KEPT:.0%}, "
        f"collapsed means below {COLLAPSED:.0%} of the target model's number, by the worst of model utility, retain "
        "ROUGE-L and retain value accuracy.</p>"
    )


def _stats(data: ReportData) -> str:
    """Render the key numbers before and after."""
    names = (
        "forget_quality_log10", "forget/value_accuracy", "forget/leakage", "model_utility", "retain/value_accuracy",
        "memo/answers",
    )  # fmt: skip
    cards = []
    for name in names:
        before, after = (number(data.results, role, name) for role in ("target", "unlearned"))
        if after is None:
            continue
        was = "" if before is None else f"<s>{typeset(format_value(name, before))} →</s> "
        share = kept_share(data.results, name) if name == "model_utility" else None
        kept = f", {share:.0%} kept" if share is not None else ""
        cards.append(f"<div><b>{was}{typeset(format_value(name, after))}</b><i>{typeset(label(name))}{kept}</i></div>")
    return "".join(cards)


def _table(data: ReportData) -> str:
    """Render the main numbers and, folded, all others; dashes refer to their reasons."""
    names = tables.metric_names(data.results)
    main = [name for name in names if tables.is_main(name)]
    further = [name for name in names if name not in main]
    folded = (
        f"<details><summary>{len(further)} further numbers: memorisation, fluency, membership</summary>"
        f"{_numbers(data, further)}</details>"
    )
    return (
        f'{_numbers(data, main)}<p class="small">{escape(tables.LEGEND)} {DASH}&nbsp;not&nbsp;measured. Small figures: '
        "bootstrap intervals over the questions alone (evaluation.bootstrap_samples, evaluation.confidence_level); the "
        "variation over seeds is under <i>Compared with … seeds</i> where it was measured, and at the end of a sweep: "
        "-m seed=0,1,2.</p>" + (folded if further else "")
    )


def _numbers(data: ReportData, names: Sequence[str]) -> str:
    """Render numbers of all roles as a table, with reasons for missing ones below."""
    lines, reasons = tables.lines(data.results, names)
    rows, group = [], None
    for line in lines:
        kind = line.name.split("/")[0] if "/" in line.name else ""
        cells = "".join(
            f"<td>{typeset(text)}{f'<sup>{note}</sup>' if note else ''}{_interval(data, role, line.name)}</td>"
            for role, text, note in zip(ROLES, line.cells, line.notes, strict=True)
        )
        style = ' class="group"' if group is not None and kind != group else ""
        rows.append(
            f"<tr{style}><th>{typeset(line.label)} <span>{line.arrow}</span></th>"
            f'<td class="unit">{typeset(line.unit)}</td>{cells}</tr>'
        )
        group = kind
    heads = "".join(f'<th class="{role}">{role}</th>' for role in ROLES)
    notes = "".join(f"<br><sup>{place}</sup> {escape(reason)}" for place, reason in enumerate(reasons, start=1))
    return (
        f'<div class="wide"><table><thead><tr><th>metric</th><th>unit</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>" + (f'<p class="small">{notes[4:]}</p>' if notes else "")
    )


def _interval(data: ReportData, role: str, name: str) -> str:
    """Render a number's bootstrap interval, in small print below it."""
    interval = data.intervals.get(role, {}).get(name)
    if interval is None or number(data.results, role, name) is None:
        return ""
    low, high = (typeset(format_value(name, end)) for end in interval)
    return f'<div class="interval">{low} to {high}</div>'


def _figure(picture: Picture) -> str:
    """Render a figure with its caption, or the reason for its absence."""
    caption = f"<b>{escape(picture.title)}.</b>"
    if picture.svg is None:
        shown = f'<div class="none">not measured: {escape(picture.missing)}</div>'
    else:
        shown, caption = inline(picture), f"{caption} {typeset(picture.caption)}"
    wide = ' class="across"' if picture.across else ""
    return f"<figure{wide}>{shown}<figcaption>{caption}</figcaption></figure>"


def _stages(data: ReportData) -> str:
    """Render every stage with its time and key, and the model's location."""
    rows = "".join(
        f"<tr><th>{escape(str(stage['label']))}</th><td>{_duration(float(stage['seconds']))}</td>"
        f"<td><code>{escape(str(stage['key']))}</code></td></tr>"
        for stage in data.stages
    )
    total = sum(float(stage["seconds"]) for stage in data.stages)
    load = f'AutoModelForCausalLM.from_pretrained("{data.weights}")'
    return (
        f"<p>The unlearned model: <code>{escape(load)}</code></p><h3>Stages</h3>"
        '<div class="wide"><table class="plain">'
        "<thead><tr><th>stage</th><th>time</th><th>key</th></tr></thead>"
        f'<tbody>{rows}</tbody></table></div><p class="small">Total {_duration(total)}: the time that '
        "each stage took when it was computed; stages shared with other runs were computed only once.</p>"
    )


def _duration(seconds: float) -> str:
    """Format seconds in a readable unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _settings(data: ReportData) -> str:
    """Render every setting with its origin."""
    settings = flatten(data.settings)
    rows, seen = [], set()
    for path, value in settings.items():
        last = path.rsplit(".", 1)[-1]
        known = path if path in data.settings_origin else last
        seen.add(known)
        rows.append(_setting(path, _value(value), data.settings_origin.get(known, "")))
    rows += [_setting(name, DASH, text) for name, text in data.settings_origin.items() if name not in seen]
    return (
        f"<details><summary>{len(rows)} settings and where they came from</summary>"
        '<div class="wide"><table class="plain"><thead><tr><th>setting</th><th>value</th><th>origin</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _setting(path: str, value: str, origin: str) -> str:
    """Render one row of the settings."""
    return (
        f"<tr><th><code>{escape(path)}</code></th><td><code>{escape(value)}</code></td>"
        f'<td class="origin">{escape(origin)}</td></tr>'
    )


def _value(value: Any) -> str:
    """Format a setting as in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _definitions(data: ReportData) -> str:
    """Render the definition of every number."""
    shared: dict[Definition, list[str]] = {}  # numbers with the same definition are listed together
    for known in data.results.definitions:
        shared.setdefault(replace(known, name=""), []).append(label(known.name))
    items = "".join(
        f"<dt>{typeset(', '.join(names))}</dt><dd>{escape(known.text)} "
        f'<span class="small">Unit: {escape(known.unit)}. Better: {_better(known.direction)}. '
        f"<code>{escape(known.id)}</code></span></dd>"
        for known, names in shared.items()
    )
    roles = ", ".join(ROLE_NAMES[role] for role in ROLES)
    return (
        f"<details><summary>What the numbers mean ({len(shared)} definitions)</summary>"
        f'<p class="small">Models: {roles}. The target model knows everything, the retain model never saw the forget '
        "set, the unlearned model is the target model after unlearning.</p>"
        f'<dl class="definitions">{items}</dl></details>'
    )


def _better(direction: str) -> str:
    """Name the better direction."""
    return direction if direction in ("higher", "lower") else "neither"
