"""The page: one HTML file, no network, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from loadtests.report import gateway, words
from loadtests.report.svg import Limit, Line, figure, heat, number, plot, seconds
from loadtests.results.schema import Distribution, Level, Moment, Result

_STYLE: Final = """
:root{color-scheme:light dark;--back:#fff;--ink:#1b1f24;--soft:#59636e;--line:#d8dee4;--card:#f6f8fa;--good:#116329;
--good-back:#dafbe1;--bad:#a40e26;--bad-back:#ffebe9;--none:#7d4e00;--none-back:#fff3cd;--c1:#0067b1;--c2:#c2510a;
--c3:#00795a;--c4:#8b4aa8;--c5:#9a6700;--c6:#57606a}
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#30363d;--card:#161b22;
--good:#56d364;--good-back:#12261e;--bad:#ff7b72;--bad-back:#2d1517;--none:#e3b341;--none-back:#272115;--c1:#58a6ff;
--c2:#ff9b5e;--c3:#3fb990;--c4:#d2a8ff;--c5:#e3b341;--c6:#9198a1}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:20px 16px 48px;background:var(--back);
color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;
overflow-wrap:anywhere}
h1{font-size:15px;font-weight:600;color:var(--soft);margin:0 0 12px}h2{font-size:19px;margin:36px 0 12px}
.verdict{border-radius:10px;padding:18px 20px;margin:0 0 8px}.verdict b{display:inline-block;letter-spacing:.05em}
.verdict p{font-size:21px;line-height:1.4;margin:6px 0 0;color:var(--ink)}
.pass{background:var(--good-back);color:var(--good)}.fail{background:var(--bad-back);color:var(--bad)}
.none-verdict{background:var(--none-back);color:var(--none)}
.partial{border:1px solid var(--none);color:var(--none);border-radius:10px;padding:10px 20px;margin:8px 0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:16px 0}
.cards div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 14px}
.cards b{display:block;font-size:21px;font-variant-numeric:tabular-nums}.cards span{color:var(--soft);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px;min-width:0}
figcaption{font-weight:600;font-size:15px;margin-bottom:6px}svg{width:100%;height:auto;display:block;overflow:visible}
text{font:12px system-ui,"Segoe UI","Liberation Sans",sans-serif;fill:var(--soft)}text.name{font-size:12.5px}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.line{fill:none;stroke-width:2;stroke-linejoin:round}
.limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:6 4}.interval{fill:var(--bad);opacity:.13}
.band{opacity:.16;stroke:none!important}.touch{opacity:0}.touch:hover{opacity:.6}.cell{fill:var(--c1)}
.c1{stroke:var(--c1);fill:var(--c1)}.c2{stroke:var(--c2);fill:var(--c2)}.c3{stroke:var(--c3);fill:var(--c3)}
.c4{stroke:var(--c4);fill:var(--c4)}.c5{stroke:var(--c5);fill:var(--c5)}.c6{stroke:var(--c6);fill:var(--c6)}
polyline.line{fill:none}
.legend{list-style:none;margin:6px 0 0;padding:0;display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;
color:var(--soft)}.legend i{display:inline-block;width:14px;height:3px;margin:0 6px 3px 0;border-radius:2px}
i.c1,i.heat{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:var(--c3)}i.c4{background:var(--c4)}
i.c5{background:var(--c5)}i.c6{background:var(--c6)}.legend i.limit{height:0;border-top:2px dashed var(--bad)}
.scroll{overflow-x:auto;overflow-wrap:normal}table{border-collapse:collapse;width:100%;font-size:14px;
font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}td.n,th.n{text-align:right;white-space:nowrap}
.word{font-weight:700;white-space:nowrap}.word.PASS{color:var(--good)}.word.FAIL{color:var(--bad)}
.word.na{color:var(--none)}p.note,.none{color:var(--soft);font-size:14px}.why{color:var(--soft)}
@media(max-width:620px){.verdict p{font-size:18px}text,text.name{font-size:17px}text.up{display:none}
.gates tr:first-child,.gates td.why{display:none}
.gates tr{display:grid;grid-template-columns:56px 1fr;border-bottom:1px solid var(--line);padding:6px 0}
.gates td{border:0;padding:0}.gates td:nth-child(2){font-weight:600}.gates td:nth-child(n+3){grid-column:2}
.gates td:nth-child(4){color:var(--soft)}.gates td:nth-child(4)::before{content:"allowed: "}}
@media print{body{max-width:none}figure,.cards div{break-inside:avoid}}
"""


def render(result: Result) -> str:
    """The page of a run. Every word from outside is escaped; the page may load nothing."""
    body = "".join(
        [
            f"<h1>{escape(result.title)} · {escape(result.started)} · {escape(result.environment.target)}</h1>",
            _top(result), _gates(result), _cards(result), _troubles(result), _load(result), _time(result),
            _machine(result), _gateway(result), _figures(result), _stream(result), _others(result), _where(result),
        ]
    )  # fmt: skip
    return document(f"{words.VERDICTS[result.verdict]}: {result.title}", body)


def document(title: str, body: str) -> str:
    """A page of this look around a body whose words are escaped already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def _top(result: Result) -> str:
    kind = {"pass": "pass", "fail": "fail", "none": "none-verdict"}[result.verdict]
    badge, told = words.VERDICTS[result.verdict], escape(words.headline(result))
    text = f'<div class="verdict {kind}"><b>{badge}</b><p>{told}</p></div>'
    if not result.complete:
        text += f'<div class="partial">This run is not complete: {escape(result.stopped)}.</div>'
    return text


def _gates(result: Result) -> str:
    if not result.gates:
        return '<p class="note">No gate was looked at, so nothing here may be believed.</p>'
    rows = [
        f'<tr><td class="word {gate.word.replace("/", "")}">{gate.word}</td><td>{escape(gate.name)}</td>'
        f'<td>{escape(gate.value)}</td><td>{escape(gate.limit)}</td><td class="why">{escape(gate.why)}</td></tr>'
        for gate in result.gates
    ]
    heads = '<th></th><th>gate</th><th>seen</th><th>allowed</th><th class="why">why it counts</th>'
    head = f"<tr>{heads}</tr>"
    return f'<div class="scroll"><table class="gates">{head}{"".join(rows)}</table></div>'


def _cards(result: Result) -> str:
    level = result.whole
    cards = [
        (f"{level.requests:,}", f"requests: {words.outcomes(level)}"),
        *(
            (seconds(one.p95), f"p95 {words.NAMES[name]}")
            for name in (("ttft", "tpot") if "ttft" in level.metrics else ("e2e",))
            if (one := level.metrics.get(name))
        ),
        (number(level.tokens_per_second), "output tokens/s, all people"),
        (f"{number(level.goodput)}/s", "requests that kept every objective"),
        (number(level.in_flight), "requests under way on average"),
    ]
    inside = "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in cards)
    # Which of several loads this is; of one load it is clear.
    which = f'<p class="note">At {escape(level.label)}, behind the warm-up:</p>' if result.levels else ""
    return f'{which}<div class="cards">{inside}</div>'


def _troubles(result: Result) -> str:
    rows = "".join(f"<li>{escape(one)}</li>" for one in words.troubles(result))
    return f"<h2>What went wrong, in the whole run</h2><ul>{rows}</ul>" if rows else ""


def _limits(result: Result, name: str) -> list[Limit]:
    limit = result.objectives.get(name)
    return [] if limit is None else [Limit(name=f"objective {seconds(limit)}", at=limit)]


def _load(result: Result) -> str:
    plots, found = [], result.answer
    # A level's label says what its load is of ("8 users"), the only thing that does where nothing was searched.
    of_people = found.unit == "users" if found is not None else any("user" in one.label for one in result.levels)
    unit = "people at once" if of_people else "requests/s"
    if found is not None and found.probes:
        answer = []
        if found.value is not None:
            name = f"answer, {found.confidence:.0%} interval"
            answer = [Limit(name=name, at=found.value, upright=True, low=found.low, high=found.high)]
        groups = [("while searching", False, 1), ("repeated at the end", True, 2)]
        lines = [
            Line(name=name, colour=colour, joined=False,
                 points=[(p.load, p.missed_share) for p in found.probes if p.final is final])
            for name, final, colour in groups
        ]  # fmt: skip
        allowed = Limit(name=f"{result.allowed:.0%} may miss", at=result.allowed)
        plots.append(
            plot(lines, title="Share of requests that missed, over load", x=unit, y="missed", y_words=_percent,
                 limits=[allowed, *answer])
        )  # fmt: skip
    levels = sorted((one for one in result.levels if one.load is not None), key=lambda one: one.load or 0)
    if levels:
        for name in ("ttft", "tpot"):
            plots.append(_over_load(levels, name, unit, _limits(result, name)))
        by = sorted(levels, key=lambda one: one.in_flight)
        line = Line(
            name="output tokens/s", colour=3, dots=True, points=[(o.in_flight, o.tokens_per_second) for o in by]
        )
        plots.append(plot([line], title="Throughput over concurrency", x="requests under way", y="tokens/s"))
        pair = [
            Line(name="all", colour=6, dots=True, points=[(o.load or 0, o.requests_per_second) for o in levels]),
            Line(name="kept every objective", colour=3, dots=True, points=[(o.load or 0, o.goodput) for o in levels]),
        ]
        plots.append(plot(pair, title="Goodput over load", x=unit, y="requests/s"))
    return f'<h2>Over load</h2><div class="plots">{"".join(plots)}</div>' if plots else ""


def _percent(value: float) -> str:
    return f"{value:.0%}" if value == 0 or value >= 0.1 else f"{100 * value:.2g}%"


def _over_load(levels: Sequence[Level], name: str, unit: str, limits: Sequence[Limit]) -> str:
    def points(share: str) -> list[tuple[float, float]]:
        return [(one.load or 0, getattr(one.metrics[name], share)) for one in levels if name in one.metrics]

    known = [(one.load or 0, one.metrics[name]) for one in levels if name in one.metrics]
    band = [(load, m.p95_low, m.p95_high) for load, m in known if m.p95_low is not None and m.p95_high is not None]
    missing = "" if len(band) == len(known) else ", where the run tells one"
    lines = [
        Line(name="p50", points=points("p50"), colour=1, dots=True),
        Line(name=f"p95 with 95% interval{missing}", points=points("p95"), colour=2, dots=True, band=band),
        Line(name="p99", points=points("p99"), colour=4, dots=True),
    ]
    title = f"{words.NAMES[name].capitalize()}, over load"
    return plot(lines, title=title, x=unit, y="time", y_words=seconds, limits=limits, logarithmic=True)


def _time(result: Result) -> str:
    if not result.timeline:
        return ""
    moments = result.timeline

    def line(name: str, member: str, colour: int) -> Line:
        values = [(one.start, getattr(one, member)) for one in moments]
        return Line(name=name, colour=colour, points=[(at, value) for at, value in values if value is not None])

    first = [line("p50", "ttft_p50", 1), line("p95", "ttft_p95", 2), line("p99", "ttft_p99", 4)]
    since = "seconds since the beginning"
    plots = [
        plot(first, title="Time to first token, over time", x=since, y="time", y_words=seconds,
             limits=_limits(result, "ttft"), logarithmic=True),
        plot([line("p95", "tpot_p95", 2)], title="Time per output token, over time", x=since, y="time",
             y_words=seconds, limits=_limits(result, "tpot")),
        plot([line("output tokens/s", "tokens_per_second", 3)], title="Throughput, over time", x=since, y="tokens/s"),
        plot([line("under way", "in_flight", 1), _missed(moments)], title="Requests under way, and missed",
             x=since, y="requests"),
    ]  # fmt: skip
    if result.heat is not None:
        limit = next(iter(_limits(result, "ttft")), None)
        one = result.heat
        limit = limit if limit is not None and one.ttft[0] <= limit.at <= one.ttft[-1] else None
        plots.append(
            heat(one.time, one.ttft, one.counts, title="Time to first token of every request", x=since, y="time",
                 limit=limit)
        )  # fmt: skip
    return f'<h2>Over time</h2><div class="plots">{"".join(plots)}</div>'


def _missed(moments: Sequence[Moment]) -> Line:
    return Line(name="missed an objective", colour=2, points=[(one.start, float(one.missed)) for one in moments])


def _machine(result: Result) -> str:
    plots = [
        plot([Line(name=one.name, colour=1 + k % 6, points=one.points)], title=one.name,
             x="seconds since the beginning", y=one.unit)
        for k, one in enumerate(result.series)
    ]  # fmt: skip
    if not plots:
        plots = [
            figure("Machine", '<p class="none">not present: no Prometheus was asked, or it has no GPU figures</p>', [])
        ]
    return f'<h2>The machine</h2><div class="plots">{"".join(plots)}</div>'


def _gateway(result: Result) -> str:
    if result.tax is None:
        return ""
    kinds = ["", "", *[' class="n"'] * (len(gateway.HEADS) - 2)]
    head = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, gateway.HEADS, strict=True))
    rows = [
        "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in gateway.rows(result.tax)
    ]
    table = "".join(f"<tr>{row}</tr>" for row in (head, *rows))
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in gateway.notes(result.tax))
    return (
        f"<h2>The gateway</h2><p>{escape(gateway.sentence(result.tax))}</p>"
        f'<div class="scroll"><table>{table}</table></div>{notes}'
    )


def _figures(result: Result) -> str:
    rows = []
    twice = result.whole.label in {one.label for one in result.levels}
    levels = [*(() if twice else (result.whole,)), *result.levels]
    for level in levels:
        known = [(name, level.metrics[name]) for name in words.NAMES if name in level.metrics]
        rows += [_row("" if k else level.label, name, one) for k, (name, one) in enumerate(known)]
    heads = ("p50", "p90", "p95", "95% interval of p95", "p99", "most", "n", "worth")
    head = "<tr><th></th><th></th>" + "".join(f'<th class="n">{name}</th>' for name in heads) + "</tr>"
    note = (
        "Latency counts from the intended start, not from when the client got to send. Percentiles are of finished "
        "answers; failures count as misses of the objectives. “Worth”: how many independent requests these are worth."
    )
    notes = "".join(f'<p class="note">{escape(one)}</p>' for one in (*words.untold(levels), note))
    return f'<h2>Figures</h2><div class="scroll"><table>{head}{"".join(rows)}</table></div>{notes}'


def _row(label: str, name: str, one: Distribution) -> str:
    cells = [seconds(one.p50), seconds(one.p90), seconds(one.p95), words.interval(one), seconds(one.p99),
             seconds(one.most), f"{one.n:,}", number(one.worth)]  # fmt: skip
    inside = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    return f"<tr><td>{escape(label)}</td><td>{escape(words.NAMES[name])}</td>{inside}</tr>"


def _stream(result: Result) -> str:
    one = result.whole.stream
    if one is None:
        return ""
    parts = [
        ("inter-token latency, per piece", one.piece_gap), ("inter-token latency, per token", one.token_gap),
        ("in the client's own queue", one.queue), ("connecting", one.connect), ("TLS handshake", one.tls),
    ]  # fmt: skip
    head = "".join(f'<th class="n">{name}</th>' for name in ("p50", "p95", "p99", "most", "n"))
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f'<td class="n">{seconds(value)}</td>' for value in (part.p50, part.p95, part.p99, part.most))
        + f'<td class="n">{part.n:,}</td></tr>'
        for name, part in parts
        if part is not None
    )
    return (
        f'<h2>How the answers came</h2><div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'
        f'<p class="note">{escape(words.stream(one))}</p>'
    )


def _others(result: Result) -> str:
    columns = ("ttft", "itl", "tpot", "e2e", "throughput")
    rows = []
    for tool, values in sorted(result.compatible.items()):
        cells = [
            "" if (value := values.get(name)) is None else number(value) if name == "throughput" else seconds(value)
            for name in columns
        ]
        rows.append(f"<tr><td>{escape(tool)}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>")
    if not any(value is not None for values in result.compatible.values() for value in values.values()):
        return ""
    head = "<tr><th></th>" + "".join(f'<th class="n">{name}</th>' for name in (*columns[:-1], "tokens/s")) + "</tr>"
    return (
        "<h2>As other tools would have printed it</h2>"
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div><p class="note">Means, by their definitions, '
        "from the same stamps.</p>"
    )


def _where(result: Result) -> str:
    place = result.environment
    groups: list[tuple[str, Mapping[str, str | int]]] = [
        ("hardware", place.hardware), ("versions", place.versions), ("configuration", place.configuration),
        ("seeds", place.seeds),
    ]  # fmt: skip
    rows = [
        f"<tr><td>{escape(group)}</td><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for group, values in groups
        for name, value in sorted(values.items())
    ]
    return (
        f'<h2>Where and with what</h2><p class="note">Objectives: {escape(words.objectives(result))}.</p>'
        f'<div class="scroll"><table>{"".join(rows)}</table></div>'
    )
