"""The benchmark's pictures, drawn by hand as SVG: shares of the peak as bars, ratios to the best peer as bars, and the
roofline. Light and dark follow the reader's setting.

One figure alone as a command: python3 tools/bench_pictures.py out/bench/bench.json out/bench
"""
import html
import json
import math
import sys
from pathlib import Path

STYLE = """
:root { --back: #ffffff; --text: #1f2933; --soft: #616e7c; --grid: #e4e7eb; --ours: #1d6fdc;
  --peer: #c0772b; }
@media (prefers-color-scheme: dark) {
  :root { --back: #0d1117; --text: #e6edf3; --soft: #9aa5b1; --grid: #2b333d; --ours: #5aa2ff;
    --peer: #e0a458; }
}
rect.back { fill: var(--back); } text { fill: var(--text); font: 13px system-ui, sans-serif; }
text.soft { fill: var(--soft); font-size: 12px; } text.title { font-size: 16px; font-weight: 600; }
text.end { text-anchor: end; } text.middle { text-anchor: middle; }
.grid { stroke: var(--grid); stroke-width: 1; } .roof { stroke: var(--soft); stroke-width: 1.5; fill: none; }
.ours { fill: var(--ours); } .peer { fill: var(--peer); }
.ring { fill: var(--back); stroke: var(--peer); stroke-width: 1.5; }
.one { stroke: var(--soft); stroke-dasharray: 4 3; }
"""
SIZES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


class Svg:
    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts = [f'<rect class="back" width="{width}" height="{height}"/>']
        self.text(20, 28, title, "title")

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{html.escape(words)}</text>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        width = max(width, 1)
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}"'
        self.parts.append(f'<rect {place} rx="2" class="{kind}"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')

    def dot(self, x: float, y: float, square: bool, kind: str) -> None:
        if square:
            self.parts.append(f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" class="{kind}"/>')
        else:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="{kind}"/>')

    def save(self, path: Path) -> Path:
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" role="img"><title>{html.escape(self.title)}</title>'
            f"<style>{STYLE}</style>\n" + "\n".join(self.parts) + "\n</svg>\n", encoding="utf-8")
        return path


def words_of(row: dict) -> str:
    mask = " causal" if row["causal"] and row["variant"] not in ("window", "gpt") else ""
    variant = "" if row["variant"] in ("plain", "growth") else " " + row["variant"].replace("_", " ")
    dtype = "" if row["dtype"] == "float32" else " " + row["dtype"]
    return f"{row['shape']} {row['pass']}{mask}{variant}{dtype}"


def machine_of(result: dict) -> str:
    machine = result["machine"]
    return f"{machine['cpu']}, {machine['target']}, one thread, medians of {result['rounds']}"


def legend(svg: Svg, y: float, entries: list) -> None:
    x = 20.0
    for kind, words in entries:
        svg.bar(x, y - 10, 12, 12, kind)
        svg.text(x + 18, y, words, "soft")
        x += 30 + 6.6 * len(words)


def shares(result: dict, rows: list, path: Path) -> Path:
    """How close to the multiply-add peak: plain float32 rows, and the best peer below each."""
    peers = any(r["ratio"] for r in rows)
    step, left, right = (26 if peers else 20), 190, 90
    svg = Svg(760, 110 + step * len(rows), "Attention, float32: share of the multiply-add peak")
    svg.text(20, 48, machine_of(result), "soft")
    legend(svg, 70, [("ours", "attune")] + ([("peer", "best peer")] if peers else []))
    wide, bottom = svg.width - left - right, 90 + step * len(rows)
    for tenth in range(0, 11, 2):
        x = left + wide * tenth / 10
        svg.line(x, 84, x, bottom, "grid")
        svg.text(x, bottom + 15, f"{10 * tenth} %", "soft middle")
    for i, row in enumerate(rows):
        y = 90 + step * i
        svg.text(left - 10, y + 12, words_of(row), "end")
        svg.bar(left, y + 2, wide * row["share"], 12, "ours")
        svg.text(left + wide * row["share"] + 6, y + 12, f"{100 * row['share']:.0f} %", "soft")
        if row["ratio"]:
            svg.bar(left, y + 15, wide * row["share"] / row["ratio"], 6, "peer")
    return svg.save(path)


def ratios(result: dict, rows: list, path: Path) -> Path:
    """How many times the best peer's speed, on an axis that doubles."""
    rows = [r for r in rows if r["ratio"] and r["shape"] != "4k"]  # those are there for their memory
    step, left, right = 19, 240, 210
    svg = Svg(860, 90 + step * len(rows), "Speed over the best peer, sampled in turn")
    svg.text(20, 48, machine_of(result) + "; " + ", ".join(f"{k} {v}" for k, v in result["peers"].items()), "soft")
    low = math.floor(math.log2(min([1.0] + [r["ratio"] for r in rows])))
    high = max(1, math.ceil(math.log2(max([1.0] + [r["ratio"] for r in rows]))))
    wide, bottom = svg.width - left - right, 66 + step * len(rows)
    place = lambda ratio: left + wide * (math.log2(ratio) - low) / (high - low)
    for power in range(low, high + 1):
        svg.line(place(2.0**power), 62, place(2.0**power), bottom, "one" if power == 0 else "grid")
        svg.text(place(2.0**power), bottom + 15, f"{2.0**power:g}x", "soft middle")
    for i, row in enumerate(rows):
        y, start, end = 66 + step * i, place(1), place(row["ratio"])
        svg.text(left - 10, y + 12, words_of(row), "end")
        svg.bar(min(start, end), y + 2, abs(end - start), 12, "ours" if row["ratio"] >= 1 else "peer")
        svg.text(max(start, end) + 6, y + 12, f"{row['ratio']:.2f}x  {row['best_peer']}", "soft")
    return svg.save(path)


def intensity(row: dict) -> float:
    """Operations a byte, if every array went over the bus once."""
    batch, heads, kv_heads, queries, keys, width = row["extents"]
    q, kv, size = batch * heads * queries * width, batch * kv_heads * keys * width, SIZES[row["dtype"]]
    backward = row["pass"] == "backward"  # reads q k v out dout, writes dq dk dv
    return row["flops"] / (size * (4 * q + 4 * kv if backward else 2 * q + 2 * kv))


def roofline(result: dict, rows: list, path: Path) -> Path:
    """Full attention alone: causal rows would lie on top of those of half the tokens."""
    ceilings = result["runs"][0]["ceilings"]
    rows = [r for r in rows if r["pass"] in ("forward", "backward", "decode") and r["variant"] == "plain"
            and r["dtype"] in ("float32", "bfloat16") and r["flops"] and not r["causal"]]
    svg = Svg(760, 480, "Roofline: what memory and arithmetic allow, and what is reached")
    svg.text(20, 48, machine_of(result), "soft")
    left, right, top, bottom = 70, 735, 90, 430
    roofs = [(ceilings["fma_float32"], "float32 multiply-add"), (ceilings["fma_bfloat16"], "bfloat16 multiply-add")]
    roofs = [(peak, words) for peak, words in roofs if peak > 0]
    x_low, x_high, y_high = 0.5, 8192.0, 2 * max([peak for peak, _ in roofs] + [r["gflops"] for r in rows])
    y_low = y_high / 512
    at_x = lambda v: left + (right - left) * math.log(v / x_low) / math.log(x_high / x_low)
    at_y = lambda v: bottom - (bottom - top) * math.log(v / y_low) / math.log(y_high / y_low)
    for power in range(-1, 14, 2):
        svg.line(at_x(2.0**power), top, at_x(2.0**power), bottom, "grid")
        svg.text(at_x(2.0**power), bottom + 16, f"{2.0**power:g}", "soft middle")
    for power in range(math.ceil(math.log2(y_low)), math.floor(math.log2(y_high)) + 1):
        svg.line(left, at_y(2.0**power), right, at_y(2.0**power), "grid")
        svg.text(left - 8, at_y(2.0**power) + 4, f"{2.0**power:g}", "soft end")
    svg.text((left + right) / 2, bottom + 36, "operations a byte of the arguments", "soft middle")
    svg.text(left - 50, top - 12, "GFLOP/s", "soft")
    for peak, words in roofs:
        svg.line(at_x(peak / ceilings["memory_read"]), at_y(peak), right, at_y(peak), "roof")
        svg.text(right, at_y(peak) - 6, f"{words}, {peak:.0f}", "soft end")
    top_peak = max([peak for peak, _ in roofs] + [y_high / 2 if not roofs else 0])
    read = ceilings["memory_read"]
    start = max(x_low, y_low / read)
    svg.line(at_x(start), at_y(start * read), at_x(top_peak / read), at_y(top_peak), "roof")
    slope = math.degrees(math.atan2(at_y(2) - at_y(1), at_x(2) - at_x(1)))
    x, y = at_x(start) + 8, at_y(start * read) - 14
    svg.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="soft" transform="rotate({slope:.1f} {x:.1f} {y:.1f})">'
                     f"reading memory, {read:.0f} GB/s</text>")
    for row in rows:
        if row["ratio"] and row["gflops"] / row["ratio"] > y_low:
            svg.dot(at_x(intensity(row)), at_y(row["gflops"] / row["ratio"]), row["pass"] == "backward", "ring")
    lowest = {}
    for row in rows:
        x, y = at_x(intensity(row)), at_y(row["gflops"])
        svg.dot(x, y, row["pass"] == "backward", "ours")
        if row["pass"] != "backward":
            below = row["gflops"] / (row["ratio"] or 1)
            lowest[(row["shape"], row["dtype"])] = (x, max(y, at_y(max(below, y_low))))
    for (shape, dtype), (x, y) in lowest.items():
        svg.text(x, y + 22, shape + ("" if dtype == "float32" else " bf16"), "soft middle")
    for x, square, kind, words in ((300, False, "ours", "forward"), (375, True, "ours", "backward"),
                                   (460, False, "ring", "best peer")):
        svg.dot(x, 70, square, kind)
        svg.text(x + 10, 74, words, "soft")
    return svg.save(path)


def draw(result: dict, folder: Path) -> list:
    """Writes the pictures that the rows allow; of the run with the fewest threads."""
    folder.mkdir(parents=True, exist_ok=True)
    fewest = min(r["threads"] for r in result["rows"])
    rows = [r for r in result["rows"] if r["threads"] == fewest]
    drawn = []
    plain = [r for r in rows if r["variant"] == "plain" and r["dtype"] == "float32" and r["share"]
             and not r["memory_bound"] and r["pass"] in ("forward", "backward")]
    if plain:
        drawn.append(shares(result, plain, folder / "shares.svg"))
    if any(r["ratio"] for r in rows):
        drawn.append(ratios(result, rows, folder / "ratios.svg"))
    attention = [r for r in rows if len(r["extents"]) == 6 and r["pass"] != "step"]
    if attention:
        drawn.append(roofline(result, attention, folder / "roofline.svg"))
    return drawn


if __name__ == "__main__":
    for picture in draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])):
        print(picture)
