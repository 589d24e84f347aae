#!/usr/bin/env python3
"""Byte-level BPE: trains the vocabulary, encodes the corpus into rows.

  bpe.py train --text FILE... -o tokenizer.json     merges of bytes inside pieces of the pre-tokenizer (section 6.3); digits never merge
  bpe.py rows --tokenizer tokenizer.json --size short|long --rows N --seed S -o FILE

A row is T + 1 little-endian uint16: token id | flag << 13, flag 0 padding, 1 prompt, 2 target. Rows hold whole documents.
"""
import argparse
import collections
import json
import random
import sys

import regex

from protocol import ADDED, SPECIAL

PIECES = [
    regex.compile(r"\p{N}{1,3}"),
    regex.compile(r"[一-龥぀-ゟ゠-ヿ]+"),
    regex.compile(r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""),
]


def byte_order():
    """Bytes in the order of ids 3..258, and the printable form of each (section 6.1)."""
    printable = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    others = [b for b in range(256) if b not in printable]
    form = {b: chr(b) for b in printable}
    form.update({b: chr(256 + i) for i, b in enumerate(others)})
    return printable + others, form


BYTES, FORM = byte_order()
BYTE_ID = {b: 3 + i for i, b in enumerate(BYTES)}


def split(pattern, spans):
    for s in spans:
        at = 0
        for m in pattern.finditer(s):
            if m.start() > at:
                yield s[at:m.start()]
            if m.end() > m.start():
                yield m.group()
            at = m.end()
        if at < len(s):
            yield s[at:]


def pieces(text):
    spans = [text]
    for p in PIECES:
        spans = list(split(p, spans))
    return spans


ADDED_RE = regex.compile("|".join(regex.escape(t) for t in sorted(SPECIAL + ADDED, key=len, reverse=True)))


def train(texts, n_merges):
    counts = collections.Counter()
    for text in texts:
        for span in ADDED_RE.split(text):
            counts.update(p for p in pieces(span) if not p[0].isdigit())
    words = [([BYTE_ID[b] for b in p.encode()], n) for p, n in counts.items() if n > 1]
    pair_count, where = collections.Counter(), collections.defaultdict(set)
    for i, (w, n) in enumerate(words):
        for a, b in zip(w, w[1:]):
            pair_count[a, b] += n
            where[a, b].add(i)
    merges = []
    while len(merges) < n_merges and pair_count:
        best = max(pair_count, key=lambda p: (pair_count[p], -p[0], -p[1]))
        if pair_count[best] < 3:
            break
        new = 259 + len(merges)
        merges.append(best)
        for i in where.pop(best):
            w, n = words[i]
            for a, b in zip(w, w[1:]):
                pair_count[a, b] -= n
                where[a, b].discard(i)
            out, k = [], 0
            while k < len(w):
                if k + 1 < len(w) and (w[k], w[k + 1]) == best:
                    out.append(new)
                    k += 2
                else:
                    out.append(w[k])
                    k += 1
            words[i] = (out, n)
            for a, b in zip(out, out[1:]):
                pair_count[a, b] += n
                where[a, b].add(i)
        pair_count = +pair_count
    return merges


class Tokenizer:
    def __init__(self, path):
        data = json.load(open(path))
        self.merges = [tuple(m) for m in data["merges"]]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.bytes = {3 + i: bytes([b]) for i, b in enumerate(BYTES)}
        for i, (a, b) in enumerate(self.merges):
            self.bytes[259 + i] = self.bytes[a] + self.bytes[b]
        self.special = {t: i for i, t in enumerate(SPECIAL)}
        self.special.update({t: 259 + len(self.merges) + i for i, t in enumerate(ADDED)})
        self.size = 259 + len(self.merges) + len(ADDED)
        self.cache = {}

    def piece(self, p):
        ids = self.cache.get(p)
        if ids is None:
            ids = [BYTE_ID[b] for b in p.encode()]
            while len(ids) > 1:
                rank, at = min((self.rank.get(pair, 1 << 30), i) for i, pair in enumerate(zip(ids, ids[1:])))
                if rank == 1 << 30:
                    break
                ids[at:at + 2] = [259 + rank]
            self.cache[p] = ids
        return ids

    def encode(self, text):
        ids, at = [], 0
        for m in ADDED_RE.finditer(text):
            for p in pieces(text[at:m.start()]):
                ids += self.piece(p)
            ids.append(self.special[m.group()])
            at = m.end()
        for p in pieces(text[at:]):
            ids += self.piece(p)
        return ids

    def tokens(self):
        """(text, type) of every id, as model files hold them."""
        out = [(t, 3) for t in SPECIAL]
        out += [("".join(FORM[b] for b in self.bytes[i]), 1) for i in range(3, 259 + len(self.merges))]
        return out + [(t, 4) for t in ADDED]

    def merge_lines(self):
        form = {i: "".join(FORM[c] for c in b) for i, b in self.bytes.items()}
        return [f"{form[a]} {form[b]}" for a, b in self.merges]


def encode_document(tok, doc):
    from protocol import render
    out = []
    for text, target in render(*doc):
        flag = (2 if target else 1) << 13
        out += [t | flag for t in tok.encode(text)]
    return out


def rows(tok, size, seed):
    """Endless rows of T + 1; a document that does not fit starts the next row, one that fits nowhere is cut."""
    from corpus import document
    rng = random.Random(seed)
    length = (4096 if size == "long" else 512) + 1
    row = []
    while True:
        doc = encode_document(tok, document(rng, size))
        if len(row) + len(doc) > length and len(row) > length * 0.6:
            yield row + [2] * (length - len(row))
            row = []
        row += doc[:length - len(row)]
        if len(row) == length:
            yield row
            row = []


def probes(tok, seed):
    """Endless rows of 513 that ask for one fact some 350 tokens back; only the answer to that is a target."""
    from corpus import recall
    rng = random.Random(seed)
    while True:
        row = encode_document(tok, (recall(rng, rng.choice([150, 180]))[0], None, rng.random() < 0.5))
        end = len(row)
        while row[end - 1] >> 13 == 2:
            end -= 1
        if len(row) <= 513:
            yield [t & 8191 | 1 << 13 for t in row[:end]] + row[end:] + [2] * (513 - len(row))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["train", "rows"])
    p.add_argument("--text", nargs="*", default=[])
    p.add_argument("--merges", type=int, default=4096 - 259 - len(ADDED))
    p.add_argument("--tokenizer", default="tools/train/tokenizer.json")
    p.add_argument("--size", default="short")
    p.add_argument("--rows", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("-o", required=True)
    o = p.parse_args()
    if o.what == "train":
        merges = train([open(f, errors="replace").read() for f in o.text], o.merges)
        json.dump({"merges": merges}, open(o.o, "w"), separators=(",", ":"))
        print(len(merges), "merges", file=sys.stderr)
        return
    import array
    tok = Tokenizer(o.tokenizer)
    gen = probes(tok, o.seed) if o.size == "probe" else rows(tok, o.size, o.seed)
    with open(o.o, "wb") as f:
        for _ in range(o.rows):
            array.array("H", next(gen)).tofile(f)


if __name__ == "__main__":
    main()
