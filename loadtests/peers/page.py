"""One self-contained HTML page of a run: what was compared, the ratios as bars, the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from loadtests.peers.contenders import CHORUS, LIBRARIES
from loadtests.peers.report import title
from loadtests.peers.standing import Outcome, Pair, Standing
from loadtests.proofs.evidence import Figure

STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #66707a; --line: #dde2e6; --page: #ffffff;
        --fp32: #8da2b5; --bf16: #c2571a; --bad: #b3261e; --good: #2e7d32 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #98a2ac; --line: #333b43; --page: #14181c;
        --fp32: #6f8aa3; --bf16: #e07b3a; --bad: #ff8a80; --good: #81c784 } }
body { margin: 0 auto; padding: 1.2rem; max-width: 60rem; background: var(--page); color: var(--ink);
       font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: .2rem 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem }
p, caption { color: var(--soft); text-align: left } .wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .28rem .6rem .28rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap }
td:first-child { white-space: normal; min-width: 10rem } td.n, th.n { text-align: right } td.bar { width: 40%; min-width: 9rem } td.bar div { height: .8rem; border-radius: 2px }
.fp32 { background: var(--fp32) } .bf16 { background: var(--bf16) } .bad { color: var(--bad) } .good { color: var(--good) }
"""


def html(outcomes: Sequence[Outcome], figures: Sequence[Figure], machine: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Chorus and its peers</title><style>{STYLE}</style><h1>Chorus and its peers</h1>",
        (
            "<p>The same rows with the same adapters in every library. All processes live at once and compute in turn, on the "
            "same cores with as many threads; a ratio is taken within a round. Bars: throughput of Chorus over that of the "
            "peer, medians, with quartiles beside them.</p>"
        ),
        f"<p>{escape(_machine(machine))}</p>",
        *(part for outcome in outcomes for part in _backbone(outcome)),
        *_verdict(figures),
    ]
    return "\n".join(parts) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    known: dict[str, Any] = {
        name: ", ".join(value) if isinstance(value, list) else value for name, value in machine.items()
    }
    if "memory_bytes" in known:
        known["memory"] = f"{known.pop('memory_bytes') / (1 << 30):.0f} GiB"
    return " · ".join(f"{name.replace('_', ' ')}: {value}" for name, value in known.items())


def _backbone(outcome: Outcome) -> Iterator[str]:
    pairs = outcome.pairs()
    longest = max((pair.spread.median for pair in pairs if pair.counts), default=1.0)
    yield f"<h2>{escape(outcome.backbone)}: {outcome.rows} rows, {outcome.tokens} tokens</h2>"
    yield "<div class=wide><table><tr><th>peer<th>Chorus in<th class=n>times faster<th class=n>quartiles<th>"
    yield from (_pair(pair, longest) for pair in pairs)
    yield "</table></div><h2>Everyone's own figures</h2><div class=wide><table>"
    yield "<tr><th>contender<th>precision<th class=n>ms<th class=n>rows/s<th class=n>largest error<th class=n>least cosine"
    yield from (_standing(outcome, standing) for standing in outcome.standings)
    yield "</table></div>"
    told = (
        f"{LIBRARIES[library].title} ({', '.join(f'{name} {number}' for name, number in versions.items())})"
        for library, versions in outcome.versions.items()
    )
    yield f"<p>{escape('; '.join(told))}</p>"


def _pair(pair: Pair, longest: float) -> str:
    name = f"<tr><td>{escape(title(pair.peer))}, {pair.peer.precision}<td>{pair.own.precision}"
    if not pair.counts:
        return f"{name}<td class='n bad' colspan=3>wrong answers: does not count"
    spread = pair.spread
    return (
        f"{name}<td class=n>{spread.median:.2f}<td class=n>{spread.lower:.2f} to {spread.upper:.2f}"
        f"<td class=bar><div class={pair.own.precision} style='width:{100 * spread.median / longest:.1f}%'></div>"
    )


def _standing(outcome: Outcome, standing: Standing) -> str:
    one, agreed = standing.contender, standing.agreement
    name = escape(title(one) + (f" ({standing.note})" if standing.note else ""))
    name = f"<b>{name}</b>" if one.library == CHORUS else name
    mark = "n" if agreed.holds else "n bad"
    return (
        f"<tr><td>{name}<td>{one.precision}<td class=n>{1e3 * standing.median:.1f}"
        f"<td class=n>{outcome.rows / standing.median:.1f}<td class='{mark}'>{agreed.distance:.1e}"
        f"<td class='{mark}'>{agreed.least_cosine:.5f}"
    )


def _verdict(figures: Sequence[Figure]) -> Iterator[str]:
    yield "<h2>What the ratios have to be</h2><div class=wide><table>"
    for figure in figures:
        mark, word = ("good", "holds") if figure.holds else ("bad", "fails")
        value = f"{figure.value:.2f} {figure.bound} {figure.limit:g}"
        yield f"<tr><td class={mark}>{word}<td class=n>{escape(value)}<td>{escape(figure.name)}"
    yield "</table></div>"
