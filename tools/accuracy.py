#!/usr/bin/env python3
"""Compares the cpu backend with the reference on the built-in model: accuracy.py [--sluice build/sluice] [-m MODEL] [--tokens N] [--prompts N].

Two figures, and exit status 1 if one is missed: the negative log-likelihood of text that training did not see (0.5 % apart at most), and the
share of prompts whose greedy answers are the same, byte for byte (95 % at least). Both backends get the same tokens; what the model knows does not
matter. Text and prompts come from tools/train/corpus.py with a seed that training does not use.
"""
import argparse
import array
import json
import math
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 900001
MOST_NLL = 0.005
LEAST_SAME = 0.95
BOS = "<｜begin▁of▁sentence｜>"


def corpus(what, n):
    command = [sys.executable, os.path.join(HERE, "train", "corpus.py"), what, "--seed", str(SEED), "-n", str(n)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


class Program:
    def __init__(self, options):
        self.options = options

    def run(self, words, **more):
        command = [self.options.sluice, "debug", *words, "-q"] + (["-m", self.options.model] if self.options.model else [])
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **more).stdout

    def ids(self, texts):
        out = self.run(["tokenize"], input="".join(json.dumps({"text": t}) + "\n" for t in texts))
        return [json.loads(line)["ids"] for line in out.splitlines()]

    def logits(self, ids, backend, folder):
        path = os.path.join(folder, "logits")
        with open(os.path.join(folder, "ids"), "wb") as f:
            array.array("i", ids).tofile(f)
        self.run(["logits", "--backend", backend, "--ids", f.name, "--out", path])
        values = array.array("f")
        with open(path, "rb") as f:
            values.frombytes(f.read())
        return values

    def answers(self, rows, backend):
        asked = [{"messages": r["messages"], "tools": r.get("tools", []), "thinking": r["thinking"], "max_tokens": 160, "temperature": 0} for r in rows]
        out = self.run(["generate", "--backend", backend, "--parallel", "16"], input="".join(json.dumps(a) + "\n" for a in asked))
        keys = ("content", "reasoning_content", "tool_calls", "finish")
        return [{k: a.get(k) for k in keys} for a in map(json.loads, out.splitlines())]


def surprise(values, ids):
    """Sum over the tokens after the first."""
    n_vocab, total = len(values) // len(ids), 0.0
    for i, token in enumerate(ids[1:]):
        row = values[i * n_vocab:(i + 1) * n_vocab]
        most = max(row)
        total += most + math.log(sum(math.exp(v - most) for v in row)) - row[token]
    return total


def compare_likelihood(program, wanted):
    texts = [BOS + t for t in corpus("text", 400).split(BOS) if t]
    total, n, done = {"ref": 0.0, "cpu": 0.0}, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for ids in program.ids(texts):
            for backend in total:
                total[backend] += surprise(program.logits(ids, backend, folder), ids)
            n, done = n + len(ids) - 1, done + 1
            if n >= wanted:
                break
    ref, cpu = total["ref"] / n, total["cpu"] / n
    off = abs(cpu - ref) / ref
    print(f"likelihood  {n} tokens of {done} documents: ref {ref:.6f}, cpu {cpu:.6f} nats a token, {100 * off:.4f} % apart (at most {100 * MOST_NLL} %)")
    return n >= wanted and off <= MOST_NLL


def compare_greedy(program, wanted):
    """Prompts of every skill in turn."""
    skills = {}
    for line in corpus("eval", 120).splitlines():
        row = json.loads(line)
        skills.setdefault((row["skill"], row["thinking"]), []).append(row)
    rows = [r[i] for i in range(120) for r in skills.values() if i < len(r)][:wanted]
    answers = [program.answers(rows, backend) for backend in ("ref", "cpu")]
    assert len(rows) == wanted == len(answers[0]) == len(answers[1]), f"{len(rows)} prompts, {len(answers[0])} and {len(answers[1])} answers"
    same = sum(a == b for a, b in zip(*answers))
    print(f"greedy      {same} of {wanted} answers are the same (at least {math.ceil(LEAST_SAME * wanted)})")
    for row, a, b in zip(rows, *answers):
        if a != b:
            print(f"            {row['skill']}: {row['messages'][-1]['content'][:80]!r}")
    return same >= LEAST_SAME * wanted


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sluice", default="build/sluice")
    p.add_argument("-m", "--model")
    p.add_argument("--tokens", type=int, default=10000)
    p.add_argument("--prompts", type=int, default=300)
    program = Program(p.parse_args())
    good = compare_likelihood(program, program.options.tokens)
    good = compare_greedy(program, program.options.prompts) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
