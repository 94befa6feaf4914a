"""Writes the tables of Unicode's canonical normal form (src/normal_form_tables.rs): python3 tables/normal_form.py > src/normal_form_tables.rs

From the Unicode character database of this Python. A character never gets another normal form in a later version of Unicode.
Syllables of Hangul are computed and are not in the tables.
"""

import unicodedata

WIDTH = 128


def decompositions():
    """Yields every character that decomposes, with the one or two characters of the first step."""
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code))
        if parts and not parts.startswith("<"):
            yield code, [int(part, 16) for part in parts.split()]


def mark_classes():
    """Returns runs of characters with one combining class: first, number, class."""
    runs = []
    for code in range(0x110000):
        found = unicodedata.combining(chr(code))
        if found and runs and (runs[-1][0] + runs[-1][1], runs[-1][2]) == (code, found):
            runs[-1][1] += 1
        elif found:
            runs.append([code, 1, found])
    return runs


def table(name, kind, rows, comment):
    """Prints a table with as many rows on a line as fit."""
    print(f"\n/// {comment}\n#[rustfmt::skip]\npub(crate) static {name}: &[{kind}] = &[")
    line = "   "
    for row in rows:
        cell = " (" + ", ".join(f"{number:#x}" for number in row) + "),"
        if len(line + cell) > WIDTH:
            print(line)
            line = "   "
        line += cell
    print(f"{line}\n];")


def main():
    pairs, excluded, single = [], [], []
    for code, parts in decompositions():
        if len(parts) == 1:
            single.append((code, *parts))
        elif unicodedata.normalize("NFC", "".join(map(chr, parts))) == chr(code):
            pairs.append((code, *parts))
        else:
            excluded.append((code, *parts))
    print(f"//! Tables of the canonical normal form, of Unicode {unicodedata.unidata_version}; made by tables/normal_form.py.")
    table("PAIRS", "(u32, u32, u32)", pairs, "Characters that are composed of two others, by code.")
    table("EXCLUDED", "(u32, u32, u32)", excluded, "Characters that stand for two others, which stay apart in the normal form; by code.")
    table("SINGLE", "(u32, u32)", single, "Characters that stand for one other; by code.")
    table("CLASSES", "(u32, u8, u8)", mark_classes(), "Runs of marks: the first, their number, and their combining class.")


main()
