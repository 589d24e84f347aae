#!/usr/bin/env python3
"""Measures the built-in model on prompts held out from training: eval.py [--sluice build/sluice] [-m MODEL] [-n PER_SKILL] [--show].

Prints a table: skill, prompts, right, and, without thinking and with, the shares. Tool calls are followed by a second turn with the results.
"""
import argparse
import json
import random
import re
import subprocess
from collections import defaultdict

from corpus import evaluation


def generate(options, rows):
    """One answer a row, in order."""
    command = [options.sluice, "debug", "generate", "-q", "--parallel", "32"]
    if options.model:
        command += ["-m", options.model]
    if options.kv:
        command += ["--kv", options.kv]
    asked = "".join(json.dumps({"messages": r["messages"], "tools": r.get("tools", []), "thinking": r["thinking"], "max_tokens": 600, "temperature": 0},
                               ensure_ascii=False) + "\n" for r in rows)
    out = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=False).stdout
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == len(rows), f"{len(answers)} answers to {len(rows)} prompts"
    return answers


def story_is_coherent(text, subject):
    """At least five sentences, the subject in it, and a hero who is named again after the first sentence."""
    sentences = re.findall(r"[^.!?]+[.!?]", text)
    names = set(re.findall(r"\b[A-Z][a-z]+\b", sentences[0])) if sentences else set()
    later = " ".join(sentences[1:])
    return len(sentences) >= 5 and subject.lower() in text.lower() and any(n in later for n in names)


def right(check, answer):
    content = answer.get("content") or ""
    if "number" in check:
        found = re.findall(r"-?\d+", content)
        return bool(found) and int(found[-1]) == check["number"]
    if "text" in check:
        return check["text"].lower() in content.lower() if check["text"].islower() else check["text"] in content
    if "contains" in check:
        return check["contains"] in content
    if "any" in check:
        return any(a in content for a in check["any"])
    if "story" in check:
        return story_is_coherent(content, check["story"])
    raise ValueError(f"no such check: {check}")


def calls_of(answer):
    return [[c["function"]["name"], json.loads(c["function"]["arguments"])] for c in answer.get("tool_calls") or []]


def second_turn(row, answer):
    messages = row["messages"] + [{"role": "assistant", "content": answer["content"], "reasoning_content": answer["reasoning_content"],
                                   "tool_calls": [{"id": f"call_{i}", **c} for i, c in enumerate(answer["tool_calls"])]}]
    for i, text in enumerate(row["check"]["then"]["results"]):
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": text})
    return {**row, "messages": messages}


class Table:
    def __init__(self, show):
        self.show, self.count = show, defaultdict(lambda: [[0, 0], [0, 0]])

    def add(self, skill, row, ok, answer):
        cell = self.count[skill][row["thinking"]]
        cell[0] += 1
        cell[1] += ok
        if self.show and not ok:
            print(f"WRONG {skill} {row['messages'][-1]['content'][-200:]!r} wants {row['check']} got {answer}"[:700])

    def print(self):
        print("| skill | prompts | right | not thinking | thinking |\n|---|---|---|---|---|")
        for skill, cells in self.count.items():
            n, k = sum(c[0] for c in cells), sum(c[1] for c in cells)
            shares = [f"{100 * c[1] / c[0]:.1f} %" if c[0] else "-" for c in cells]
            print(f"| {skill} | {n} | {100 * k / n:.1f} % | {shares[0]} | {shares[1]} |")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--sluice", default="build/sluice")
    p.add_argument("-m", "--model")
    p.add_argument("--kv")
    p.add_argument("-n", type=int, default=200)
    p.add_argument("--seed", type=int, default=77)
    p.add_argument("--show", action="store_true")
    options = p.parse_args()
    rows = list(evaluation(random.Random(options.seed), options.n))
    table, tool_rows = Table(options.show), []
    for row, answer in zip(rows, generate(options, rows)):
        if row["skill"] != "tools":
            table.add(row["skill"], row, right(row["check"], answer), answer)
            continue
        called = calls_of(answer)
        wanted = [[n, a] for n, a in row["check"]["calls"]]
        parsed = len(called) > 0 and "DSML" not in answer["content"]
        table.add("tool call parses", row, parsed, answer)
        table.add("right tool and arguments", row, called == wanted, answer)
        if called == wanted:
            tool_rows.append(second_turn(row, answer))
    for row, answer in zip(tool_rows, generate(options, tool_rows)):
        wanted = re.findall(r"[A-Za-z0-9]+", row["check"]["then"]["text"])
        used = [w for w in wanted if w in answer["content"]]
        table.add("answer uses the result", row, len(used) >= 0.8 * len(wanted), answer)
    table.print()


if __name__ == "__main__":
    main()
