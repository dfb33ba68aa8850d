#!/usr/bin/env python3
"""Writes tests/golden/metrics.json: BLEU (tokens 13a and zh) and chrF of small sets of sentences, from sacreBLEU.

The sentences are made here: some by hand, to touch each rule of the tokenizers and of the smoothing, some by chance, from
words, numbers and punctuation that stick together in ways nobody would write. Needs sacrebleu.
"""
import json
import random
from pathlib import Path

import sacrebleu

SETS = {
    "equal": (["The cell is too wet.", "Wait until noon."], ["The cell is too wet.", "Wait until noon."]),
    "close": (["Open the garden plan and draw a bed.", "Water the bed twice every day.", "Then look once again."],
              ["Open the garden plan, then draw the first bed.", "Water the bed twice a day.", "Then look again."]),
    "nothing in common": (["alpha beta gamma delta"], ["one two three four"]),
    "one word in common, orders smoothed": (["alpha beta gamma two epsilon"], ["one two three four five six"]),
    "too short for four words": (["a b c"], ["a b c"]),
    "no hypothesis": (["", ""], ["There is a reference.", "There is another."]),
    "one empty hypothesis": (["", "There is one more reference here."], ["There is one.", "There is another reference here."]),
    "no reference": (["Something was said here."], [""]),
    "longer than the reference": (["the lamp the lamp the lamp is on and on"], ["the lamp is on"]),
    "case and accents": (["GRÜSSE aus dem garten", "Öffnen sie das Menü"], ["Grüße aus dem Garten", "Öffnen Sie das Menü"]),
    "points and commas": (["It costs 1,234.50, or 3.5% of .5.", "Version 7.4,7.4.2.and so on...", "z.B. am 3.4.2020, usw."],
                          ["It costs 1,234.50 or 3.5 % of .5 .", "Version 7.4, 7.4.2. and so on ...", "z. B. am 3.4.2020 usw."]),
    "dashes and quotes": (["2-3 beds, well-kept - 5-a-day – \"so\" it's said.", "'quoted' (in) [all] {ways}~`^_\\|"],
                          ["2 - 3 beds, well-kept - 5-a-day – „so“ it 's said.", "'quoted' ( in ) [ all ] {ways} ~ ` ^ _ \\ |"]),
    "entities": (["&quot;A &amp; B&quot; &lt;tag&gt; &amp;lt; x<skipped>y"], ["\"A & B\" <tag> < xy"]),
    "white space": (["  two\u00a0words\tand\u2003more  ", "a\u200bb c"], ["two words and more", "ab c"]),
    "chinese": (["用花园打开平面图。选择一个工具，并画出3块花坛。", "按 Ctrl+S 保存文件（见下）。", "“灯”灭了吗？–Yes"],
                ["用花园打开这张平面图。选择工具并画出第3块花坛。", "请按 Ctrl+S 键保存该文件（见下图）。", "“台灯”灭了吗？– Yes"]),
    "astral": (["a 😀 b 𠀀𠀁 c d e"], ["a 😀 c 𠀀𠀂 c d e"]),
}


def by_chance(count, seed):
    """Hypotheses and references that share most of what they are made of."""
    chance = random.Random(seed)
    parts = ["bed", "Rose", "water", "lamp", "Öl", "straße", "it's", "3", "4.5", "1,000", "-", "–", ",", ".", "...", "?", "!", ":", ";",
             "(", ")", "\"", "'", "/", "%", "&", "&amp;", "„", "“", "»", "花", "坛", "。", "，", "é", "e\u0301"]

    def line():
        text = ""
        for _ in range(chance.randint(1, 25)):
            text += chance.choice(parts) + (" " if chance.random() < 0.6 else "")
        return text

    references = [line() for _ in range(count)]
    hypotheses = []
    for reference in references:
        words = reference.split(" ")
        for _ in range(chance.randint(0, 3)):
            words[chance.randrange(len(words))] = chance.choice(parts)
        hypotheses.append(" ".join(words))
    return hypotheses, references


def main():
    SETS["by chance, 60 lines"] = by_chance(60, 1)
    SETS["by chance, 4 lines"] = by_chance(4, 2)
    rows = []
    for name, (hypotheses, references) in SETS.items():
        row = {"name": name, "hypotheses": hypotheses, "references": references}
        for tokens in ("13a", "zh"):
            bleu = sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokens, force=True)
            row["bleu_" + tokens] = {"score": bleu.score, "precisions": bleu.precisions, "brevity_penalty": bleu.bp,
                                     "hypothesis_length": bleu.sys_len, "reference_length": bleu.ref_len}
        row["chrf"] = sacrebleu.corpus_chrf(hypotheses, [references]).score
        rows.append(row)
    path = Path(__file__).resolve().parents[1] / "tests" / "golden" / "metrics.json"
    content = {"made_by": "tools/make_metric_golden.py", "sacrebleu": sacrebleu.__version__, "sets": rows}
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(rows)} sets")


if __name__ == "__main__":
    main()
