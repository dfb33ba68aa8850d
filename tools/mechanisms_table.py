#!/usr/bin/env python3
"""The table of mechanisms in docs/mechanisms.md and docs/mechanisms.zh.md, from `attune info --mechanisms --json`.

Fills what stands between the lines <!-- table KIND --> and <!-- end --> of each page. With --check it changes nothing and
ends with 1, naming the page and the kind, if a table is not what the program says.

    python3 tools/mechanisms_table.py build/release/attune [--check]
"""
import json
import re
import subprocess
import sys
from pathlib import Path

PAGES = {
    "docs/mechanisms.md": ("name", "options (at first)", "learned", "cost beyond the two products", "source", "needs data"),
    "docs/mechanisms.zh.md": ("名称", "选项（初始值）", "可学习", "两次乘积之外的代价", "来源", "需要数据"),
}
KINDS = ("position", "score", "bias", "mask", "normalizer")
PART = re.compile(r"(<!-- table (\w+) -->\n)(.*?)(<!-- end -->)", re.S)


def linked(source: str) -> str:
    """arXiv numbers as links."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[\1](https://arxiv.org/abs/\1)", source)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def table(mechanisms: list, heads: tuple) -> str:
    lines = ["| " + " | ".join(heads[:5]) + " |", "|---" * 5 + "|"]
    for m in mechanisms:
        options = ", ".join(f"{name} = {value or '[]'}" for name, value in m["options"].items())
        name = f"`{m['name']}`" + ("" if m["by_name"] else f" ({heads[5]})")
        cells = [name, options, ", ".join(m["parameters"]), m["cost"], linked(m["source"])]
        lines.append("| " + " | ".join(cell(c) for c in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    check = "--check" in sys.argv[1:]
    if len(arguments) != 1:
        raise SystemExit("mechanisms_table: the path of the program attune, got " + " ".join(arguments or ["nothing"]))
    told = subprocess.run([arguments[0], "info", "--mechanisms", "--json"], check=True, capture_output=True, text=True)
    kinds = json.loads(told.stdout)
    root = Path(__file__).resolve().parent.parent
    wrong = []
    for name, heads in PAGES.items():
        page = root / name
        text = page.read_text(encoding="utf-8")
        found = [kind for _, kind, _, _ in PART.findall(text)]
        if found != list(KINDS):
            wrong.append(f"{name}:1: tables of {', '.join(KINDS)}, found {', '.join(found) or 'none'}")
            continue

        def current(match: re.Match) -> str:
            new = table(kinds[match[2]], heads)
            if new != match[3]:
                line = text[:match.start()].count("\n") + 1
                wrong.append(f"{name}:{line}: the {match[2]} table as the program tells it, found another")
            return match[1] + new + match[4]

        filled = PART.sub(current, text)
        if not check and filled != text:
            beside = page.with_name(page.name + ".part")
            beside.write_text(filled, encoding="utf-8")
            beside.rename(page)
    if check and wrong:
        print("\n".join(wrong))
        print(f"mechanisms_table: python3 tools/mechanisms_table.py {arguments[0]} fills them in")
        return 1
    if not check and any("tables of" in w for w in wrong):
        print("\n".join(wrong))
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
        sys.exit(f"mechanisms_table: {error}")
